"""Where a single file keeps each tensor: LDM names (Stable Diffusion 1) and SGM names (SDXL).

Our names are those of diffusers and transformers; each is turned into the name in the file, so that
whatever a model needs and the file lacks is known by name. No torch. The U-Net's names are in
`app.recognition.unet_names`: SDXL's LoRA files are written with them too.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from app.recognition.unet_names import UNetNames

Config = Mapping[str, Any]


class Place(NamedTuple):
    """A tensor of the file: all of `key`, or a third of its rows (fused q, k, v), or its transpose."""

    key: str
    third: int | None = None
    transposed: bool = False


Names = Callable[[str, Config], Place]
"""(our tensor name, our configuration of the model) → where it is in the file, without the prefix."""


def unet_place(name: str, config: Config) -> Place:
    return Place(UNetNames.of(config).name(name))


_VAE = (
    (r"\.mid_block\.resnets\.0\.", ".mid.block_1."),
    (r"\.mid_block\.resnets\.1\.", ".mid.block_2."),
    (r"\.mid_block\.attentions\.0\.", ".mid.attn_1."),
    (r"\.attn_1\.group_norm\.", ".attn_1.norm."),
    (r"\.attn_1\.to_([qkv])\.", r".attn_1.\1."),
    (r"\.attn_1\.to_out\.0\.", ".attn_1.proj_out."),
    (r"\.down_blocks\.(\d+)\.resnets\.", r".down.\1.block."),
    (r"\.down_blocks\.(\d+)\.downsamplers\.0\.", r".down.\1.downsample."),
    (r"\.conv_shortcut\.", ".nin_shortcut."),
    (r"\.conv_norm_out\.", ".norm_out."),
)


def vae_place(name: str, config: Config) -> Place:
    """Upward blocks are counted from the other end in the file."""
    last = len(config["block_out_channels"]) - 1

    def upward(match: re.Match[str]) -> str:
        inner = "block" if match[2] == "resnets" else "upsample"
        return f".up.{last - int(match[1])}.{inner}."

    name = re.sub(r"\.up_blocks\.(\d+)\.(resnets|upsamplers\.0)\.", upward, name)
    for pattern, replacement in _VAE:
        name = re.sub(pattern, replacement, name)
    return Place(name)


def clip_place(name: str, _config: Config) -> Place:
    """OpenAI's CLIP as transformers wrote it before version 5: all names below `text_model.`."""
    return Place(f"text_model.{name.removeprefix('text_model.')}")


_OPEN_CLIP = (
    ("embeddings.token_embedding.", "token_embedding."),
    ("embeddings.position_embedding.weight", "positional_embedding"),
    ("final_layer_norm.", "ln_final."),
    ("encoder.layers.", "transformer.resblocks."),
    (".layer_norm1.", ".ln_1."),
    (".layer_norm2.", ".ln_2."),
    (".mlp.fc1.", ".mlp.c_fc."),
    (".mlp.fc2.", ".mlp.c_proj."),
    (".self_attn.", ".attn."),
)
_QKV = re.compile(r"\.attn\.([qkv])_proj\.(weight|bias)$")


def open_clip_place(name: str, _config: Config) -> Place:
    """OpenCLIP's own names: q, k and v are one tensor, and the projection is transposed."""
    if name == "text_projection.weight":
        return Place("text_projection", transposed=True)
    name = name.removeprefix("text_model.")
    for ours, theirs in _OPEN_CLIP:
        name = name.replace(ours, theirs)
    if fused := _QKV.search(name):
        return Place(f"{name[: fused.start()]}.attn.in_proj_{fused[2]}", third="qkv".index(fused[1]))
    return Place(name)
