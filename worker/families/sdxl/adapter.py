"""Stable Diffusion XL: two CLIP text encoders, and a U-Net that is told how each picture was cut.

Both encoders give the layer before their last; the second one's pooled output and six numbers of the
picture go in beside the time step. An empty text is all zeros, as SDXL itself learnt it. The VAE
overflows in fp16, so it runs in fp32 unless its configuration says that it need not.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionXLPipeline
from torch import Tensor
from transformers import CLIPTextModelWithProjection

from app.contract.family import FamilySpec
from worker.draws import Draws
from worker.families.base import (
    NOTHING,
    Batch,
    CheckpointRefused,
    Chosen,
    Cond,
    Family,
    Latents,
    LoraTargets,
    Parts,
)
from worker.families.checkpoints import Layout, Source, open_checkpoint
from worker.families.clip_unet import CLIP_L, NO_TEXT, UNET, VAE
from worker.families.kohya_keys import SDXL_UNET, from_any, sdxl_name, to_kohya
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
from worker.families.ldm_keys import clip_place, open_clip_place
from worker.families.sdxl.spec import SPEC
from worker.families.single_file import Part

LATENT = 8
"""Pixels a latent."""
NEVER_READ = r"encoder\.layers\.11\.|^(text_model\.)?final_layer_norm\."
"""Of the first text encoder: behind the layer that is taken."""
TEXT_1 = Part(
    "text_encoder",
    CLIP_L.kind,
    ("conditioner.embedders.0.transformer.",),
    clip_place,
    lacking=NO_TEXT,
    spare=NEVER_READ,
)
TEXT_2 = Part(
    "text_encoder_2",
    CLIPTextModelWithProjection,
    ("conditioner.embedders.1.model.",),
    open_clip_place,
    lacking=NO_TEXT,
)
LAYOUT = Layout(
    SPEC.title,
    (UNET, VAE, TEXT_1, TEXT_2),
    ("tokenizer", "tokenizer_2"),
    configs=Path(__file__).with_name("config"),
)


@dataclass(frozen=True)
class SDXL:
    spec: FamilySpec
    layout: Layout

    def load(self, base: Path, device: torch.device, dtype: torch.dtype, chosen: Chosen = NOTHING) -> Parts:
        source = open_checkpoint(base, self.layout, chosen)
        parts = self._open(source, base, device, dtype)
        parts.chosen = chosen
        self._encoders(parts, source)
        parts.notes = source.notes
        return parts

    def _open(self, source: Source, base: Path, device: torch.device, dtype: torch.dtype) -> Parts:
        return Parts(
            base=base,
            device=device,
            model=frozen(source.model("unet", dtype), torch.device("cpu")),
            tokenizer=source.tokenizer("tokenizer"),
            tokenizer_2=source.tokenizer("tokenizer_2"),
            scheduler=source.noise_schedule(),
        )

    def load_encoders(self, parts: Parts) -> None:
        if parts.text_encoder is None or parts.vae is None:
            self._encoders(parts, open_checkpoint(parts.base, self.layout, parts.chosen))

    def _encoders(self, parts: Parts, source: Source, dtype: torch.dtype = torch.float32) -> None:
        for name in ("text_encoder", "text_encoder_2"):
            if getattr(parts, name) is None:
                setattr(parts, name, frozen(source.model(name, dtype), parts.device))
        if parts.vae is None:
            parts.vae = frozen(source.model("vae", torch.float32), parts.device)

    def latent_factor(self, parts: Parts) -> int:
        return latent_factor(parts.vae)

    @torch.inference_mode()
    def encode_images(self, parts: Parts, pixels: Tensor) -> Latents:
        return encode_posterior(parts.vae, pixels.to(parts.device))

    def encode_captions(self, parts: Parts, captions: Sequence[str], clip_skip: int, *, live: bool) -> Cond:
        tokens = tokenize(parts.tokenizer, parts.text_encoder, captions).to(parts.device)
        said = torch.tensor([float(bool(caption.strip())) for caption in captions], device=parts.device)
        if live:
            return {"tokens": tokens, "said": said}
        with torch.inference_mode():
            return self._embed(parts, tokens, said, clip_skip)

    def _embed(self, parts: Parts, tokens: Tensor, said: Tensor, clip_skip: int) -> Cond:
        """Token ids [B, T] → embeddings [B, T, D], pooled [B, P]; zeros where `said` [B] is 0."""
        first, _ = hidden(parts.text_encoder, tokens, clip_skip)
        second, pooled = hidden(
            parts.text_encoder_2, padded_with(tokens, parts.tokenizer, parts.tokenizer_2), clip_skip
        )
        embeddings = torch.cat([first.float(), second.float()], dim=-1)
        return {"embeddings": embeddings * said[:, None, None], "pooled": pooled.float() * said[:, None]}

    def count_tokens(self, parts: Parts, caption: str) -> int:
        return count_tokens(parts.tokenizer, caption)

    def lora_targets(self, parts: Parts) -> LoraTargets:
        model, convolutions = unet_targets(parts.model)
        return LoraTargets(
            model, convolutions, text_targets(parts.text_encoder), text_targets(parts.text_encoder_2)
        )

    def loss(self, parts: Parts, batch: Batch, rng: Draws) -> Tensor:
        cond = batch.cond
        if "embeddings" not in cond:
            cond = self._embed(parts, cond["tokens"], cond["said"], batch.clip_skip)
        frames = whole_pictures(batch.mean) if batch.frames is None else batch.frames
        told = {"text_embeds": cond["pooled"].to(parts.model.dtype), "time_ids": frames}
        return unet_loss(parts, batch, rng, cond["embeddings"], told)

    def prediction_type(self, parts: Parts) -> str:
        return predicts(parts)

    def export_keys(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return to_kohya(state, sdxl_name)

    def import_keys(
        self, tensors: Mapping[str, Tensor], modules: Sequence[str], metadata: Mapping[str, str]
    ) -> dict[str, Tensor]:
        return from_any(tensors, modules, SDXL_UNET, metadata)

    def assemble(self, parts: Parts) -> StableDiffusionXLPipeline:
        return StableDiffusionXLPipeline(
            vae=parts.vae,
            text_encoder=parts.text_encoder,
            text_encoder_2=parts.text_encoder_2,
            tokenizer=parts.tokenizer,
            tokenizer_2=parts.tokenizer_2,
            unet=parts.model,
            scheduler=parts.scheduler,
            force_zeros_for_empty_prompt=True,
            add_watermarker=False,
        )

    def pipeline(self, base: Path, dtype: torch.dtype, chosen: Chosen = NOTHING) -> StableDiffusionXLPipeline:
        source = open_checkpoint(base, self.layout, chosen)
        parts = self._open(source, base, torch.device("cpu"), dtype)
        self._encoders(parts, source, dtype)
        if not parts.vae.config.force_upcast:
            parts.vae.to(dtype)
        return self.assemble(parts)


def hidden(encoder: Any, tokens: Tensor, clip_skip: int) -> tuple[Tensor, Any]:
    """Token ids [B, T] → the layer that SDXL reads [B, T, D], and the pooled output where there is one.

    That is the layer before the last, whether `clip_skip` is 1 or 2; from 3 on it counts as A1111 does.
    """
    depth = max(2, clip_skip)
    layers = encoder.config.num_hidden_layers
    if depth > layers:
        raise CheckpointRefused(
            f"Clip skip {clip_skip} is too much for {layers} layers. Choose a smaller one."
        )
    output = encoder(tokens, output_hidden_states=True)
    return output.hidden_states[-depth], getattr(output, "text_embeds", None)


def padded_with(tokens: Tensor, tokenizer: Any, other: Any) -> Tensor:
    """The same ids, padded as the second text encoder learnt it.

    They are not asked of its own tokenizer: that takes an exclamation mark in a text for padding.
    """
    ends = (tokens == tokenizer.eos_token_id).int().cumsum(dim=1)
    behind = (ends > 1) | ((ends == 1) & (tokens != tokenizer.eos_token_id))
    return tokens.masked_fill(behind, other.pad_token_id)


def whole_pictures(latents: Tensor) -> Tensor:
    """`Batch.frames` of pictures that were not cut: [B, 6]."""
    height, width = (side * LATENT for side in latents.shape[-2:])
    return torch.tensor([[height, width, 0, 0, height, width]] * len(latents), device=latents.device).float()


FAMILY: Family = SDXL(SPEC, LAYOUT)
