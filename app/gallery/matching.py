"""What fits what: a LoRA, an embedding or a VAE on a checkpoint.

Architectures decide, not names: a LoRA for Pony works on SDXL 1.0, because both are SDXL. What a file was
recognised as counts before what its page says, and what nobody knows is said to be unknown.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from app.contract.jobs import CheckpointRef
from app.gallery.headers import recognised_from
from app.gallery.models import ModelFile, ModelVersion
from app.recognition.bases import BASES, EDM, TEXTS, architectures_of, meanings
from app.recognition.result import WORDS, Recognised
from worker.families.catalog import specs

MISMATCH = "lora-base-mismatch"
UNKNOWN = "lora-base-unknown"
_ALIKE = {"sd2": "sd1", "wan-14b": "wan-1.3b", "wan22-t2v": "wan-1.3b"}
"""Architectures that share a VAE: SD 2.x has that of SD 1.x, Wan 2.2 A14B that of Wan 2.1."""
TEXT_KINDS = ("UMT5", "T5", "T5 XL", "T5 Large", "CLIP", "CLIP ViT-L/14", "CLIP ViT-bigG")
"""Text encoders that recognition knows surely, so that their page's word does not count."""
_VARIANTS = {
    "inpaint": "is made for inpainting, which cannot be trained or drawn with here yet",
    "refiner": "is a refiner: it only finishes pictures of SDXL and cannot be trained or used alone",
    "pix2pix": "changes pictures by instructions, which is not possible here yet",
    "depth": "needs a depth picture, which is not possible here yet",
}


@dataclass(frozen=True)
class Nature:
    """What decides whether two things fit. No `architectures` = nobody knows."""

    name: str
    base_model: str
    architectures: frozenset[str]
    variant: str = "base"
    prediction: str | None = None
    component: str = ""
    """What a file that is only a part was recognised as, e.g. `UMT5 XXL`."""
    zipped: bool = False
    """Whether it is a folder, so that a text encoder has its tokenizer beside it."""


@dataclass(frozen=True)
class Fit:
    """`words`: why it cannot be used, or what to expect of it; `code` says the first for programs."""

    usable: bool
    words: str = ""
    code: str = ""


def primary_of(files: Iterable[ModelFile]) -> ModelFile | None:
    """The file that a plain download gives."""
    listed = list(files)
    return next((f for f in listed if f.is_primary), listed[0] if listed else None)


_LOW = re.compile(r"(?<![a-z])low(?![a-z])|lownoise", re.IGNORECASE)
_HIGH = re.compile(r"(?<![a-z])high(?![a-z])|highnoise", re.IGNORECASE)


def has_experts(version: ModelVersion) -> bool:
    """Whether its family has two networks, one for high and one for low noise."""
    spec = specs().get(version.family or "")
    return spec is not None and spec.clips is not None and spec.clips.experts


def noise_named(name: str) -> str | None:
    """`high` or `low`, as the name of a file says; None where it says neither."""
    return "low" if _LOW.search(name) else "high" if _HIGH.search(name) else None


def noise_of(file: ModelFile) -> str | None:
    """For which noise the file is: what its owner said counts before its name."""
    return file.facts.get("noise") or noise_named(file.name)


def networks_of(version: ModelVersion) -> list[ModelFile]:
    """Its networks in files of their own, without what lies beside them (a VAE, a text encoder)."""
    return [file for file in version.files if file.type == "Model" and file.format == "SafeTensor"]


def expert_files(version: ModelVersion) -> tuple[ModelFile | None, ModelFile | None]:
    """(the file for high noise, the file for low noise) of a family with two experts.

    The second is None where one file is for both, as in every other family.
    """
    first = primary_of(version.files)
    if first is None or first.format != "SafeTensor" or not has_experts(version):
        return first, None
    low = [file for file in networks_of(version) if noise_of(file) == "low"]
    high = [file for file in networks_of(version) if file not in low]
    return (high[0], low[0]) if low and high else (first, None)


def recognised(version: ModelVersion) -> Recognised | None:
    """What its primary file was recognised as; None for what came before there was recognition."""
    file = primary_of(version.files)
    return recognised_from(file.facts) if file else None


def nature_of(version: ModelVersion) -> Nature:
    seen = recognised(version)
    told = architectures_of(version.base_model)
    if seen and seen.architecture:
        told = meanings(seen.architecture, version.base_model)
    return Nature(
        version.model.name, version.base_model, frozenset(told),
        variant=seen.variant if seen else "base",
        # What an adapter says is its metadata's word; for a checkpoint it is the architecture's, at least.
        prediction=seen.prediction if seen else None,
        component=(seen.component or "") if seen else "",
        zipped=seen is not None and seen.file_format == "Diffusers",
    )  # fmt: skip


