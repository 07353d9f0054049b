"""Where a single file keeps each tensor: LDM names (Stable Diffusion 1) and SGM names (SDXL).

Our names are those of diffusers and transformers; each is turned into the name in the file, so that
whatever a model needs and the file lacks is known by name. No torch. The U-Net's names also serve
SDXL's LoRA files, which are written with them.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

Config = Mapping[str, Any]


class Place(NamedTuple):
    """A tensor of the file: all of `key`, or a third of its rows (fused q, k, v), or its transpose."""

    key: str
    third: int | None = None
    transposed: bool = False


Names = Callable[[str, Config], Place]
"""(our tensor name, our configuration of the model) → where it is in the file, without the prefix."""

_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_OUTER = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
    "mid_block.attentions.0": "middle_block.1",
    "mid_block.resnets.0": "middle_block.0",
    "mid_block.resnets.1": "middle_block.2",
}
_OUTER_NAMES = re.compile(f"(?:{'|'.join(re.escape(name) for name in _OUTER)})(?=\\.|$)")
_BLOCK = re.compile(r"(down|up)_blocks\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)")


@dataclass(frozen=True)
class UNetNames:
    """The numbering of a U-Net's blocks, which depends on how many layers they have."""

    layers: int
    plain_ups: frozenset[int]
    """Upward blocks without attention: their upsampler has another number."""

    @staticmethod
    def of(config: Config) -> "UNetNames":
        kinds = config["up_block_types"]
        plain = frozenset(i for i, kind in enumerate(kinds) if not kind.startswith("CrossAttn"))
        return UNetNames(config["layers_per_block"], plain)

    def name(self, path: str) -> str:
        """`down_blocks.1.attentions.0.proj_in` → `input_blocks.4.1.proj_in`; modules and tensors alike."""
        if outer := _OUTER_NAMES.match(path):
            block, rest = _OUTER[outer[0]], path[outer.end() :]
        elif inner := _BLOCK.match(path):
            block, rest = self._block(inner), path[inner.end() :]
        else:
            raise ValueError(f"Not a name of this U-Net: {path}")
        if ".resnets." in path:
            part = rest[1:].partition(".")[0]
            rest = rest.replace(part, _RESNET[part], 1)
        return _sampler(block, rest)

    def _block(self, match: re.Match[str]) -> str:
        side, outer, kind, inner = match[1], int(match[2]), match[3], int(match[4])
        step = self.layers + 1
        if kind == "downsamplers":
            return f"input_blocks.{step * (outer + 1)}.0"
        if kind == "upsamplers":
            return f"output_blocks.{step * outer + self.layers}.{1 if outer in self.plain_ups else 2}"
        number = step * outer + inner + (1 if side == "down" else 0)
        blocks = "input_blocks" if side == "down" else "output_blocks"
        return f"{blocks}.{number}.{0 if kind == 'resnets' else 1}"


def _sampler(block: str, rest: str) -> str:
    """Downsampling convolutions are called `op` in the file."""
    if block.startswith("input_blocks.") and rest.startswith(".conv") and not block.endswith(".0.0"):
        return f"{block}.op{rest.removeprefix('.conv')}"
    return block + rest


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
