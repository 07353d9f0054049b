"""Checkpoints of clips in pieces for tests: each network in its own file, the text encoder as a folder."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from tests.worker.families.single import plain
from tests.worker.tiny_clips import tiny_clip_pipeline
from worker.families import catalog
from worker.families.base import Chosen
from worker.families.checkpoints import Layout

IN_PIECES = ("wan", "wan_14b", "wan22_a14b", "wan22_5b", "ltx")


@dataclass(frozen=True)
class Pieces:
    """A family with the sizes of a small checkpoint, and that checkpoint: as a folder, and in pieces."""

    family: Any
    pipe: Any
    folder: Path
    base: Path
    chosen: Chosen


def tiny_pieces(name: str, folder: Path, *, ours: bool = False) -> Pieces:
    """`ours`: with diffusers' names instead of the makers'."""
    pipe, family = tiny_clip_pipeline(name), catalog.load(name)
    pipe.save_pretrained(folder / "whole")
    family = _sized(family, _configs(folder / "configs", pipe))
    layout = layout_of(family)
    base = write_piece(folder / "denoiser.safetensors", layout, "transformer", pipe, ours=ours)
    two = getattr(pipe, "transformer_2", None) is not None
    low = write_piece(folder / "low.safetensors", layout, "transformer_2", pipe, ours=ours) if two else None
    vae = write_piece(folder / "vae.safetensors", layout, "vae", pipe, ours=ours)
    text = folder / "text"
    pipe.text_encoder.save_pretrained(text / "text_encoder")
    pipe.tokenizer.save_pretrained(text / "tokenizer")
    return Pieces(family, pipe, folder / "whole", base, Chosen(vae, text, low))


def layout_of(family: Any) -> Layout:
    layout: Layout = family.layout
    return layout


def piece_tensors(layout: Layout, name: str, model: Any, *, ours: bool = False) -> dict[str, Any]:
    """One model's tensors under the names of a single file."""
    part, config = layout.part(name), plain(model)
    return {
        key if ours else part.names(key, config).key: tensor.contiguous()
        for key, tensor in model.state_dict().items()
    }


def write_piece(path: Path, layout: Layout, name: str, pipe: Any, *, ours: bool = False) -> Path:
    model = getattr(pipe, name)
    said = {"transformer": {"num_attention_heads": model.config.get("num_attention_heads")}}
    save_file(piece_tensors(layout, name, model, ours=ours), path, {"config": json.dumps(said)})
    return path


def _configs(folder: Path, pipe: Any) -> Path:
    folder.mkdir(parents=True)
    for name in ("transformer", "vae", "scheduler"):
        (folder / f"{name}.json").write_text(json.dumps(plain(getattr(pipe, name))))
    return folder


def _sized(family: Any, configs: Path) -> Any:
    if hasattr(family, "configs"):
        return replace(family, configs=configs)
    return replace(family, layout=replace(family.layout, configs=configs))
