"""Which base model a checkpoint is: U-Nets by their sizes, transformers by tensors that only they have.

A U-Net has to have all attention layers of its base: what has fewer is a relative that cannot run as one.
Sources: the key names by which diffusers, ComfyUI and InvokeAI tell these files apart.
"""

from dataclasses import dataclass

from app.recognition.view import EMA, View

Size = tuple[str, int, int]
"""(tensor, axis, length)"""


@dataclass(frozen=True)
class Found:
    """An architecture, and what only the shapes say of the variant."""

    architecture: str
    why: str
    layout: str = "original"
    variant: str = "base"
    name: str | None = None
    """Base model name where it is another than the architecture's first."""


@dataclass(frozen=True)
class UNet:
    """Sizes of a U-Net: channels of its first level and its middle, width of the text, attention layers."""

    architecture: str
    width: int
    context: int
    layers: int


UNETS = (
    UNet("starter", 64, 128, 7),
    UNet("sd1", 320, 768, 16),
    UNet("sd2", 320, 1024, 16),
    UNet("sdxl", 320, 2048, 70),
    UNet("sdxl-refiner", 384, 1280, 44),
)
IN_CHANNELS = {9: "inpaint", 8: "pix2pix", 5: "depth", 7: "upscale"}
LAYOUTS = (
    ("ldm", "input_blocks.0.0.weight", "out.2.weight", ".attn2.to_k.weight"),
    ("diffusers", "conv_in.weight", "conv_out.weight", ".attn2.to_k.weight"),
    ("ema", "input_blocks00weight", "out2weight", "attn2to_kweight"),
    ("ema", f"{EMA}input_blocks00weight", f"{EMA}out2weight", "attn2to_kweight"),
)
"""(layout, first convolution, last convolution, ending of the layers that read the text)"""
_VIDEO = ("time_stack", "temp_convs", "temopral_conv", "motion_modules", "time_mixer")


def find_unet(view: View) -> Found | None:
    """The base of a whole U-Net (first and last layer present), or None."""
    for layout, first, last, ending in LAYOUTS:
        if view.has(first) and view.has(last):
            layers = [n for n in view.denoiser if n.endswith(ending)]
            return _unet(view, layout, view.denoiser[first], layers)
    return None


def _unet(view: View, layout: str, first: tuple[int, ...], layers: list[str]) -> Found | None:
    contexts = {view.size(name, -1) for name in layers}
    if len(first) != 4 or len(contexts) != 1:
        return None
    width, channels, context = first[0], first[1], contexts.pop()
    why = f"its U-Net starts with {width} channels and reads {context} numbers per token"
    if any(part in name for name in view.denoiser for part in _VIDEO):
        svd = context == 1024 and channels == 8
        return Found("svd", "its U-Net has layers over time", layout) if svd else None
    if context == 2048 and view.has("encoder_hid_proj.weight"):
        return Found("kolors", "its U-Net reads a language model's text", layout)
    if context == 1024 and channels == 7 and width == 256:
        return Found("sd2", f"{why}, as the 4x upscaler does", layout, "upscale")
    for known in UNETS:
        if (known.width, known.context, known.layers) == (width, context, len(layers)):
            return _variant(Found(known.architecture, why, layout), channels)
    if context == 2048 and width == 320:
        return Found("sdxl-small", f"{why}, with {len(layers)} of SDXL's 70 layers", layout)
    return None


def _variant(found: Found, channels: int) -> Found | None:
    usual = 12 if found.architecture == "starter" else 4
    variant = "base" if channels == usual else IN_CHANNELS.get(channels)
    if variant is None:
        return None
    if found.architecture == "sdxl-refiner" and variant == "base":
        variant = "refiner"
    # Only 2.0 was published with these inputs.
    name = "SD 2.0" if found.architecture == "sd2" and variant in ("inpaint", "depth") else None
    return Found(found.architecture, found.why, found.layout, variant, name)


@dataclass(frozen=True)
class Row:
    """One line of the table of transformers: all of `marks` and `sizes` have to be there."""

    architecture: str
    marks: tuple[str, ...] = ()
    sizes: tuple[Size, ...] = ()
    layout: str = "original"
    variant: str = "base"
    name: str | None = None


