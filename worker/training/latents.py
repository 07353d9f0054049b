"""Everything the encoders have to say about a set, computed once: latents and caption embeddings.

The VAE's mean and standard deviation are kept, not one sample of them, so each turn still draws its
own. The cache names what it was made from and is used for nothing else. It travels with the resume
point while it is small; larger ones are made again, to the same bits on the same machine.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from app.contract.jobs import TrainJob
from worker.families.base import Cond, Family, Latents, Parts
from worker.training.checkpoint import write_tensors
from worker.training.dataset import Example, load_clip, load_pixels
from worker.training.errors import TrainingError

TRAVELS_UP_TO = 256 * 2**20
"""Bytes of cache that a resume point carries along."""
_CAPTIONS_AT_ONCE = 32


@dataclass
class Cache:
    """`latents[number]` is [flips, 2, C, h, w] (mean, std), of clips [flips, 2, C, t, h, w].

    Captions: row `rows[text]` of every tensor.
    """

    latents: dict[int, Tensor] = field(default_factory=dict)
    conds: Cond = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)

    def tensors(self) -> dict[str, Tensor]:
        named = {f"latents.{number}": tensor for number, tensor in self.latents.items()}
        return named | {f"cond.{name}": tensor for name, tensor in self.conds.items()}

    @property
    def size(self) -> int:
        return sum(tensor.nbytes for tensor in self.tensors().values())

    def latent(self, numbers: Sequence[int], flips: Sequence[bool]) -> Latents:
        """Stacked posteriors of one size, [B, C, (t,) h, w] each."""
        pairs = torch.stack(
            [self.latents[number][int(flip)] for number, flip in zip(numbers, flips, strict=True)]
        )
        return Latents(pairs[:, 0], pairs[:, 1])

    def cond(self, captions: Sequence[str]) -> Cond:
        """Conditioning of these captions, first dimension in their order."""
        rows = [self.rows[caption] for caption in captions]
        return {name: tensor[rows] for name, tensor in self.conds.items()}


def cache_key(job: TrainJob, examples: Sequence[Example]) -> str:
    """Hash of all that the cache depends on: pictures, cuts, texts, checkpoint, settings."""
    pictures = [(e.item.file.sha256, e.bucket, e.shown, e.captions) for e in examples]
    p = job.params
    base = [job.base.file.sha256, job.base.vae.sha256 if job.base.vae else None]
    base += [job.base.text_encoder.sha256] if job.base.text_encoder else []
    facts = [base, pictures, p.flip, p.clip_skip, p.text_encoder_lr > 0]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def build_cache(
    family: Family,
    parts: Parts,
    job: TrainJob,
    examples: Sequence[Example],
    on_picture: Callable[[int], None],
) -> Cache:
    """Encode every example and every text. `on_picture(done)` is called after each example."""
    cache = Cache()
    if job.sparing:
        parts.move_text("cpu")
    for done, example in enumerate(examples, start=1):
        cache.latents[example.number] = encode_example(family, parts, example, flip=job.params.flip)
        on_picture(done)
    parts.move_text(parts.device)
    texts = ["", *dict.fromkeys(text for example in examples for text in example.captions if text)]
    cache.rows = {text: row for row, text in enumerate(texts)}
    live = job.params.text_encoder_lr > 0
    chunks = [
        family.encode_captions(parts, texts[i : i + _CAPTIONS_AT_ONCE], job.params.clip_skip, live=live)
        for i in range(0, len(texts), _CAPTIONS_AT_ONCE)
    ]
    cache.conds = {name: torch.cat([chunk[name] for chunk in chunks]) for name in chunks[0]}
    return cache


def encode_example(family: Family, parts: Parts, example: Example, *, flip: bool) -> Tensor:
    """[flips, 2, C, (t,) h, w]: posterior of the example and, with `flip`, of its mirror image."""
    pixels = (load_clip(example) if family.spec.clips else load_pixels(example))[None]
    views = [pixels, pixels.flip(-1)] if flip else [pixels]
    stacked = torch.stack([torch.stack(family.encode_images(parts, view))[:, 0] for view in views])
    if not bool(torch.isfinite(stacked).all()):
        detail = (
            f"The checkpoint cannot encode {example.item.file.name}. Remove it, or use another checkpoint."
        )
        raise TrainingError("image-unreadable", detail)
    return stacked


def save_cache(cache: Cache, key: str, path: Path) -> None:
    write_tensors(path, cache.tensors(), {"key": key, "rows": json.dumps(list(cache.rows))})


def load_cache(path: Path, key: str, device: torch.device) -> Cache | None:
    """The cache in this file, or None where there is none or it was made from something else."""
    if not path.is_file():
        return None
    with safe_open(path, framework="pt", device=str(device)) as opened:
        metadata = opened.metadata() or {}
        if metadata.get("key") != key:
            return None
        names = opened.keys()
        tensors = {name: opened.get_tensor(name) for name in names}
    return restored(tensors, metadata["rows"], device)


def restored(tensors: Mapping[str, Tensor], rows: str, device: torch.device) -> Cache:
    """A cache from its named tensors (see `Cache.tensors`) and its texts as a JSON list."""
    cache = Cache(rows={text: row for row, text in enumerate(json.loads(rows))})
    for name, tensor in tensors.items():
        kind, _, rest = name.partition(".")
        if kind == "latents":
            cache.latents[int(rest)] = tensor.to(device)
        else:
            cache.conds[rest] = tensor.to(device)
    return cache
