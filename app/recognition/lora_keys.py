"""A LoRA file's key → the layer that it changes, whoever wrote it. No torch: header and worker read alike.

Written are: kohya's sd-scripts (`lora_unet_…`, one or two text encoders, diffusers' or single files'
names), LyCORIS, PEFT and diffusers (lora_A / lora_B), diffusers before PEFT (`processor.to_q_lora`,
`lora_linear_layer`), ai-toolkit, OneTrainer (`lora_unet.…` and OMI's `unet.…`, `clip_l.…`), ComfyUI
(`diffusion_model.…`, `text_encoders.clip_l.…`) and cloneofsimo's numbered layers.
"""

import json
import math
import re
from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any, NamedTuple

_KOHYA = {"lora_down.weight": "down", "lora_up.weight": "up", "lora_mid.weight": "mid", "alpha": "alpha"}
_ENDINGS: dict[str, tuple[str, str]] = {
    **{f".{ending}": ("lora", part) for ending, part in _KOHYA.items()},
    ".lora_linear_layer.down.weight": ("lora", "down"), ".lora_linear_layer.up.weight": ("lora", "up"),
    ".lora.down.weight": ("lora", "down"), ".lora.up.weight": ("lora", "up"),
    "_lora.down.weight": ("lora", "down"), "_lora.up.weight": ("lora", "up"),
    ".lora.alpha": ("lora", "alpha"), "_lora.alpha": ("lora", "alpha"),
    "_lora_down.weight": ("lora", "down"), "_lora_up.weight": ("lora", "up"),
    ".lora_A.weight": ("lora", "down"), ".lora_B.weight": ("lora", "up"),
    ".dora_scale": ("dora", "scale"), ".lora_magnitude_vector": ("dora", "magnitude"),
    ".lora_magnitude_vector.weight": ("dora", "magnitude"),
    **{f".hada_{name}": ("loha", name) for name in ("w1_a", "w1_b", "w2_a", "w2_b", "t1", "t2")},
    **{
        f".lokr_{name}": ("lokr", name)
        for name in ("w1", "w2", "w1_a", "w1_b", "w2_a", "w2_b", "t1", "t2")
    },
    **{f".{name}.weight": ("glora", name) for name in ("a1", "a2", "b1", "b2")},
    ".oft_blocks": ("oft", "blocks"), ".oft_diag": ("oft", "blocks"), ".on_input": ("ia3", "input"),
    ".diff": ("full", "diff"), ".diff_b": ("full", "bias"), ".w_norm": ("full", "norm"),
    ".b_norm": ("full", "norm_bias"),
}  # fmt: skip
"""Ending of a tensor's name → (kind, part)."""
_BY_LENGTH = tuple(sorted(_ENDINGS, key=len, reverse=True))
_NAMED = re.compile(r"(.+)\.(lora_A|lora_B|lora_magnitude_vector)\.[^.]{1,200}\.weight")
"""PEFT puts the adapter's name between."""
NUMBERED = re.compile(r"(unet|text_encoder):(\d{1,6})(?::(down|up|alpha))?")
"""cloneofsimo's keys."""
APPLIED = frozenset({"lora", "dora", "loha", "lokr", "full"})
"""Kinds of layers that are added to the weights here; GLoRA, OFT and IA3 are not."""

_WRAPPERS = ("base_model.model.", "module.", "_orig_mod.")
"""What PEFT, DDP and torch.compile put in front of every name."""
_KOHYA_PARTS = {
    "lora_te1": "text-encoder", "lora_te2": "text-encoder-2", "lora_te3": "text-encoder-3",
    "lora_te0": "text-encoder", "lora_te": "text-encoder", "lora_unet_unet": "unet", "lora_unet": "unet",
    "lora_transformer": "transformer", "lycoris_text_encoder_2": "text-encoder-2",
    "lycoris_text_encoder": "text-encoder", "lycoris_unet": "unet", "lycoris_transformer": "transformer",
    "lycoris": "unet",
}  # fmt: skip
_DOTTED_PARTS = {
    "text_encoder_2": "text-encoder-2", "text_encoder_3": "text-encoder-3", "text_encoder": "text-encoder",
    "te1": "text-encoder", "te2": "text-encoder-2", "unet": "unet", "transformer": "transformer",
    "model.diffusion_model": "transformer", "diffusion_model": "transformer", "clip_l": "text-encoder",
    "clip_g": "text-encoder-2", "text_encoders.clip_l": "text-encoder",
    "text_encoders.clip_g": "text-encoder-2",
}  # fmt: skip


