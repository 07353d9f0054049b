"""Trains the AutoencoderKL: 128 px to 16 x 16 latents of 12 channels.

Factor 8 with many channels carries as much as factor 4 with few, and makes every U-Net
step several times cheaper, in this training and in each LoRA training after it. Without
the usual attention in the middle it works alike on crops, squares and buckets.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL

from worker.starter import parallel
from worker.starter.data import Pixels, to_pixels, to_tensor
from worker.starter.muon import Optimizers, split_parameters
from worker.starter.progress import Budget, load_checkpoint, rate_share, save_checkpoint
from worker.starter.textures import random_textures

LATENT_CHANNELS = 12
_CROP = 64
_BATCH = 16
_TEXTURES_IN_BATCH = 3
_MUON_RATE = 5e-3
_ADAM_RATE = 1e-3
_KL_WEIGHT = 3e-4


def build_vae() -> AutoencoderKL:
    """A fresh VAE of 3 M parameters; few channels at full size, where time goes."""
    vae = AutoencoderKL(
        block_out_channels=(32, 32, 96, 128),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=8,
        sample_size=128,
        mid_block_add_attention=False,
        force_upcast=False,
    )
    with torch.no_grad():
        # Little posterior noise at first: colours are learned hundreds of steps sooner.
        vae.quant_conv.bias[LATENT_CHANNELS:] -= 4
    return vae.to(memory_format=torch.channels_last)


def _random_crops(pixels: Pixels, count: int, rng: np.random.Generator) -> Pixels:
    limit = pixels.shape[1] - _CROP + 1
    places = zip(
        rng.integers(0, len(pixels), count),
        rng.integers(0, limit, count),
        rng.integers(0, limit, count),
        strict=True,
    )
    return np.stack([pixels[i, y : y + _CROP, x : x + _CROP] for i, y, x in places])


def _batches(pixels: Pixels, seed: int) -> Iterator[torch.Tensor]:
    """Endless batches of crops, of scenes and of a pool of textures."""
    rng = np.random.default_rng(seed)
    pool = to_pixels(random_textures(96, pixels.shape[1], torch.Generator().manual_seed(seed)))
    while True:
        scenes = _random_crops(pixels, _BATCH - _TEXTURES_IN_BATCH, rng)
        textures = _random_crops(pool, _TEXTURES_IN_BATCH, rng)
        crops = to_tensor(np.concatenate([scenes, textures]))
        yield crops.contiguous(memory_format=torch.channels_last)


def _edges(pictures: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    across = pictures[..., :, 1:] - pictures[..., :, :-1]
    down = pictures[..., 1:, :] - pictures[..., :-1, :]
    return across, down


def vae_loss(vae: AutoencoderKL, pictures: torch.Tensor, *, train_encoder: bool = True) -> torch.Tensor:
    """L1 on pixels and on their differences (which keeps edges sharp), and a little KL."""
    with torch.autocast("cpu", torch.bfloat16):
        with torch.set_grad_enabled(train_encoder):
            posterior = vae.encode(pictures).latent_dist
        output = vae.decode(posterior.sample()).sample.float()
    mean, log_variance = posterior.mean.float(), posterior.logvar.float()
    divergence = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).mean()
    loss = F.l1_loss(output, pictures) + _KL_WEIGHT * divergence
    for got, wanted in zip(_edges(output), _edges(pictures), strict=True):
        loss = loss + F.l1_loss(got, wanted)
    return loss


def train_vae(pixels: Pixels, checkpoint: Path, seconds: float) -> None:
    """Trains for `seconds` of wall clock; resumes from the checkpoint where there is one."""
    torch.manual_seed(parallel.rank())
    vae = build_vae()
    _train(vae, pixels, checkpoint, seconds, train_encoder=True)


def polish_decoder(vae: AutoencoderKL, pixels: Pixels, checkpoint: Path, seconds: float) -> None:
    """Trains the decoder on while the encoder, and with it every cached latent, stays."""
    torch.manual_seed(10 + parallel.rank())
    vae.encoder.requires_grad_(False)
    vae.quant_conv.requires_grad_(False)
    _train(vae, pixels, checkpoint, seconds, train_encoder=False)


def _train(
    vae: AutoencoderKL, pixels: Pixels, checkpoint: Path, seconds: float, *, train_encoder: bool
) -> None:
    inner, other = split_parameters(vae, ("conv_in", "conv_out", "quant_conv"))
    optimizers = Optimizers(inner, other, muon=_MUON_RATE, adam=_ADAM_RATE)
    step, budget = _resume(checkpoint, vae, optimizers, seconds)
    batches = _batches(pixels, seed=step + 1000 * parallel.rank())
    progress = parallel.agree(budget.progress)
    while progress < 1:
        for _ in range(parallel.MEET_EVERY):
            loss = vae_loss(vae, next(batches), train_encoder=train_encoder)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
            optimizers.step(rate_share(progress, step))
            step += 1
        parallel.average_weights(vae)
        progress = parallel.agree(budget.progress)
        if step % 40 == 0 and parallel.rank() == 0:
            print(f"vae {step} {budget.elapsed:.0f}s loss {loss:.4f}", flush=True)
            _save(checkpoint, vae, optimizers, step, budget)
    if parallel.rank() == 0:
        _save(checkpoint, vae, optimizers, step, budget)


def _resume(path: Path, vae: AutoencoderKL, optimizers: Optimizers, seconds: float) -> tuple[int, Budget]:
    state = load_checkpoint(path)
    if state is None:
        return 0, Budget(seconds)
    vae.load_state_dict(state["vae"])
    optimizers.load(state["optimizers"])
    return state["step"], Budget(seconds, state["spent"])


def _save(path: Path, vae: AutoencoderKL, optimizers: Optimizers, step: int, budget: Budget) -> None:
    state = {"vae": vae.state_dict(), "optimizers": optimizers.state()}
    save_checkpoint(path, {**state, "step": step, "spent": budget.elapsed})


@torch.no_grad()
def encode(vae: AutoencoderKL, pixels: Pixels, batch: int = 32) -> torch.Tensor:
    """Latent means and deviations, unscaled, bfloat16 (n, 24, 16, 16) for 128 px pictures."""
    parts = []
    for start in range(0, len(pixels), batch):
        pictures = to_tensor(pixels[start : start + batch])
        with torch.autocast("cpu", torch.bfloat16):
            posterior = vae.encode(pictures).latent_dist
        parts.append(torch.cat([posterior.mean, posterior.std], dim=1).bfloat16())
    return torch.cat(parts)


@torch.no_grad()
def reconstruction_psnr(vae: AutoencoderKL, pixels: Pixels) -> float:
    """Mean peak signal-to-noise ratio in dB over uint8 pictures (n, h, w, 3)."""
    ratios = []
    for start in range(0, len(pixels), 16):
        pictures = to_tensor(pixels[start : start + 16])
        latents = vae.encode(pictures).latent_dist.mean
        output = vae.decode(latents).sample.clamp(-1, 1)
        error = ((output - pictures) ** 2).mean(dim=(1, 2, 3)).clamp_min(1e-9)
        ratios.append(10 * torch.log10(4 / error))
    return float(torch.cat(ratios).mean())
