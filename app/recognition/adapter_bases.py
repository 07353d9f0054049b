"""Which base an adapter was made for, told by the names and the widths of the layers it changes."""

import re
from collections.abc import Callable
from typing import NamedTuple

from app.recognition.adapters import Module

Guess = tuple[str | None, str]
"""(architecture, how it was told)"""
_TEXT = re.compile(r"attn2_to_[kv]$")
_CONTEXTS = {128: "starter", 768: "sd1", 1024: "sd2", 2048: "sdxl", 1280: "sdxl-refiner"}
_HIDDEN = {128: "starter", 768: "sd1", 1024: "sd2"}


def find_base(modules: list[Module], naming: str) -> Guess:
    """The architecture by shapes; None with what could not be told."""
    if naming == "cloneofsimo":
        return _cloneofsimo(modules)
    unet = [m for m in modules if m.part == "unet"]
    if unet:
        return _unet(unet, modules)
    transformer = [m for m in modules if m.part == "transformer"]
    return _transformer(transformer) if transformer else _text_only(modules, naming)


def _unet(unet: list[Module], modules: list[Module]) -> Guess:
    contexts = {m.width for m in unet if m.width and _TEXT.search(m.name)}
    if len(contexts) == 1:
        context = contexts.pop()
        return _CONTEXTS.get(context), f"its layers read {context} numbers per token of text"
    if contexts:
        return None, "its layers read texts of different widths"
    if any(m.part == "text-encoder-2" for m in modules):
        return "sdxl", "it changes a second text encoder"
    if any(re.search(r"transformer_blocks_[1-9]", m.name) for m in unet):
        return "sdxl", "it changes more than one transformer block of a level"
    return None, "it changes no layer that reads the text, so its base cannot be told"


def _cloneofsimo(modules: list[Module]) -> Guess:
    """Its layers are only numbered; a U-Net's own widths are 320, 640 and 1280, so 768 is the text's."""
    widths = {m.width for m in modules if m.part == "unet"} or {m.width for m in modules}
    for width in (2048, 1024, 768):
        if width in widths:
            return _CONTEXTS[width], f"its layers read {width} numbers per token of text"
    return None, "its layers have no widths by which a base can be told"


def _text_only(modules: list[Module], naming: str) -> Guess:
    """With one text encoder `lora_te_` is kohya's name; `lora_te1_` and `text_encoder.` are many bases'."""
    widths = {m.width for m in modules if re.search(r"_(q|k|v|q_proj|k_proj|v_proj)$", m.name)} - {0}
    parts = {m.part for m in modules}
    if "text-encoder-2" in parts and widths <= {768, 1280}:
        return "sdxl", "it changes SDXL's two text encoders"
    if len(widths) == 1 and parts == {"text-encoder"}:
        width = widths.pop()
        if width != 768 or naming == "kohya":
            return _HIDDEN.get(width), f"it changes a text encoder of width {width}"
    return None, "it changes only a text encoder that many bases have"


class _Layers(NamedTuple):
    """What the rules look at: names with underscores, names as they stand in the file, widths by name."""

    names: tuple[str, ...]
    stems: tuple[str, ...]
    widths: dict[str, int]

    def some(self, pattern: str) -> bool:
        search = re.compile(pattern).search
        return any(search(name) for name in self.names)

    def width(self, pattern: str) -> int:
        """The one width of the layers whose names fit; 0 where there is none or several."""
        search = re.compile(pattern).search
        found = {width for name, width in self.widths.items() if width and search(name)}
        return found.pop() if len(found) == 1 else 0

    def highest(self, pattern: str) -> int:
        """The highest block number; `pattern` has it as its only group."""
        search = re.compile(pattern).search
        return max((int(m[1]) for name in self.names if (m := search(name))), default=-1)


def _transformer(modules: list[Module]) -> Guess:
    layers = _Layers(
        tuple(m.name for m in modules), tuple(m.stem for m in modules), {m.name: m.width for m in modules}
    )
    for fits, tell, why in _RULES:
        if layers.some(fits):
            found = tell(layers)
            return found, why if found else f"{why}, which more than one base has"
    return None, "its layers are those of no base that is known here"


