"""What the pages say of a model: its kind, its licence, how it was trained, in plain words."""

from typing import Any

from app.gallery.matching import has_experts, noise_of
from app.gallery.models import Model, ModelFile, ModelVersion
from app.recognition.result import WORDS, Recognised

TYPES = {"LORA": "LoRA", "TextualInversion": "Embedding", "MotionModule": "Motion module"}
CATEGORIES = {"style": "style", "character": "character", "concept": "object or concept"}
LICENCES = {"CC0-1.0": "CC0 · public domain"}
LICENCE_OF_BASE = {
    "sd1": "CreativeML OpenRAIL-M", "sd2": "CreativeML OpenRAIL++-M", "sdxl": "CreativeML OpenRAIL++-M",
    "flux1": "FLUX.1 [dev] Non-Commercial", "chroma": "Apache 2.0", "qwen": "Apache 2.0",
    "zimage": "Apache 2.0", "starter": "CC0-1.0",
}  # fmt: skip
"""Licence of the base by its architecture: what a LoRA or a merge of it usually has to keep."""
LICENCE_NAMES = list(
    dict.fromkeys([*LICENCE_OF_BASE.values(), "CC BY 4.0", "CC BY-SA 4.0", "CC BY-NC 4.0", "MIT"])
)
PARAMS = {
    "resolution": "Resolution", "epochs": "Epochs", "repeats": "Repeats", "batch_size": "Batch",
    "unet_lr": "Learning rate", "text_encoder_lr": "Text encoder rate", "lr_scheduler": "Schedule",
    "optimizer": "Optimizer", "network_dim": "Rank", "network_alpha": "Alpha", "min_snr_gamma": "Min-SNR",
    "noise_offset": "Noise offset", "caption_dropout": "Caption dropout", "seed": "Seed",
}  # fmt: skip


def type_words(model: Model) -> str:
    """`LoRA · style`."""
    category = CATEGORIES.get(model.category, "")
    return " · ".join(part for part in (TYPES.get(model.type, model.type), category) if part)


def file_words(seen: Recognised) -> str:
    """`LoRA · rank 16, alpha 8 · fp16`; `Checkpoint · inpaint · fp16 · pruned`."""
    adapter, embedding = seen.adapter, seen.embedding
    named = "" if seen.kind == "unknown" else WORDS[seen.kind].split(" ", 1)[-1]
    kind = adapter.algorithm if adapter else seen.component or named
    parts = [kind[:1].upper() + kind[1:], seen.variant if seen.variant != "base" else ""]
    if adapter and adapter.rank:
        parts.append(f"rank {adapter.rank}" + (f", alpha {adapter.alpha:g}" if adapter.alpha else ""))
    if embedding:
        parts.append(f"{embedding.vectors} vectors")
    parts += [seen.precision or "", seen.quantised or "", seen.pruned or ""]
    return " · ".join(part for part in parts if part)


def part_words(file: ModelFile) -> str:
    """What a file is beside others: `VAE`, `for high noise`, else `bf16`; empty where nothing is told."""
    if file.type != "Model":
        return file.type
    noise = noise_of(file) if has_experts(file.version) else None
    return f"for {noise} noise" if noise else file.precision or file.fp or ""


def licence_words(model: Model) -> list[str]:
    """The licence and the four switches as short sentences."""
    uses = set(model.allow_commercial_use)
    words = [LICENCES.get(model.licence, model.licence)] if model.licence else []
    words.append("no credit needed" if model.allow_no_credit else "credit the maker")
    words.append("changes and merges allowed" if model.allow_derivatives else "no changes or merges")
    if not model.allow_different_license:
        words.append("merges keep these terms")
    words.append("pictures may be sold" if uses & {"Image", "Sell"} else "pictures not for sale")
    if not uses & {"Rent", "RentCivit"}:
        words.append("not for paid services")
    if "Sell" not in uses:
        words.append("model not for sale")
    return words


def training_words(version: ModelVersion) -> str:
    """`15 pictures · 600 steps · epoch 8 of 10`; of a training on video, clips."""
    details = version.training_details or {}
    parts = []
    if count := details.get("images"):
        kind = "clip" if details.get("mediaType") == "video" else "picture"
        parts.append(f"{count} {kind}{'' if count == 1 else 's'}")
    if steps := version.steps or details.get("steps"):
        parts.append(f"{steps:,} steps".replace(",", "\u202f"))
    if details.get("epoch"):
        parts.append(f"epoch {details['epoch']} of {details.get('epochs', details['epoch'])}")
    return " · ".join(parts)


def training_settings(version: ModelVersion) -> list[tuple[str, Any]]:
    """Settings of a training here, as label and value."""
    details = version.training_details or {}
    rows = [("Base", details["baseModel"])] if details.get("baseModel") else []
    rows += [("VAE", details["vae"])] if details.get("vae") else []
    params = details.get("params") or {}
    rows += [(label, params[name]) for name, label in PARAMS.items() if params.get(name) is not None]
    if details.get("validationLoss") is not None:
        rows.append(("Loss on pictures kept out", f"{details['validationLoss']:.4f}"))
    return rows
