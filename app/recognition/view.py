"""The tensors of a file with the prefix of its denoiser taken off, so that one table fits all layouts."""

import re
from bisect import bisect_left
from dataclasses import dataclass
from functools import cached_property

from app.recognition.header import Header

SINGLE_FILE = "model.diffusion_model."
PREFIXES = (SINGLE_FILE, "diffusion_model.", "unet.", "transformer.", "net.")
EMA = "model_ema.diffusion_model"


@dataclass(frozen=True)
class View:
    """Names and shapes: `whole` as they stand in the file, `denoiser` without its prefix."""

    header: Header

    @cached_property
    def whole(self) -> dict[str, tuple[int, ...]]:
        return {name: info.shape for name, info in self.header.tensors.items()}

    @cached_property
    def prefix(self) -> str:
        """What stands before the denoiser's names; empty where nothing does."""
        return next((p for p in PREFIXES if any(name.startswith(p) for name in self.whole)), "")

    @cached_property
    def denoiser(self) -> dict[str, tuple[int, ...]]:
        cut = len(self.prefix)
        return {n[cut:]: shape for n, shape in self.whole.items() if n.startswith(self.prefix)}

    @cached_property
    def _sorted(self) -> list[str]:
        return sorted(self.denoiser)

    def has(self, mark: str) -> bool:
        """Whether the denoiser has this tensor; with `*` at its end, any that begins so."""
        if not mark.endswith("*"):
            return mark in self.denoiser
        start = mark[:-1]
        at = bisect_left(self._sorted, start)
        return at < len(self._sorted) and self._sorted[at].startswith(start)

    def size(self, name: str, axis: int) -> int:
        """One side of a tensor of the denoiser, 0 where there is none."""
        shape = self.denoiser.get(name, ())
        return shape[axis] if -len(shape) <= axis < len(shape) else 0

    def begins(self, *prefixes: str) -> bool:
        """Whether any tensor of the file begins so."""
        return any(name.startswith(prefixes) for name in self.whole)

    def count(self, *endings: str) -> int:
        """How many tensors of the denoiser end so."""
        return sum(name.endswith(endings) for name in self.denoiser)


_TEXT_ENCODERS: tuple[tuple[str, str], ...] = (
    ("cond_stage_model.transformer.", "CLIP ViT-L"), ("cond_stage_model.model.", "OpenCLIP ViT-H"),
    ("conditioner.embedders.0.transformer.", "CLIP ViT-L"),
    ("conditioner.embedders.0.model.", "OpenCLIP ViT-bigG"),
    ("conditioner.embedders.1.model.", "OpenCLIP ViT-bigG"), ("text_encoders.clip_l.", "CLIP ViT-L"),
    ("text_encoders.clip_g.", "OpenCLIP ViT-bigG"), ("text_encoders.t5xxl.", "T5 XXL"),
    ("te.", "CLIP ViT-L"), ("te1.", "CLIP ViT-L"), ("te2.", "OpenCLIP ViT-bigG"),
)  # fmt: skip
_OTHER_ENCODER = re.compile(r"text_encoders\.(\w{1,40})\.|(text_encoder(?:_\d)?)\.")


def text_encoders(view: View) -> tuple[str, ...]:
    """Names of the text encoders that lie in the file with the denoiser."""
    found = {words for start, words in _TEXT_ENCODERS if view.begins(start)}
    if view.begins("text_encoders.", "text_encoder"):
        known = tuple(start for start, _ in _TEXT_ENCODERS)
        others = (_OTHER_ENCODER.match(name) for name in view.whole if not name.startswith(known))
        found |= {match[1] or match[2] for match in others if match}
    return tuple(sorted(found)[:8])


def has_vae(view: View) -> bool:
    return view.begins("first_stage_model.", "vae.")
