"""Files that are no base model and no LoRA: VAE, text encoder, embedding, ControlNet, upscaler, others."""

import re
from dataclasses import dataclass

from app.recognition.denoisers import LAYOUTS
from app.recognition.result import EmbeddingFacts, Kind
from app.recognition.view import View


@dataclass(frozen=True)
class Component:
    kind: Kind
    why: str
    architecture: str | None = None
    component: str | None = None
    layout: str | None = None
    embedding: EmbeddingFacts | None = None
    name: str | None = None
    """Base model name where it is another than the architecture's first."""
    note: str = ""


_CONTEXTS = {128: "starter", 768: "sd1", 1024: "sd2", 2048: "sdxl", 1280: "sdxl-refiner"}


def find_control(view: View) -> Component | None:
    """ControlNets and adapters; asked before base models, because they copy half of one."""
    names = view.whole
    if "lora_controlnet" in names:
        return Component("controlnet", "it has the mark of a Control-LoRA", "sdxl", "Control-LoRA")
    hint = ("input_hint_block.0.weight", "controlnet_cond_embedding.conv_in.weight")
    prefix = "control_model." if view.begins("control_model.") else ""
    if any(prefix + mark in names for mark in hint):
        return Component(
            "controlnet", "it has layers for a hint picture", _control_base(view), layout=_layout(view)
        )
    if view.begins(
        "controlnet_blocks.", "controlnet_x_embedder.", "control_layers.", "control_all_x_embedder."
    ):
        return Component("controlnet", "it has control layers", _control_base(view))
    if view.begins("image_proj.", "ip_adapter."):
        return Component("adapter", "it has layers for a reference picture", component="IP-Adapter")
    if view.begins("adapter.body.", "body.0.resnets.") and any(".block1." in name for name in names):
        return Component("adapter", "it has a T2I-Adapter's body", component="T2I-Adapter")
    return None


def _control_base(view: View) -> str | None:
    texts = {shape[-1] for n, shape in view.whole.items() if n.endswith("attn2.to_k.weight") and shape}
    if len(texts) == 1:
        return _CONTEXTS.get(texts.pop())
    if view.begins("double_blocks.", "single_transformer_blocks."):
        return "flux1"
    return None


def _layout(view: View) -> str | None:
    first = {layout: mark for layout, mark, _, _ in LAYOUTS[:2]}
    whole = view.whole
    return next((k for k, m in first.items() if m in whole or f"control_model.{m}" in whole), None)


def find_component(view: View) -> Component | None:
    """What is left when it is no base model and no LoRA."""
    for find in (_motion, _vae, _text_encoder, _image_encoder, _embedding, _depth, _upscaler):
        if found := find(view):
            return found
    return None


def _motion(view: View) -> Component | None:
    if any(".motion_modules." in name for name in view.whole):
        return Component("motion-module", "it has motion layers", component="AnimateDiff")
    return None


def _vae(view: View) -> Component | None:
    """Encoder and decoder, or a decoder alone. The latent channels tell less than people hope."""
    for start in ("", "first_stage_model.", "vae."):
        shape = view.whole.get(f"{start}decoder.conv_in.weight", ())
        last = view.whole.get(f"{start}decoder.conv_out.weight", ())
        if len(shape) == 4 and len(last) == 4 and last[0] == 3:
            diffusers = f"{start}decoder.mid_block.resnets.0.conv1.weight" in view.whole
            return _picture_vae(shape[1], shape[0], "diffusers" if diffusers else "ldm")
        if len(shape) == 5:
            return Component("vae", "it has an encoder and a decoder over time", component="video VAE")
    if "decoder.conv1.weight" in view.whole and "decoder.head.0.gamma" in view.whole:
        return Component("vae", "it has Wan's decoder", component="Wan's VAE")
    if "decoder.layers.0.weight" in view.whole and "encoder.layers.0.weight" in view.whole:
        return Component("vae", "it has the layers of a tiny autoencoder", component="tiny VAE (TAESD)")
    return None


def _picture_vae(latent: int, width: int, layout: str) -> Component:
    why = f"it has an encoder and a decoder for {latent} latent channels"
    if (latent, width) == (12, 128):
        return Component("vae", why, "starter", f"VAE with {latent} latent channels", layout)
    note = {
        4: "VAEs of SD 1.x, SD 2.x and SDXL have the same tensors; say which it is for.",
        16: "VAEs of SD 3, Flux.1 and others have the same tensors; say which it is for.",
    }.get(latent, "")
    return Component("vae", why, component=f"VAE with {latent} latent channels", layout=layout, note=note)


