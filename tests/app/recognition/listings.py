"""Names and shapes of real model files, made from their rules rather than copied.

Only the tensors by which files are told apart, and enough of the others to be honest company. Sizes are
those of the published models.
"""

import io
import json
import struct
from collections.abc import Iterator, Mapping
from math import prod
from typing import Any

from app.recognition import Header, Recognised, read_header, recognise
from app.recognition.header import BITS

Shapes = dict[str, list[int]]
Texts = Mapping[str, str] | None
SD_LDM = {
    **{f"input_blocks.{n}.1": 1 for n in (1, 2, 4, 5, 7, 8)}, "middle_block.1": 1,
    **{f"output_blocks.{n}.1": 1 for n in range(3, 12)},
}  # fmt: skip
"""Where the attention stands and how deep it is: SD 1.x and 2.x have 16 layers, SDXL 70, its refiner 44."""
SD_DIFFUSERS = {
    **{f"down_blocks.{n}.attentions.{i}": 1 for n in (0, 1, 2) for i in (0, 1)}, "mid_block.attentions.0": 1,
    **{f"up_blocks.{n}.attentions.{i}": 1 for n in (1, 2, 3) for i in (0, 1, 2)},
}  # fmt: skip
XL_LDM = {
    "input_blocks.4.1": 2, "input_blocks.5.1": 2, "input_blocks.7.1": 10, "input_blocks.8.1": 10,
    "middle_block.1": 10, **{f"output_blocks.{n}.1": 10 for n in (0, 1, 2)},
    **{f"output_blocks.{n}.1": 2 for n in (3, 4, 5)},
}  # fmt: skip
XL_DIFFUSERS = {
    **{f"down_blocks.1.attentions.{i}": 2 for i in (0, 1)},
    **{f"down_blocks.2.attentions.{i}": 10 for i in (0, 1)},
    "mid_block.attentions.0": 10, **{f"up_blocks.0.attentions.{i}": 10 for i in (0, 1, 2)},
    **{f"up_blocks.1.attentions.{i}": 2 for i in (0, 1, 2)},
}  # fmt: skip
REFINER_LDM = {
    **{f"input_blocks.{n}.1": 4 for n in (4, 5, 7, 8)}, "middle_block.1": 4,
    **{f"output_blocks.{n}.1": 4 for n in range(3, 9)},
}  # fmt: skip
CLIP_L = {"text_model.embeddings.token_embedding.weight": [49408, 768]}
OPEN_CLIP_H = {"token_embedding.weight": [49408, 1024], "ln_final.bias": [1024]}
OPEN_CLIP_G = {"token_embedding.weight": [49408, 1280], "ln_final.bias": [1280]}
VAE_LDM = {
    "decoder.conv_in.weight": [512, 4, 3, 3], "decoder.conv_out.weight": [3, 128, 3, 3],
    "encoder.conv_in.weight": [128, 3, 3, 3], "post_quant_conv.weight": [4, 4, 1, 1],
}  # fmt: skip


def ldm(blocks: Mapping[str, int], context: int, *, channels: int = 4, width: int = 320) -> Shapes:
    """A U-Net as single files name it."""
    ends: Shapes = {
        "input_blocks.0.0.weight": [width, channels, 3, 3], "input_blocks.0.0.bias": [width],
        "out.2.weight": [4, width, 3, 3], "time_embed.0.weight": [4 * width, width],
    }  # fmt: skip
    return ends | _attention(blocks, context, width)


def diffusers(blocks: Mapping[str, int], context: int, *, channels: int = 4, width: int = 320) -> Shapes:
    """A U-Net as diffusers names it."""
    ends: Shapes = {
        "conv_in.weight": [width, channels, 3, 3], "conv_in.bias": [width],
        "conv_out.weight": [4, width, 3, 3], "time_embedding.linear_1.weight": [4 * width, width],
    }  # fmt: skip
    return ends | _attention(blocks, context, width)


def _attention(blocks: Mapping[str, int], context: int, width: int) -> Shapes:
    found: Shapes = {}
    for block, depth in blocks.items():
        for n in range(depth):
            layer = f"{block}.transformer_blocks.{n}"
            found[f"{layer}.attn1.to_k.weight"] = [width, width]
            found[f"{layer}.attn2.to_k.weight"] = [width, context]
            found[f"{layer}.attn2.to_v.weight"] = [width, context]
    return found


def ema(unet: Shapes) -> Shapes:
    """The averaged copy of a U-Net beside it: the dots of its names are gone."""
    return {"model_ema.diffusion_model" + name.replace(".", ""): shape for name, shape in unet.items()}


def under(prefix: str, shapes: Shapes) -> Shapes:
    return {prefix + name: shape for name, shape in shapes.items()}


UNET = "model.diffusion_model."
SD1 = (
    under(UNET, ldm(SD_LDM, 768))
    | under("cond_stage_model.transformer.", CLIP_L)
    | under("first_stage_model.", VAE_LDM)
)
SDXL = (
    under(UNET, ldm(XL_LDM, 2048)) | under("conditioner.embedders.0.transformer.", CLIP_L)
    | under("conditioner.embedders.1.model.", OPEN_CLIP_G) | under("first_stage_model.", VAE_LDM)
)  # fmt: skip


def lora(
    modules: Mapping[str, tuple[int, int]], *, rank: int = 8, ends: tuple[str, str], alpha: bool = False
) -> Shapes:
    """Modules by name → (numbers in, numbers out), with the endings of their pair."""
    found: Shapes = {}
    for name, (wide, out) in modules.items():
        found[name + ends[0]], found[name + ends[1]] = [rank, wide], [out, rank]
        if alpha:
            found[f"{name}.alpha"] = []
    return found


KOHYA = (".lora_down.weight", ".lora_up.weight")
PEFT = (".lora_A.weight", ".lora_B.weight")
OLD = (".lora.down.weight", ".lora.up.weight")


def encode(shapes: Mapping[str, Any], metadata: Texts = None, dtype: str = "F16") -> tuple[bytes, int]:
    """(the first bytes of such a file, the size that the whole one would have)."""
    entries: dict[str, Any] = {} if metadata is None else {"__metadata__": dict(metadata)}
    at = 0
    for name, shape in shapes.items():
        size = prod(shape) * BITS[dtype] // 8
        entries[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    raw = json.dumps(entries).encode()
    size = 8 + len(raw) + at
    return (struct.pack("<Q", len(raw)) + raw).ljust(min(size, 512), b"\0"), size


def header_of(shapes: Mapping[str, Any], metadata: Texts = None, dtype: str = "F16") -> Header:
    data, size = encode(shapes, metadata, dtype)
    return read_header(io.BytesIO(data), size)


def told(shapes: Mapping[str, Any], metadata: Texts = None, dtype: str = "F16") -> Recognised:
    """What recognition says of a file with these tensors."""
    return recognise(header_of(shapes, metadata, dtype))


def whole(shapes: Mapping[str, Any], metadata: Texts = None) -> bytes:
    """A whole file, all zeros: only for small shapes."""
    data, size = encode(shapes, metadata)
    return data + bytes(size - len(data))


class Drip(io.RawIOBase):
    """A file that gives one byte at a time, as a slow network does."""

    def __init__(self, data: bytes) -> None:
        self._bytes: Iterator[int] = iter(data)

    def read(self, size: int = -1, /) -> bytes:
        return bytes(b for b in (next(self._bytes, None),) if b is not None)
