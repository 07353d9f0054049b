"""LTX-Video: T5 reads the text, a transformer sees the latents as one row of tokens with places in time.

Places are told in seconds and pixels, so the clip's rate matters. Layers have one name everywhere.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLLTXVideo, LTXPipeline, LTXVideoTransformer3DModel
from torch import Tensor
from transformers import T5EncoderModel

from app.contract.family import FamilySpec
from app.recognition.transformer_names import LtxNames
from worker.draws import Draws
from worker.families.base import (
    NOTHING,
    Batch,
    Chosen,
    Cond,
    Family,
    Latents,
    LoraTargets,
    Parts,
)
from worker.families.checkpoints import Layout, Source, open_checkpoint
from worker.families.clip_latents import (
    block_targets,
    check_channels,
    check_text,
    count_tokens,
    encode_clips,
    tokenize,
)
from worker.families.clip_names import ltx_place, ltx_vae_place
from worker.families.diffusion_model_keys import from_diffusion_model, to_diffusion_model
from worker.families.flow import flow_loss
from worker.families.latent_unet import frozen
from worker.families.ltx.spec import SPEC
from worker.families.single_file import Part, SingleFile, as_it_is

MOST_TOKENS = 128
"""Of a text."""
NAMES = LtxNames()


def _check(folder: Path) -> None:
    check_channels(folder, SPEC.title, "latent_channels")


def _sizes(layout: Layout, name: str, file: SingleFile) -> dict[str, Any]:
    """Versions differ in their sizes alone, and tensors have them; only heads are in the file's metadata."""
    if name == "vae":
        return layout.config(_vae_version(file))
    part, config = layout.part(name), layout.config(name)
    inner = file.shape(part, ("patchify_proj.weight", "proj_in.weight"))
    text = file.shape(part, ("caption_projection.linear_1.weight",))
    cross = file.shape(part, ("transformer_blocks.0.attn2.to_k.weight",))
    if not inner or not text or not cross:
        return config
    heads = int(_said(file).get("num_attention_heads") or config["num_attention_heads"])
    blocks = {int(found[1]) for key in file.shapes if (found := BLOCK.search(key))}
    return config | {
        "in_channels": inner[1],
        "out_channels": inner[1],
        "num_attention_heads": heads,
        "attention_head_dim": inner[0] // heads,
        "cross_attention_dim": cross[1],
        "caption_channels": text[1],
        "num_layers": max(blocks) + 1,
    }


def _said(file: SingleFile) -> dict[str, Any]:
    """What the file's metadata says of its transformer."""
    try:
        found = json.loads(file.metadata.get("config", "{}"))["transformer"]
    except (ValueError, KeyError, TypeError):
        return {}
    heads = found.get("num_attention_heads") if isinstance(found, dict) else None
    return {"num_attention_heads": heads} if isinstance(heads, int) and heads > 0 else {}


def _vae_version(file: SingleFile) -> str:
    last = file.shape(VAE, ("encoder.conv_out.conv.weight",))
    if len(last) > 1 and last[1] == WIDEST:
        return "vae_095"
    timed = [f"decoder.{name}.timestep_embedder.linear_1.weight" for name in TIMED]
    return "vae_091" if file.shape(VAE, tuple(timed)) else "vae"


BLOCK = re.compile(r"(?:^|\.)transformer_blocks\.(\d{1,3})\.")
WIDEST = 2048
"""Channels at the end of the encoder, from version 0.9.5 on."""
TIMED = ("last_time_embedder", "time_embedder")
"""In the decoder, from version 0.9.1 on."""
VAE = Part(
    "vae",
    AutoencoderKLLTXVideo,
    ("vae.", ""),
    ltx_vae_place,
    lacking=(
        "holds no VAE of LTX-Video. Choose one for it: a .safetensors file of the type VAE, or the complete "
        "file of LTX-Video."
    ),
    our_mark="encoder.mid_block.resnets.0.conv1.conv.weight",
)
LAYOUT = Layout(
    SPEC.title,
    (
        Part(
            "transformer",
            LTXVideoTransformer3DModel,
            ("", "model.diffusion_model.", "diffusion_model."),
            ltx_place,
            lacking=f"holds no transformer of {SPEC.title}.",
            our_mark="proj_in.weight",
        ),
        VAE,
        Part("text_encoder", T5EncoderModel, ("",), as_it_is),
    ),
    configs=Path(__file__).with_name("config"),
    check_transformer=_check,
    sizes=_sizes,
)