_BFL = "double_blocks.0.img_attn.norm.key_norm.*"
_FLUX_D = ("single_transformer_blocks.0.attn.to_q.weight", "transformer_blocks.0.attn.add_q_proj.weight")
_GUIDED = "time_text_embed.guidance_embedder.linear_1.weight"
_SD3 = "joint_blocks.0.context_block.adaLN_modulation.1.bias"
_SD3_D = "transformer_blocks.0.attn.add_q_proj.weight"
_WAN = ("head.modulation", "patch_embedding.weight")
_WAN_D = ("blocks.0.attn1.to_q.weight", "condition_embedder.time_proj.weight")
_PATCH = "patch_embedding.weight"
_LTX_D = "transformer_blocks.27.scale_shift_table"
_REFINER = "txt_in.individual_token_refiner.blocks.0.*"
_REFINER_D = "context_embedder.token_refiner.refiner_blocks.0.*"
_HUNYUAN_IN = "img_in.proj.weight"
_FLUX2 = "single_stream_modulation.lin.weight"
_FLUX2_D = "single_stream_modulation.linear.weight"

ROWS: tuple[Row, ...] = (
    Row("chroma", ("distilled_guidance_layer.in_proj.bias",)),
    Row("flux2", (_FLUX2,), (("txt_in.weight", 1, 15360),)),
    Row("flux2-9b", (_FLUX2,), (("txt_in.weight", 1, 12288),)),
    Row("flux2-4b", (_FLUX2,), (("txt_in.weight", 1, 7680),)),
    Row("flux2", (_FLUX2_D,), (("context_embedder.weight", 1, 15360),), "diffusers"),
    Row("flux2-9b", (_FLUX2_D,), (("context_embedder.weight", 1, 12288),), "diffusers"),
    Row("flux2-4b", (_FLUX2_D,), (("context_embedder.weight", 1, 7680),), "diffusers"),
    Row("hunyuan-video", (_REFINER,), ((_HUNYUAN_IN, 1, 33),), variant="i2v"),
    Row("hunyuan-video", (_REFINER,), ((_HUNYUAN_IN, 1, 32),), variant="i2v"),
    Row("hunyuan-video", (_REFINER,), ((_HUNYUAN_IN, 1, 16),)),
    Row("hunyuan-video", (_REFINER, "byt5_in.fc1.weight", "vision_in.*")),
    Row("hunyuan-image", (_REFINER, "byt5_in.fc1.weight")),
    Row("hunyuan-video", (_REFINER_D, "transformer_blocks.0.attn.add_q_proj.weight"), (), "diffusers"),
    Row("flux1", (_BFL, "guidance_in.*"), (("img_in.weight", 1, 384),), variant="inpaint"),
    Row("flux1", (_BFL, "guidance_in.*"), (("img_in.weight", 1, 128),), variant="control"),
    Row("flux1", (_BFL, "guidance_in.*")),
    Row("flux1", (_BFL,), (("img_in.weight", 0, 3072),), name="Flux.1 S"),
    Row("flux1", (*_FLUX_D, _GUIDED), (("x_embedder.weight", 1, 384),), "diffusers", "inpaint"),
    Row("flux1", (*_FLUX_D, _GUIDED), (("x_embedder.weight", 1, 128),), "diffusers", "control"),
    Row("flux1", (*_FLUX_D, _GUIDED), (), "diffusers"),
    Row("flux1", _FLUX_D, (("x_embedder.weight", 0, 3072),), "diffusers", name="Flux.1 S"),
    Row("sd35l", (_SD3, "joint_blocks.37.x_block.mlp.fc1.weight")),
    Row("sd35m", (_SD3,), (("pos_embed", 1, 147456),)),
    Row("sd3", (_SD3,), (("pos_embed", 1, 36864),)),
    Row("sd35l", (_SD3_D, "pos_embed.proj.weight", "transformer_blocks.37.*"), (), "diffusers"),
    Row("sd35m", (_SD3_D, "pos_embed.proj.weight", "transformer_blocks.0.attn2.*"), (), "diffusers"),
    Row("sd3", (_SD3_D, "pos_embed.proj.weight"), (("pos_embed.pos_embed", 1, 36864),), "diffusers"),
    Row("wan-14b", (*_WAN, "vace_blocks.*"), ((_PATCH, 0, 5120),), variant="vace", name="Wan Video"),
    Row("wan-1.3b", (*_WAN, "vace_blocks.*"), ((_PATCH, 0, 1536),), variant="vace", name="Wan Video"),
    Row("wan22-i2v", (*_WAN, "face_adapter.*"), variant="animate", name="Wan Video"),
    Row("wan22-i2v", (*_WAN, "audio_injector.*"), variant="speech", name="Wan Video"),
    Row("wan22-i2v", (*_WAN, "control_adapter.*"), variant="control", name="Wan Video"),
    Row("wan22-5b", _WAN, ((_PATCH, 0, 3072), (_PATCH, 1, 48))),
    Row("wan-i2v", (*_WAN, "img_emb.proj.0.*"), ((_PATCH, 0, 5120), (_PATCH, 1, 36)), variant="i2v"),
    Row("wan22-i2v", _WAN, ((_PATCH, 0, 5120), (_PATCH, 1, 36)), variant="i2v"),
    Row("wan-14b", _WAN, ((_PATCH, 0, 5120), (_PATCH, 1, 16))),
    Row("wan-1.3b", _WAN, ((_PATCH, 0, 1536), (_PATCH, 1, 16))),
    Row("video-starter", _WAN_D, ((_PATCH, 0, 192), (_PATCH, 1, 16)), "diffusers"),
    Row("wan22-5b", _WAN_D, ((_PATCH, 0, 3072), (_PATCH, 1, 48)), "diffusers"),
    Row("wan-i2v", (*_WAN_D, "condition_embedder.image_embedder.*"), ((_PATCH, 1, 36),), "diffusers", "i2v"),
    Row("wan22-i2v", _WAN_D, ((_PATCH, 0, 5120), (_PATCH, 1, 36)), "diffusers", "i2v"),
    Row("wan-14b", _WAN_D, ((_PATCH, 0, 5120), (_PATCH, 1, 16)), "diffusers"),
    Row("wan-1.3b", _WAN_D, ((_PATCH, 0, 1536), (_PATCH, 1, 16)), "diffusers"),
    Row("ltxv2", ("av_ca_a2v_gate_adaln_single.*",)),
    Row("ltxv", ("patchify_proj.weight", "transformer_blocks.27.scale_shift_table")),
    Row("ltxv2", (_LTX_D, "audio_proj_in.weight"), (), "diffusers"),
    Row("ltxv", (_LTX_D, "proj_in.weight", "caption_projection.linear_1.weight"), (), "diffusers"),
    Row("qwen", ("txt_norm.weight", "transformer_blocks.0.attn.add_q_proj.weight")),
    Row("zimage", ("cap_embedder.0.weight",), (("cap_embedder.1.weight", 0, 3840),)),
    Row("lumina2", ("cap_embedder.0.weight",), (("cap_embedder.1.weight", 0, 2304),)),
    Row("lumina2", ("time_caption_embed.caption_embedder.0.weight",), (), "diffusers"),
    Row("hidream", ("double_stream_blocks.0.*", "single_stream_blocks.0.*")),
    Row("auraflow", ("double_layers.0.attn.w1q.weight",)),
    Row("auraflow", ("joint_transformer_blocks.0.*", "context_embedder.weight"), (), "diffusers"),
    Row("anima", ("x_embedder.proj.1.weight", "llm_adapter.*")),
    Row("cosmos", ("x_embedder.proj.1.weight", "blocks.0.*")),
    Row("pixart-a", ("t_block.1.weight", "y_embedder.*", "csize_embedder.*")),
    Row("pixart-e", ("t_block.1.weight", "y_embedder.*", "x_embedder.proj.weight")),
    Row("pixart-a", ("adaln_single.emb.resolution_embedder.*", "pos_embed.proj.bias"), (), "diffusers"),
    Row("pixart-e", ("adaln_single.linear.weight", "pos_embed.proj.bias"), (), "diffusers"),
    Row("hunyuan1", ("mlp_t5.0.weight", "blocks.0.*")),
    Row("mochi", ("blocks.0.attn.qkv_x.weight",)),
    Row("sana", ("blocks.0.cross_attn.q_linear.weight", "blocks.0.cross_attn.kv_linear.weight")),
    Row("cascade", ("clip_txt_mapper.weight",)),
    Row("cascade", ("down_blocks.1.0.channelwise.0.weight",)),
    Row("cogvideox", ("patch_embed.text_proj.weight", "transformer_blocks.0.attn1.*"), (), "diffusers"),
    Row("ace-step", ("genre_embedder.weight", "lyric_embs.weight")),
)
"""The first row that fits is taken, so what is special stands before what is general."""


def find_transformer(view: View) -> Found | None:
    """The base of a diffusion transformer, or None."""
    for row in ROWS:
        fits = all(view.has(mark) for mark in row.marks)
        if fits and all(view.size(name, axis) == length for name, axis, length in row.sizes):
            why = f"it has the tensor {row.marks[0].removesuffix('.*')}"
            return Found(row.architecture, why, row.layout, row.variant, row.name)
    return None