_TOKENS: tuple[tuple[str, dict[int, tuple[str, str | None]]], ...] = (
    (
        "embeddings.token_embedding.weight",
        {
            768: ("CLIP ViT-L/14", None),
            1280: ("CLIP ViT-bigG", None),
            128: ("Starter text encoder", "starter"),
        },
    ),
    (
        "token_embedding.weight",
        {
            1024: ("OpenCLIP ViT-H/14", "sd2"),
            1280: ("OpenCLIP ViT-bigG/14", None),
            768: ("CLIP ViT-L/14", None),
        },
    ),
    ("shared.weight", {4096: ("T5 XXL", None), 2048: ("T5 XL", None), 1024: ("T5 Large", None)}),
)
_USED_BY = {
    "CLIP ViT-L/14": "SD 1.x, SDXL, SD 3 and Flux.1 use this text encoder.",
    "CLIP ViT-bigG": "SDXL and SD 3 use this text encoder.",
    "OpenCLIP ViT-bigG/14": "SDXL and its refiner use this text encoder.",
    "T5 XXL": "SD 3, Flux.1, LTX-Video and others use this text encoder.",
    "UMT5 XXL": "Wan's models use this text encoder.",
}
_UMT5_TOKENS = 250_000
"""T5 knows 32,128 tokens, UMT5 of a hundred languages 256,384."""


def _text_encoder(view: View) -> Component | None:
    for ending, sizes in _TOKENS:
        found = next((s for n, s in view.whole.items() if n == ending or n.endswith(f".{ending}")), ())
        if len(found) == 2 and found[1] in sizes and found[0] > 1000:
            words, architecture = sizes[found[1]]
            words = f"UM{words}" if words.startswith("T5") and found[0] > _UMT5_TOKENS else words
            why = f"it knows {found[0]:,} tokens, {found[1]} numbers each"
            name = "Wan Video" if words == "UMT5 XXL" else None
            return Component(
                "text-encoder", why, architecture, words, name=name, note=_USED_BY.get(words, "")
            )
    embedded = next((s for n, s in view.whole.items() if n.endswith("model.embed_tokens.weight")), ())
    if len(embedded) == 2:
        return Component("text-encoder", "it has a language model's layers", component="language model")
    return None


def find_text_encoder(view: View, said: str) -> Component:
    """Of a folder that is called so; `said` is the kind of model that its configuration names."""
    found = _text_encoder(view)
    words = _SAID.get(said, "language model")
    if found is not None and (found.component or "").startswith(words):
        return found
    return Component("text-encoder", "it lies in a folder of that name", component=words)


_SAID = {"umt5": "UMT5", "t5": "T5", "clip_text_model": "CLIP"}
"""`model_type` of a configuration → how the names of such encoders begin."""


def _image_encoder(view: View) -> Component | None:
    if any(n.endswith("vision_model.embeddings.patch_embedding.weight") for n in view.whole):
        return Component("image-encoder", "it reads pictures in patches", component="CLIP vision")
    return None


_WIDTHS = {128: "starter", 768: "sd1", 1024: "sd2"}
_TWO = {"clip_l": 768, "clip_g": 1280}


def _embedding(view: View) -> Component | None:
    """Textual inversion: rows of a token table, under one of the names that programs give them."""
    shapes = {name: shape for name, shape in view.whole.items() if len(shape) in (1, 2)}
    if set(shapes) == set(view.whole) and set(shapes) == set(_TWO):
        if all(shapes[name][-1] == width for name, width in _TWO.items()):
            rows = _rows(shapes["clip_l"])
            facts = EmbeddingFacts(vectors=rows, width=768)
            return Component("embedding", "it has vectors for two text encoders", "sdxl", embedding=facts)
        return None
    if len(view.whole) != 1 or not shapes:
        return None
    [(name, shape)] = shapes.items()
    named = name in ("emb_params", "*", "clip_l") or re.fullmatch(r"<[^<>]{1,100}>", name)
    if not (named or name.startswith("string_to_param")) or not 1 <= _rows(shape) <= 300:
        return None
    facts = EmbeddingFacts(vectors=_rows(shape), width=shape[-1])
    why = f"it is {facts.vectors} vectors of {facts.width} numbers"
    return Component("embedding", why, _WIDTHS.get(shape[-1]), embedding=facts)


def _rows(shape: tuple[int, ...]) -> int:
    return shape[0] if len(shape) == 2 else 1


def _depth(view: View) -> Component | None:
    start = "depth_model.model." if view.begins("depth_model.model.") else ""
    if f"{start}pretrained.act_postprocess3.0.project.0.weight" in view.whole:
        note = "It is the part of the SD 2.0 depth checkpoint that looks at a picture."
        why = "it has the layers of MiDaS"
        return Component("other", why, "sd2", "depth estimator (MiDaS)", name="SD 2.0", note=note)
    return None


def _upscaler(view: View) -> Component | None:
    names = view.whole
    first = names.get("conv_first.weight", ())
    if len(first) == 4 and view.begins("body.0.rdb1.", "layers.0.residual_group."):
        return Component("upscaler", "it has the layers of ESRGAN or SwinIR", component="ESRGAN or SwinIR")
    if "model.0.weight" in names and view.begins("model.1.sub.0.RDB1."):
        return Component("upscaler", "it has the layers of ESRGAN", component="ESRGAN")
    compact = names.get("body.0.weight", ())
    if len(compact) == 4 and compact[1] == 3 and "body.1.weight" in names and len(names) < 200:
        plain = all(re.fullmatch(r"body\.\d{1,3}\.(weight|bias)", name) for name in names)
        return (
            Component("upscaler", "it has the layers of a compact ESRGAN", component="ESRGAN")
            if plain
            else None
        )
    return None