def _double_blocks(layers: _Layers) -> str | None:
    """Flux.1 and HunyuanVideo share these names; only some layers and the number of blocks differ."""
    if layers.some(r"distilled_guidance_layer"):
        return "chroma"
    width = layers.width(r"double_blocks_\d{1,4}_img_attn_qkv$|single_blocks_\d{1,4}_linear1$")
    if width not in (0, 3072):
        return {6144: "flux2", 4096: "flux2-9b"}.get(width)
    if layers.some(r"_(mlp_fc1|mlp_fc2|mod_linear|modulation_linear|individual_token_refiner)"):
        return "hunyuan-video"
    double, single = layers.highest(r"double_blocks_(\d{1,4})_"), layers.highest(r"single_blocks_(\d{1,4})_")
    if (
        double > 18
        or single > 37
        or any(".img_attn_" in stem or ".txt_attn_" in stem for stem in layers.stems)
    ):
        return "hunyuan-video"
    dotted = any(".img_attn." in stem or ".txt_attn." in stem for stem in layers.stems)
    own = dotted or layers.some(r"_(mlp_0|mlp_2|mod_lin|modulation_lin)$")
    return "flux1" if own or double == 18 or single == 37 else None


def _joint_attention(layers: _Layers) -> str | None:
    """Layers with `add_q_proj`, or single blocks: Flux.1, Flux.2, SD3, Qwen-Image in diffusers' names."""
    width = layers.width(r"transformer_blocks_\d{1,4}_attn_to_q$")
    if layers.some(r"single_transformer_blocks_\d{1,4}_attn_to_qkv_mlp_proj"):
        width = width or layers.width(r"to_qkv_mlp_proj$")
        return {6144: "flux2", 4096: "flux2-9b", 3072: "flux2-4b"}.get(width)
    if width == 1536:
        return "sd35m" if layers.some(r"_attn2_") else "sd3"
    if width == 2432:
        return "sd35l"
    if width not in (0, 3072):
        return None
    double = layers.highest(r"^transformer_blocks_(\d{1,4})_")
    single = layers.highest(r"^single_transformer_blocks_(\d{1,4})_")
    if layers.some(r"(img|txt)_(mlp|mod)_") or (double > 19 and single < 0):
        return "qwen"
    if double > 18 or single > 37:
        return "hunyuan-video"
    return "flux1" if single >= 0 or layers.some(r"_(ff_context|norm1_context)_") else None


def _wan(layers: _Layers) -> str | None:
    width = layers.width(r"(self_attn_q|self_attn_k|attn1_to_q|attn1_to_k|cross_attn_q|attn2_to_q)$")
    if width == 5120:
        image = layers.some(r"(cross_attn_k_img|cross_attn_v_img|add_k_proj|add_v_proj)$")
        return "wan-i2v" if image else "wan-14b"
    return {192: "video-starter", 1536: "wan-1.3b", 3072: "wan22-5b"}.get(width)


def _single_stream(layers: _Layers) -> str | None:
    width = layers.width(r"^transformer_blocks_\d{1,4}_attn1_to_(q|k|v)$")
    return {2048: "ltxv", 4096: "ltxv", 1152: "pixart-e", 1920: "cogvideox"}.get(width)


def _layered(layers: _Layers) -> str | None:
    return {3840: "zimage", 2304: "lumina2"}.get(layers.width(r"^layers_\d{1,4}_attention_(qkv|to_q|to_k)$"))


def _sd3(layers: _Layers) -> str | None:
    width = layers.width(r"joint_blocks_\d{1,4}_x_block_attn_(qkv|proj)$")
    return {1536: "sd35m" if layers.some(r"x_block_attn2_") else "sd3", 2432: "sd35l"}.get(width)


_RULES: tuple[tuple[str, Callable[[_Layers], str | None], str], ...] = (
    (r"^joint_blocks_\d", _sd3, "it changes joint blocks, as LoRAs for SD 3 do"),
    (r"^double_stream_blocks_\d", lambda _: "hidream", "it changes HiDream's double-stream blocks"),
    (r"^(double_layers|joint_transformer_blocks)_\d", lambda _: "auraflow", "it changes AuraFlow's layers"),
    (r"^(double_blocks|single_blocks)_\d", _double_blocks, "it changes double and single blocks"),
    (
        r"single_transformer_blocks_\d|transformer_blocks_\d{1,4}_(attn_(add_|to_)|(img|txt)_m)",
        _joint_attention,
        "it changes layers where picture and text meet",
    ),
    (r"(audio_to_video|video_to_audio)_attn", lambda _: "ltxv2", "it changes LTX-2's layers for sound"),
    (r"^transformer_blocks_\d{1,4}_attn1", _single_stream, "it changes a single stream of blocks"),
    (r"^layers_\d{1,4}_attention", _layered, "it changes a single stream of layers"),
    (r"^blocks_\d{1,4}_cross_attn_(q|k|v)_proj", lambda _: None, "it changes Cosmos' blocks"),
    (r"^blocks_\d{1,4}_(self_attn|cross_attn|attn1|attn2)_", _wan, "it changes Wan's blocks"),
)
"""(names that lead here, which base it is, how it was told)"""