def _starts() -> re.Pattern[str]:
    """How a module's name begins; longer beginnings first."""
    by_length = sorted(_KOHYA_PARTS, key=len, reverse=True)
    dotted = sorted(_DOTTED_PARTS, key=len, reverse=True)
    return re.compile(f"({'|'.join(by_length)})[._]|({'|'.join(map(re.escape, dotted))})\\.")


_START = _starts()
_UNET_BLOCKS = (
    "down_blocks_", "up_blocks_", "mid_block_", "input_blocks_", "output_blocks_", "middle_block_",
)  # fmt: skip
_TEXT_ALONE = re.compile(r"(?:text_model\.)?encoder\.layers\.\d{1,3}\.(?:self_attn|mlp)\.")
"""A text encoder's adapter in a file of its own, as PEFT saves it."""


class Key(NamedTuple):
    """A tensor's name taken apart; `kind` is empty for what is no adapter's tensor."""

    stem: str
    kind: str
    part: str


def split_key(key: str) -> Key:
    """`lora_unet_conv_in.lora_up.weight` → (`lora_unet_conv_in`, `lora`, `up`)."""
    if match := NUMBERED.fullmatch(key):
        return Key(f"{match[1]}:{match[2]}", "lora", match[3]) if match[3] else Key(key, "", "")
    if key.endswith(_BY_LENGTH):
        ending = next(e for e in _BY_LENGTH if key.endswith(e))
        return Key(key.removesuffix(ending), *_ENDINGS[ending])
    if match := _NAMED.fullmatch(key):
        return Key(match[1], *_ENDINGS[f".{match[2]}.weight"])
    return Key(key, "", "")


def locate(stem: str) -> tuple[str, str]:
    """(part of the model, the layer's name with underscores and without what all names begin with).

    The part is `unet`, `transformer`, `text-encoder`, `text-encoder-2` or `text-encoder-3`; what names
    no part is told by its blocks.
    """
    if match := NUMBERED.fullmatch(stem):
        return match[1].replace("_", "-"), match[2]
    stem = stem.replace("_orig_mod.", "")
    while stem.startswith(_WRAPPERS):
        stem = stem[next(len(wrapper) for wrapper in _WRAPPERS if stem.startswith(wrapper)) :]
    part = "transformer"
    if start := _START.match(stem):
        part = _KOHYA_PARTS[start[1]] if start[1] else _DOTTED_PARTS[start[2]]
        stem = stem[start.end() :]
    elif _TEXT_ALONE.match(stem):
        part = "text-encoder"
    name = stem.replace(".", "_")
    if part in ("unet", "transformer"):
        part = "unet" if name.startswith(_UNET_BLOCKS) else "transformer"
        return part, re.sub(r"_to_out$", "_to_out_0", name.replace("_processor_to_", "_to_"))
    return part, _text_name(name)


def _text_name(name: str) -> str:
    """transformers 5 has no `text_model.` before the names, and older diffusers spoke of `to_q`."""
    name = name.removeprefix("transformer_").removeprefix("text_model_")
    return re.sub(r"self_attn_to_(q|k|v|out)$", r"self_attn_\1_proj", name)


Scale = Callable[[str, str, int], float]
"""(part of the model, layer's name, rank) → what a pair is multiplied by."""
_MOST_PATTERNS = 5000


def said_scales(metadata: Mapping[str, str]) -> Scale:
    """How much diffusers' header multiplies each pair by where the file has no alphas; 1 where it is silent.

    diffusers writes PEFT's LoraConfig as JSON into `lora_adapter_metadata`.
    """
    config = _parsed(metadata.get("lora_adapter_metadata"))
    config = config if isinstance(config, dict) else {}

    def scale(part: str, name: str, rank: int) -> float:
        start = part.replace("-", "_").replace("transformer", "unet")
        found = config.get(f"{start}.alpha_pattern")
        patterns = islice(found.items(), _MOST_PATTERNS) if isinstance(found, dict) else ()
        special = (a for pattern, a in patterns if name.endswith(pattern.lstrip("^").replace(".", "_")))
        alpha = next(special, config.get(f"{start}.lora_alpha"))
        if isinstance(alpha, bool) or not isinstance(alpha, int | float) or rank <= 0:
            return 1.0
        return alpha / (math.sqrt(rank) if config.get(f"{start}.use_rslora") is True else rank)

    return scale


def numbering(metadata: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """The classes whose layers cloneofsimo's numbers count, by part, as its metadata names them."""
    found = {part: _parsed(metadata.get(part.replace("-", "_"))) for part in ("unet", "text-encoder")}
    return {
        part: tuple(name for name in names if isinstance(name, str)) if isinstance(names, list) else ()
        for part, names in found.items()
    }


def _parsed(text: str | None) -> Any:
    try:
        return json.loads(text) if text else None
    except (ValueError, RecursionError):
        return None