@dataclass(frozen=True)
class Ltx:
    spec: FamilySpec
    layout: Layout

    def load(self, base: Path, device: torch.device, dtype: torch.dtype, chosen: Chosen = NOTHING) -> Parts:
        source = open_checkpoint(base, self.layout, chosen)
        parts = self._open(source, base, device, dtype)
        parts.chosen = chosen
        self._encoders(parts, source)
        parts.factors = (parts.vae.temporal_compression_ratio, parts.vae.spatial_compression_ratio)
        parts.notes = source.notes
        return parts

    def _open(self, source: Source, base: Path, device: torch.device, dtype: torch.dtype) -> Parts:
        return Parts(
            base=base,
            device=device,
            model=frozen(source.model("transformer", dtype), torch.device("cpu")),
            tokenizer=source.tokenizer("tokenizer"),
            scheduler=source.noise_schedule(),
        )

    def load_encoders(self, parts: Parts) -> None:
        if parts.text_encoder is None or parts.vae is None:
            self._encoders(parts, open_checkpoint(parts.base, self.layout, parts.chosen))

    def _encoders(self, parts: Parts, source: Source) -> None:
        """The autoencoder in fp32; the text encoder, which is large, as the transformer."""
        if parts.text_encoder is None:
            parts.text_encoder = frozen(source.model("text_encoder", parts.model.dtype), parts.device)
        if parts.vae is None:
            parts.vae = frozen(source.model("vae", torch.float32), parts.device)

    def latent_factor(self, parts: Parts) -> int:
        return int(parts.vae.spatial_compression_ratio)

    @torch.inference_mode()
    def encode_images(self, parts: Parts, pixels: Tensor) -> Latents:
        vae = parts.vae
        return encode_clips(vae, pixels, vae.latents_mean, vae.latents_std / vae.config.scaling_factor)

    def encode_captions(self, parts: Parts, captions: Sequence[str], clip_skip: int, *, live: bool) -> Cond:
        check_text(clip_skip, live=live)
        embeddings, mask = embed(parts.tokenizer, parts.text_encoder, captions)
        return {"embeddings": embeddings, "mask": mask}

    def count_tokens(self, parts: Parts, caption: str) -> int:
        return count_tokens(parts.tokenizer, caption)

    def lora_targets(self, parts: Parts) -> LoraTargets:
        return LoraTargets(block_targets(parts.model, "transformer_blocks"), (), ())

    def loss(self, parts: Parts, batch: Batch, rng: Draws) -> Tensor:
        model, config = parts.model, parts.model.config
        frames, height, width = batch.mean.shape[-3:]
        frame, side = parts.factors
        places = (frame / clip_rate(self.spec), side, side)
        patch, patch_t = config.patch_size, config.patch_size_t

        def predict(noisy: Tensor, timesteps: Tensor) -> Tensor:
            output = model(
                LTXPipeline._pack_latents(noisy.to(model.dtype), patch, patch_t),
                encoder_hidden_states=batch.cond["embeddings"].to(model.dtype),
                timestep=timesteps,
                encoder_attention_mask=batch.cond["mask"],
                num_frames=frames,
                height=height,
                width=width,
                rope_interpolation_scale=places,
                return_dict=False,
            )[0]
            unpacked: Tensor = LTXPipeline._unpack_latents(output, frames, height, width, patch, patch_t)
            return unpacked

        return flow_loss(batch, rng, predict)

    def prediction_type(self, parts: Parts) -> str:  # noqa: ARG002
        return "flow"

    def export_keys(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return to_diffusion_model(state, NAMES)

    def import_keys(
        self, tensors: Mapping[str, Tensor], modules: Sequence[str], metadata: Mapping[str, str]
    ) -> dict[str, Tensor]:
        return from_diffusion_model(tensors, modules, NAMES, metadata)

    def assemble(self, parts: Parts) -> LTXPipeline:
        return LTXPipeline(
            scheduler=parts.scheduler,
            vae=parts.vae,
            text_encoder=parts.text_encoder,
            tokenizer=parts.tokenizer,
            transformer=parts.model,
        )

    def pipeline(self, base: Path, dtype: torch.dtype, chosen: Chosen = NOTHING) -> LTXPipeline:
        source = open_checkpoint(base, self.layout, chosen)
        parts = self._open(source, base, torch.device("cpu"), dtype)
        self._encoders(parts, source)
        return self.assemble(parts)


def clip_rate(spec: FamilySpec) -> float:
    """Frames a second of a family of clips."""
    return spec.clips.rule.fps if spec.clips else 1.0


@torch.inference_mode()
def embed(tokenizer: Any, text_encoder: Any, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Texts → embeddings [B, T, D] in the encoder's precision, and which tokens are no padding [B, T]."""
    ids, mask = tokenize(tokenizer, texts, MOST_TOKENS)
    states: Tensor = text_encoder(ids.to(text_encoder.device)).last_hidden_state
    return states, mask.to(text_encoder.device)


FAMILY: Family = Ltx(SPEC, LAYOUT)
