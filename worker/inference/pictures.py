"""Between pictures and latents: through the VAE, and from one size to another."""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from torch import Tensor

from worker.families.latent_unet import encode_posterior
from worker.inference.errors import NotFiniteError

Size = tuple[int, int]
"""Width and height in pixels."""
LATENT_UPSCALERS = {"Latent": "bilinear", "Latent (nearest)": "nearest"}
PIXEL_UPSCALERS = {"Lanczos": Image.Resampling.LANCZOS, "Nearest": Image.Resampling.NEAREST}


def fitted(image: Image.Image, size: Size) -> Image.Image:
    """Scaled to cover `size` and cut around its middle."""
    return ImageOps.fit(image, size, Image.Resampling.LANCZOS)


@torch.no_grad()
def encode(pipe: Any, image: Image.Image) -> Tensor:
    """An RGB picture → the mean of its latents, scaled as the U-Net reads them: [1, C, h, w], fp32."""
    pixels = torch.from_numpy(np.array(image, dtype=np.float32)).permute(2, 0, 1)[None] / 127.5 - 1
    latents = encode_posterior(pipe.vae, pixels.to(pipe.vae.device)).mean
    if not bool(torch.isfinite(latents).all()):
        raise NotFiniteError("The VAE cannot take this picture.")
    return latents


@torch.no_grad()
def decode(pipe: Any, latents: Tensor) -> Image.Image:
    """Latents [1, channels, height, width] of one picture → RGB. NotFiniteError where they are broken."""
    config = pipe.vae.config
    scaled = latents / config.scaling_factor + (getattr(config, "shift_factor", None) or 0.0)
    pixels = pipe.vae.decode(scaled.to(pipe.vae.dtype)).sample[0].float()
    if not bool(torch.isfinite(pixels).all()) or not bool(torch.isfinite(latents).all()):
        raise NotFiniteError("The model's numbers left the range that can be drawn.")
    levels = ((pixels / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)
    return Image.fromarray(levels.permute(1, 2, 0).cpu().numpy())


def upscale(pipe: Any, latents: Tensor, size: Size, upscaler: str) -> Tensor:
    """Latents of a picture of `size`: scaled themselves, or by the way of pixels. `upscaler`: UPSCALERS."""
    if upscaler in PIXEL_UPSCALERS:
        return encode(pipe, decode(pipe, latents).resize(size, PIXEL_UPSCALERS[upscaler]))
    sides = (size[1] // pipe.vae_scale_factor, size[0] // pipe.vae_scale_factor)
    return F.interpolate(latents, sides, mode=LATENT_UPSCALERS[upscaler])
