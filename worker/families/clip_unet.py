"""Stable Diffusion 1's architecture: one CLIP text encoder, a U-Net, an autoencoder.

Shared by the families that have it. Sizes are read from the checkpoint's own configuration: the
starter's autoencoder has another factor and other channels than Stable Diffusion's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextModel

from app.contract.family import FamilySpec
from worker.draws import Draws
from worker.families.base import NOTHING, Batch, CheckpointRefused, Chosen, Cond, Latents, LoraTargets, Parts
from worker.families.checkpoints import Layout, open_checkpoint
from worker.families.kohya_keys import SD1_UNET, from_any, to_kohya
from worker.families.latent_unet import (
    count_tokens,
    encode_posterior,
    frozen,
    latent_factor,
    predicts,
    text_targets,
    tokenize,
    unet_loss,
    unet_targets,
)
from worker.families.ldm_keys import clip_place, unet_place, vae_place
from worker.families.single_file import Part

UNET = Part(
    "unet",
    UNet2DConditionModel,
    ("model.diffusion_model.",),
    unet_place,
    lacking="holds no U-Net as checkpoints have it. Bring the whole checkpoint as one file.",
)
VAE = Part(
    "vae",
    AutoencoderKL,
    ("first_stage_model.", "vae."),
    vae_place,
    lacking="has no VAE in it. Choose a VAE for it, or bring the form of it with a VAE baked in.",
)
NO_TEXT = "has no text encoder in it. Bring the whole checkpoint, with text encoder."
CLIP_L = Part(
    "text_encoder",
    CLIPTextModel,
    ("cond_stage_model.transformer.",),
    clip_place,
    lacking=NO_TEXT,
)


def layout(title: str, configs: Path | None = None) -> Layout:
    """How checkpoints of this architecture lie on disk."""
    return Layout(title, (UNET, VAE, CLIP_L), configs=configs)


@dataclass(frozen=True)
class ClipUNet:
    """A family of this architecture; everything else is in its spec and its layout."""

    spec: FamilySpec
    layout: Layout

    def load(self, base: Path, device: torch.device, dtype: torch.dtype, chosen: Chosen = NOTHING) -> Parts:
        source = open_checkpoint(base, self.layout, chosen)
        parts = Parts(
            base=base,
            chosen=chosen,
            device=device,
            model=frozen(source.model("unet", dtype), torch.device("cpu")),
            tokenizer=source.tokenizer("tokenizer"),
            scheduler=source.noise_schedule(),
        )
        self._encoders(parts, source, torch.float32)
        parts.notes = source.notes
        return parts

    def load_encoders(self, parts: Parts) -> None:
        """fp32: half precision overflows in some autoencoders, and both run only for moments."""
        if parts.text_encoder is None or parts.vae is None:
            self._encoders(parts, open_checkpoint(parts.base, self.layout, parts.chosen), torch.float32)

    def _encoders(self, parts: Parts, source: Any, dtype: torch.dtype) -> None:
        if parts.text_encoder is None:
            parts.text_encoder = frozen(source.model("text_encoder", dtype), parts.device)
        if parts.vae is None:
            parts.vae = frozen(source.model("vae", dtype), parts.device)

    def latent_factor(self, parts: Parts) -> int:
        return latent_factor(parts.vae)

    @torch.inference_mode()
    def encode_images(self, parts: Parts, pixels: Tensor) -> Latents:
        return encode_posterior(parts.vae, pixels.to(parts.device))

    def encode_captions(self, parts: Parts, captions: Sequence[str], clip_skip: int, *, live: bool) -> Cond:
        tokens = tokenize(parts.tokenizer, parts.text_encoder, captions).to(parts.device)
        if live:
            return {"tokens": tokens}
        with torch.inference_mode():
            return {"embeddings": embed(parts.text_encoder, tokens, clip_skip).float()}

    def count_tokens(self, parts: Parts, caption: str) -> int:
        return count_tokens(parts.tokenizer, caption)

    def lora_targets(self, parts: Parts) -> LoraTargets:
        model, convolutions = unet_targets(parts.model)
        return LoraTargets(model, convolutions, text_targets(parts.text_encoder))

    def loss(self, parts: Parts, batch: Batch, rng: Draws) -> Tensor:
        cond = batch.cond.get("embeddings")
        if cond is None:
            cond = embed(parts.text_encoder, batch.cond["tokens"], batch.clip_skip)
        return unet_loss(parts, batch, rng, cond)

    def prediction_type(self, parts: Parts) -> str:
        return predicts(parts)

    def export_keys(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return to_kohya(state)

    def import_keys(
        self, tensors: Mapping[str, Tensor], modules: Sequence[str], metadata: Mapping[str, str]
    ) -> dict[str, Tensor]:
        return from_any(tensors, modules, SD1_UNET, metadata)

    def assemble(self, parts: Parts) -> StableDiffusionPipeline:
        return StableDiffusionPipeline(
            vae=parts.vae,
            text_encoder=parts.text_encoder,
            tokenizer=parts.tokenizer,
            unet=parts.model,
            scheduler=parts.scheduler,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )

    def pipeline(self, base: Path, dtype: torch.dtype, chosen: Chosen = NOTHING) -> StableDiffusionPipeline:
        source = open_checkpoint(base, self.layout, chosen)
        cpu = torch.device("cpu")
        parts = Parts(
            base=base,
            device=cpu,
            model=frozen(source.model("unet", dtype), cpu),
            tokenizer=source.tokenizer("tokenizer"),
            scheduler=source.noise_schedule(),
        )
        self._encoders(parts, source, dtype)
        return self.assemble(parts)


def embed(text_encoder: Any, tokens: Tensor, clip_skip: int) -> Tensor:
    """Tokens [B, T] → embeddings [B, T, D]. `clip_skip` counts as A1111 does: 1 = the last layer."""
    if clip_skip == 1:
        last: Tensor = text_encoder(tokens).last_hidden_state
        return last
    layers = text_encoder.config.num_hidden_layers
    if clip_skip > layers:
        raise CheckpointRefused(
            f"Clip skip {clip_skip} is too much for {layers} layers. Choose a smaller one."
        )
    states = text_encoder(tokens, output_hidden_states=True).hidden_states
    body = getattr(text_encoder, "text_model", text_encoder)
    skipped: Tensor = body.final_layer_norm(states[-clip_skip])
    return skipped
