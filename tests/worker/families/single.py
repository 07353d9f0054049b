"""Checkpoints in one file for tests: written from our own tables, whose names and shapes are held
against those of published files (`LISTINGS`)."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.worker.tiny import tiny_models
from worker.families import catalog
from worker.families.checkpoints import Layout
from worker.families.clip_tokenizer import clip_tokenizer
from worker.families.latent_unet import text_targets, unet_targets
from worker.families.single_file import Part, empty_model

Weights = Mapping[str, Tensor]
SINGLE_FILE_FAMILIES = ("sd1", "sdxl")
LISTINGS = {
    "sd1": (1130, "dd0d17c940fbd3a9caaa5c0908f12bcc529c3920a6edcf30fe8eedab2d41b931"),
    "sdxl": (2513, "e8b4f0d1a190ee22bad61a944b38814e1f2a07fcd7d7261a5d06512eba767fe3"),
}
"""Published files: how many tensors make the models, and the hash of the sorted lines `name [shape]`."""


@dataclass(frozen=True)
class Small:
    """A family whose configurations are those of a small checkpoint, and that checkpoint as one file."""

    family: Any
    layout: Layout
    models: dict[str, Any]
    path: Path


def small(name: str, folder: Path) -> Small:
    """Random small models with CLIP's own vocabulary; always the same."""
    models = tiny_models(name, clip_tokenizer())
    family: Any = catalog.load(name)
    layout = replace(family.layout, configs=write_configs(folder / "configs", family.layout, models))
    path = write_single_file(folder / "small.safetensors", layout, models)
    return Small(replace(family, layout=layout), layout, models, path)


def layout_of(name: str) -> Layout:
    family: Any = catalog.load(name)
    layout: Layout = family.layout
    return layout


def empty_models(layout: Layout) -> dict[str, Any]:
    """The family's models at true size, without memory for their weights."""
    return {part.name: empty_model(part.kind, layout.config(part.name)) for part in layout.parts}


def listing_of(layout: Layout, models: Mapping[str, Any]) -> tuple[int, str]:
    """What `LISTINGS` says of a family, of ours."""
    lines = sorted(
        f"{key} {list(tensor.shape)}"
        for part in layout.parts
        for key, tensor in file_tensors(part, layout.config(part.name), models[part.name].state_dict())
    )
    return len(lines), hashlib.sha256("\n".join(lines).encode()).hexdigest()


def file_tensors(part: Part, config: Mapping[str, Any], weights: Weights) -> Iterator[tuple[str, Tensor]]:
    """One model's tensors as a single file has them: fused, turned, 1x1 convolutions in the VAE."""
    thirds: dict[str, dict[int, Tensor]] = {}
    for name, tensor in weights.items():
        place = part.names(name, config)
        key = part.prefixes[0] + place.key
        if place.third is not None:
            thirds.setdefault(key, {})[place.third] = tensor
        elif place.transposed:
            yield key, tensor.T
        elif ".attn_1." in key and tensor.dim() == 2:
            yield key, tensor[:, :, None, None]
        else:
            yield key, tensor
    for key, parts in thirds.items():
        yield key, torch.cat([parts[number] for number in range(3)])


def write_single_file(
    path: Path, layout: Layout, models: Mapping[str, Any], *,
    more: Weights | None = None, leave_out: str = "nothing", metadata: dict[str, str] | None = None,
) -> Path:  # fmt: skip
    """All models in one file; `leave_out` drops keys that begin with it, `more` adds tensors."""
    tensors: dict[str, Tensor] = {}
    for part in layout.parts:
        model = models[part.name]
        tensors |= dict(file_tensors(part, plain(model), model.state_dict()))
    kept = {key: tensor.contiguous() for key, tensor in tensors.items() if not key.startswith(leave_out)}
    save_file(kept | dict(more or {}), path, metadata)
    return path


def plain(model: Any) -> dict[str, Any]:
    """A model's configuration, whichever library made it."""
    config = model.config.to_dict() if hasattr(model.config, "to_dict") else dict(model.config)
    return {name: value for name, value in config.items() if not name.startswith("_")}


def write_configs(folder: Path, layout: Layout, models: Mapping[str, Any]) -> Path:
    """The configurations of these models as a family keeps them."""
    folder.mkdir(parents=True)
    for part in layout.parts:
        (folder / f"{part.name}.json").write_text(json.dumps(plain(models[part.name])))
    for name in ("scheduler", *layout.tokenizers):
        (folder / f"{name}.json").write_text(json.dumps(layout.config(name)))
    return folder


def true_modules(family: str, models: dict[str, Any]) -> list[str]:
    """Every module that a training with convolutions and text encoders adapts, at true size."""
    attention, convolutions = unet_targets(models["unet"])
    second = text_targets(models["text_encoder_2"]) if family == "sdxl" else ()
    return [
        *(f"model.{name}" for name in (*attention, *convolutions)),
        *(f"text_encoder.{name}" for name in text_targets(models["text_encoder"])),
        *(f"text_encoder_2.{name}" for name in second),
    ]


def single_file(family: str, models: dict[str, Any]) -> dict[str, str]:
    """Names of weights in a checkpoint of one file, by our modules: `model.…` → `input_blocks.…`."""
    layout = layout_of(family)
    part = layout.part("unet")
    names = {}
    for name, _ in models["unet"].named_parameters():
        place = part.names(name, layout.config("unet"))
        names[f"model.{name.rsplit('.', 1)[0]}"] = place.key.rsplit(".", 1)[0]
    return names
