"""What Stable Diffusion 1 and SDXL do alike: latents of a VAE, CLIP's tokens, a U-Net's LoRA layers."""

from collections.abc import Sequence
from typing import Any

import torch
from diffusers.models.downsampling import Downsample2D
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from diffusers.models.upsampling import Upsample2D
from torch import Tensor, nn

from worker.draws import Draws
from worker.families.base import Batch, Latents, Parts
from worker.families.epsilon import denoising_loss

ADAPTED_TEXT_LAYERS = ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")


def frozen(module: Any, device: torch.device) -> Any:
    return module.requires_grad_(False).eval().to(device)


def latent_factor(vae: Any) -> int:
    """Pixels a latent, along one side."""
    return int(2 ** (len(vae.config.block_out_channels) - 1))


def encode_posterior(vae: Any, pixels: Tensor) -> Latents:
    """Pixels [B, 3, H, W] in -1…1 → scaled posterior [B, C, H/f, W/f], fp32."""
    config = vae.config
    shift = getattr(config, "shift_factor", None) or 0.0
    posterior = vae.encode(pixels.to(vae.dtype)).latent_dist
    return Latents(
        (posterior.mean.float() - shift) * config.scaling_factor,
        posterior.std.float() * config.scaling_factor,
    )


def tokenize(tokenizer: Any, text_encoder: Any, captions: Sequence[str]) -> Tensor:
    """Captions → token ids [B, T], start and end included, cut and padded to the encoder's length."""
    if text_encoder is None:
        raise RuntimeError("captions are encoded before the encoders are freed")
    ids: Tensor = tokenizer(
        list(captions),
        padding="max_length",
        max_length=min(tokenizer.model_max_length, int(text_encoder.config.max_position_embeddings)),
        truncation=True,
        return_tensors="pt",
    ).input_ids
    return ids


def count_tokens(tokenizer: Any, caption: str) -> int:
    """Without start and end, before anything is cut off."""
    return len(tokenizer(caption, add_special_tokens=False, verbose=False)["input_ids"])


def predicts(parts: Parts) -> str:
    """`epsilon` or `v_prediction`."""
    return str(parts.scheduler.config.prediction_type)


def unet_loss(
    parts: Parts, batch: Batch, rng: Draws, embeddings: Tensor, told: dict[str, Tensor] | None = None
) -> Tensor:
    """Weighted loss of each sample [B]; `embeddings` [B, T, D]; `told` is what SDXL hears besides."""
    dtype = parts.model.dtype

    def predict(noisy: Tensor, timesteps: Tensor) -> Tensor:
        output: Tensor = parts.model(
            noisy.to(dtype),
            timesteps,
            encoder_hidden_states=embeddings.to(dtype),
            return_dict=False,
            **({"added_cond_kwargs": told} if told else {}),
        )[0]
        return output

    return denoising_loss(batch, rng, parts.scheduler.alphas_cumprod, predicts(parts), predict)


def text_targets(text_encoder: Any) -> tuple[str, ...]:
    """Names of the linear layers of a CLIP text encoder that a LoRA adapts."""
    return tuple(
        name
        for name, module in text_encoder.named_modules()
        if isinstance(module, nn.Linear) and name.rsplit(".", 1)[-1] in ADAPTED_TEXT_LAYERS
    )


def unet_targets(unet: nn.Module) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of what a LoRA adapts in the attention blocks, and of what LoCon adapts besides."""
    convolutions = [
        name
        for kind in (ResnetBlock2D, Downsample2D, Upsample2D)
        for name in _within(unet, kind, (nn.Conv2d, nn.Linear))
    ]
    return tuple(_within(unet, Transformer2DModel, (nn.Linear, nn.Conv2d))), tuple(convolutions)


def _within(model: nn.Module, parent: type[nn.Module], kinds: tuple[type[nn.Module], ...]) -> list[str]:
    """Names of modules of these kinds inside every module of type `parent`."""
    return [
        f"{outer}.{inner}"
        for outer, block in model.named_modules()
        if isinstance(block, parent)
        for inner, module in block.named_modules()
        if isinstance(module, kinds)
    ]
