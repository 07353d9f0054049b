"""Drawing pictures: the denoising loop that generations and the trainer's samples share.

Picture i depends on `seeds[i]` alone. Noise comes from a CPU generator of its own, and every
picture is denoised by itself (its positive and negative pass as one batch of two): matrix products
of another batch size may differ in the last bit, and then in the picture.
"""

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from worker.inference.conditioning import Prompted, encode_pair
from worker.inference.errors import NotFiniteError, SettingsError
from worker.inference.samplers import create_scheduler


@dataclass(frozen=True)
class Request:
    """What to draw. Sides are pixels; `clip_skip` counts as A1111 does (1 = the last layer)."""

    prompt: str
    negative_prompt: str
    sampler: str
    steps: int
    cfg_scale: float
    width: int
    height: int
    seeds: tuple[int, ...]
    clip_skip: int = 1


class _Stopped(Exception):
    """`should_stop` said so."""


def draw(
    pipe: Any,
    request: Request,
    *,
    on_step: Callable[[int, int], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Iterator[tuple[int, Image.Image]]:
    """Draw `len(seeds)` pictures with a pipeline of Stable Diffusion 1 or XL; yield (index, picture).

    `on_step(done, total)` is called after each step and counts model steps over all pictures.
    `should_stop` is asked before each step; True ends the iteration early. `pipe.scheduler` is read
    and never changed. SettingsError for settings that cannot be drawn, NotFiniteError for broken numbers.
    """
    check_size(pipe, request.width, request.height)
    prompted = encode_pair(pipe, request.prompt, request.negative_prompt, request.clip_skip)
    inputs = unet_inputs(prompted[:1] if request.cfg_scale == 1 else prompted[::-1], request)
    steps = len(create_scheduler(request.sampler, pipe.scheduler.config, request.steps).timesteps)
    for index, seed in enumerate(request.seeds):

        def after_step(step: int, done_before: int = index * steps) -> None:
            if on_step:
                on_step(done_before + step, steps * len(request.seeds))

        def before_step() -> None:
            if should_stop and should_stop():
                raise _Stopped

        try:
            latents = _denoise(pipe, request, seed, inputs, (before_step, after_step))
        except _Stopped:
            return
        yield index, decode(pipe, latents)


def check_size(pipe: Any, width: int, height: int) -> None:
    """SettingsError unless both sides are positive multiples of the VAE's factor."""
    factor = pipe.vae_scale_factor
    if width < factor or height < factor or width % factor or height % factor:
        raise SettingsError(f"Width and height must be multiples of {factor}.")


@torch.no_grad()
def _denoise(
    pipe: Any,
    request: Request,
    seed: int,
    inputs: dict[str, Any],
    hooks: tuple[Callable[[], None], Callable[[int], None]],
) -> Tensor:
    unet, factor = pipe.unet, pipe.vae_scale_factor
    before_step, after_step = hooks
    scheduler = create_scheduler(request.sampler, pipe.scheduler.config, request.steps)
    generator = torch.Generator().manual_seed(seed)
    options = {"generator": generator} if _takes_generator(scheduler) else {}
    shape = (1, unet.config.in_channels, request.height // factor, request.width // factor)
    latents: Tensor = torch.randn(shape, generator=generator).to(unet.device) * scheduler.init_noise_sigma
    for step, timestep in enumerate(scheduler.timesteps, start=1):
        before_step()
        model_input = scheduler.scale_model_input(latents, timestep).to(unet.dtype)
        predicted = _guided(unet, model_input, timestep, inputs, request.cfg_scale)
        latents = scheduler.step(predicted, timestep, latents, **options, return_dict=False)[0]
        after_step(step)
    return latents


def _takes_generator(scheduler: Any) -> bool:
    return "generator" in inspect.signature(scheduler.step).parameters


def unet_inputs(sides: Sequence[Prompted], request: Request) -> dict[str, Any]:
    """What the U-Net is told besides latents and time, one row a side. SDXL hears of the size: uncut."""
    inputs: dict[str, Any] = {"encoder_hidden_states": torch.cat([side.embeddings for side in sides])}
    pooled = [side.pooled for side in sides if side.pooled is not None]
    if pooled:
        size = (request.height, request.width)
        frames = torch.tensor([(*size, 0, 0, *size)] * len(sides), device=pooled[0].device)
        inputs["added_cond_kwargs"] = {"text_embeds": torch.cat(pooled), "time_ids": frames.float()}
    return inputs


def _guided(unet: Any, latents: Tensor, timestep: Tensor, inputs: dict[str, Any], cfg_scale: float) -> Tensor:
    """Classifier-free guidance in fp32, negative side first; a scale of 1 needs no negative pass."""
    if cfg_scale == 1:
        only: Tensor = unet(latents, timestep, **inputs).sample
        return only.float()
    without, with_prompt = unet(torch.cat([latents, latents]), timestep, **inputs).sample.float().chunk(2)
    guided: Tensor = without + cfg_scale * (with_prompt - without)
    return guided


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
