"""Stable Diffusion 1's architecture: one CLIP text encoder, a U-Net, an autoencoder.

Shared by the families that have it. Sizes are read from the checkpoint's own configuration: the
starter's autoencoder has another factor and other channels than Stable Diffusion's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from diffusers import AutoencoderKL, DDPMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from diffusers.models.downsampling import Downsample2D
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from diffusers.models.upsampling import Upsample2D
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from app.contract.family import FamilySpec
from worker.draws import Draws
from worker.families.base import Batch, CheckpointRefused, Cond, Latents, LoraTargets, Parts
from worker.families.epsilon import denoising_loss
from worker.families.kohya_keys import from_kohya, to_kohya

FOLDERS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")
ADAPTED_TEXT_LAYERS = ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")


@dataclass(frozen=True)
class ClipUNet:
    """A family of this architecture; everything else is in its spec."""

    spec: FamilySpec

    def load(self, base: Path, device: torch.device, dtype: torch.dtype) -> Parts:
        check_folder(base, self.spec.title)
        unet = UNet2DConditionModel.from_pretrained(base / "unet", dtype=dtype, local_files_only=True)
        parts = Parts(
            base=base,
            device=device,
            model=_frozen(unet, device),
            tokenizer=CLIPTokenizer.from_pretrained(base / "tokenizer", local_files_only=True),
            scheduler=_noise_schedule(base / "scheduler"),
        )
        self.load_encoders(parts)
        return parts

    def load_encoders(self, parts: Parts) -> None:
        """fp32: half precision overflows in some autoencoders, and both run only for moments."""
        if parts.text_encoder is None:
            transformers.utils.logging.disable_progress_bar()
            encoder = CLIPTextModel.from_pretrained(
                parts.base / "text_encoder", dtype=torch.float32, local_files_only=True
            )
            parts.text_encoder = _frozen(encoder, parts.device)
        if parts.vae is None:
            vae = AutoencoderKL.from_pretrained(
                parts.base / "vae", dtype=torch.float32, local_files_only=True
            )
            parts.vae = _frozen(vae, parts.device)

    def latent_factor(self, parts: Parts) -> int:
        return int(2 ** (len(parts.vae.config.block_out_channels) - 1))

    @torch.inference_mode()
    def encode_images(self, parts: Parts, pixels: Tensor) -> Latents:
        config = parts.vae.config
        shift = getattr(config, "shift_factor", None) or 0.0
        posterior = parts.vae.encode(pixels.to(parts.device, parts.vae.dtype)).latent_dist
        return Latents(
            (posterior.mean.float() - shift) * config.scaling_factor,
            posterior.std.float() * config.scaling_factor,
        )

    def encode_captions(self, parts: Parts, captions: Sequence[str], clip_skip: int, *, live: bool) -> Cond:
        tokens = parts.tokenizer(
            list(captions),
            padding="max_length",
            max_length=min(parts.tokenizer.model_max_length, _positions(parts)),
            truncation=True,
            return_tensors="pt",
        ).input_ids.to(parts.device)
        if live:
            return {"tokens": tokens}
        with torch.inference_mode():
            return {"embeddings": embed(parts.text_encoder, tokens, clip_skip).float()}

    def count_tokens(self, parts: Parts, caption: str) -> int:
        return len(parts.tokenizer(caption, add_special_tokens=False, verbose=False)["input_ids"])

    def lora_targets(self, parts: Parts) -> LoraTargets:
        return LoraTargets(
            model=tuple(_within(parts.model, Transformer2DModel, (nn.Linear, nn.Conv2d))),
            convolutions=tuple(_convolutions(parts.model)),
            text_encoder=tuple(
                name
                for name, module in parts.text_encoder.named_modules()
                if isinstance(module, nn.Linear) and name.rsplit(".", 1)[-1] in ADAPTED_TEXT_LAYERS
            ),
        )

    def loss(self, parts: Parts, batch: Batch, rng: Draws) -> Tensor:
        cond = batch.cond.get("embeddings")
        if cond is None:
            cond = embed(parts.text_encoder, batch.cond["tokens"], batch.clip_skip)

        def predict(noisy: Tensor, timesteps: Tensor) -> Tensor:
            dtype = parts.model.dtype
            output: Tensor = parts.model(
                noisy.to(dtype), timesteps, encoder_hidden_states=cond.to(dtype), return_dict=False
            )[0]
            return output

        return denoising_loss(
            batch, rng, parts.scheduler.alphas_cumprod, self.prediction_type(parts), predict
        )

    def prediction_type(self, parts: Parts) -> str:
        return str(parts.scheduler.config.prediction_type)

    def export_keys(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return to_kohya(state)

    def import_keys(self, tensors: Mapping[str, Tensor], modules: Sequence[str]) -> dict[str, Tensor]:
        return from_kohya(tensors, modules)

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

    def pipeline(self, base: Path, dtype: torch.dtype) -> StableDiffusionPipeline:
        check_folder(base, self.spec.title)
        pipeline: StableDiffusionPipeline = StableDiffusionPipeline.from_pretrained(
            base, dtype=dtype, safety_checker=None, requires_safety_checker=False, local_files_only=True
        )
        return pipeline


def check_folder(base: Path, title: str) -> None:
    """Raise CheckpointRefused unless `base` is a diffusers folder with all parts."""
    if not base.is_dir() or not (base / "model_index.json").is_file():
        raise CheckpointRefused(
            f"{base.name} is not a diffusers folder. {title} checkpoints are read from a folder (or a zip of "
            "one) with model_index.json and the folders unet, vae, text_encoder, tokenizer and scheduler."
        )
    missing = [name for name in FOLDERS if not (base / name).is_dir()]
    if missing:
        raise CheckpointRefused(
            f"The checkpoint {base.name} lacks {', '.join(missing)}. Bring a complete one."
        )


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


def _noise_schedule(folder: Path) -> DDPMScheduler:
    """The schedule that the checkpoint was trained with, whatever sampler its folder names.

    The two values are those that `StableDiffusionPipeline` insists on; it warns and sets them otherwise.
    """
    schedule: DDPMScheduler = DDPMScheduler.from_pretrained(
        folder, clip_sample=False, steps_offset=1, local_files_only=True
    )
    return schedule


def _frozen(module: Any, device: torch.device) -> Any:
    return module.requires_grad_(False).eval().to(device)


def _positions(parts: Parts) -> int:
    if parts.text_encoder is None:
        raise RuntimeError("captions are encoded before the encoders are freed")
    return int(parts.text_encoder.config.max_position_embeddings)


def _within(model: nn.Module, parent: type[nn.Module], kinds: tuple[type[nn.Module], ...]) -> list[str]:
    """Names of modules of these kinds inside every module of type `parent`."""
    return [
        f"{outer}.{inner}"
        for outer, block in model.named_modules()
        if isinstance(block, parent)
        for inner, module in block.named_modules()
        if isinstance(module, kinds)
    ]


def _convolutions(unet: nn.Module) -> list[str]:
    """What LoCon adapts: convolutions and time projections of the residual blocks and samplers."""
    return [
        name
        for kind in (ResnetBlock2D, Downsample2D, Upsample2D)
        for name in _within(unet, kind, (nn.Conv2d, nn.Linear))
    ]