def nature_named(name: str, base_model: str) -> Nature:
    """Of something without a page: the name of its base model is all that there is."""
    return Nature(name, base_model, frozenset(architectures_of(base_model)))


def nature_of_ref(base: CheckpointRef, version: ModelVersion | None = None) -> Nature:
    """Of a checkpoint in a job; its family says what it is, whatever its page calls it."""
    told = frozenset(key for key, known in BASES.items() if known.family == base.family)
    seen = recognised(version) if version else None
    return Nature(
        base.name, base.base_model, told or frozenset(architectures_of(base.base_model)),
        variant=seen.variant if seen else "base", prediction=seen.prediction if seen else None,
    )  # fmt: skip


def fit(base: Nature, other: Nature) -> Fit:
    """Can `other`, a LoRA or an embedding, be used with the checkpoint `base`?"""
    named_alike = other.base_model == base.base_model
    if other.architectures & base.architectures:
        return Fit(True, _expect(base, other))
    if other.architectures and base.architectures:
        words = f"{other.name} was made for {other.base_model}, not for {base.name} ({base.base_model})."
        return Fit(False, words, MISMATCH)
    if named_alike and other.base_model not in ("", "Other"):
        return Fit(True)
    unknown = base if other.architectures else other
    words = (
        f"Nobody knows which kind of model {base.name} is, so nothing can be said to fit it."
        if unknown is base
        else f"It is not known for which base model {other.name} was made. Its owner can say so on its page."
    )
    return Fit(False, words, UNKNOWN)


def _expect(base: Nature, other: Nature) -> str:
    """What to expect of a relative; empty where there is nothing to say."""
    if other.prediction and base.prediction and other.prediction != base.prediction:
        return "Made for a model that predicts in another way: it may look wrong."
    if other.base_model != base.base_model and other.base_model not in ("", "Other"):
        return f"Made for {other.base_model}, a relative of {base.base_model}: it may look different."
    if other.variant != base.variant:
        return f"{base.name} is no plain model of its kind ({base.variant}): it may look different."
    return ""


def fit_vae(base: Nature, vae: Nature) -> Fit:
    """Can this VAE stand in for the checkpoint's own? Its tensors tell too little: its page's word counts."""
    wanted = {_ALIKE.get(key, key) for key in base.architectures}
    given = {_ALIKE.get(key, key) for key in vae.architectures}
    if wanted & given:
        return Fit(True)
    if given:
        words = f"{vae.name} is a VAE for {vae.base_model}, not for {base.name} ({base.base_model})."
        return Fit(False, words, "vae-base-mismatch")
    words = f"It is not known for which base model the VAE {vae.name} is. Its owner can say so on its page."
    return Fit(False, words, "vae-base-unknown")


def fit_text(base: Nature, text: Nature) -> Fit:
    """Can the checkpoint read with this text encoder? Its kind decides, where that is unknown its page."""
    wanted = {TEXTS[key] for key in base.architectures if key in TEXTS}
    if not wanted:
        words = f"{base.name} ({base.base_model}) has its own text encoder and takes no other."
        return Fit(False, words, "text-encoder-mismatch")
    if not text.zipped:
        words = f"{text.name} has no tokenizer beside it, so that nothing can read with it here."
        return Fit(False, words, "tokenizer-missing")
    known = text.component.removesuffix(" XXL")
    given = {known} if known in TEXT_KINDS else {TEXTS[key] for key in text.architectures if key in TEXTS}
    if wanted & given:
        return Fit(True)
    words = (
        f"{text.name} is no text encoder for {base.name}, which reads with {' or '.join(sorted(wanted))} XXL."
    )
    return Fit(False, words, "text-encoder-mismatch")


def runs_here(version: ModelVersion) -> bool:
    """Whether a family that is installed trains and draws with it."""
    return version.family is not None and version.family in specs()


def why_not(version: ModelVersion) -> str:
    """Why a checkpoint cannot be trained or drawn with here, after its name; empty where it can."""
    if runs_here(version):
        return ""
    seen = recognised(version)
    if seen is None or seen.kind == "unknown":
        return f"({version.base_model}) was not recognised as a checkpoint that can be used here"
    if seen.kind != "checkpoint":
        return f"is {WORDS[seen.kind]}, not a checkpoint"
    if seen.variant in _VARIANTS:
        return _VARIANTS[seen.variant]
    known = BASES.get(seen.architecture or "")
    if known is None or known.family not in specs():
        return f"({version.base_model}) cannot train or draw here yet"
    if seen.prediction in EDM and known.prediction not in EDM:
        return "learnt with a noise schedule (EDM) that cannot be used here yet"
    if seen.quantised:
        return f"has compressed weights ({seen.quantised}), which cannot be loaded here"
    if not seen.text_encoders:
        return "holds only the denoiser, without a text encoder"
    return "is not laid out as a whole checkpoint and cannot be loaded here"
