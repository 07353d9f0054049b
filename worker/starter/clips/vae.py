"""Trains the video autoencoder: Wan's in small, 17 frames of 64 px to 5 latents of 8 x 8 with 16 channels.

Pixels enter in patches of 2 x 2 and shortcuts carry them around each change of size, as in Wan 2.2's
5B model. Single frames come first: frames of a clip are much alike, and what a picture looks like is
learned many times sooner from different ones.
"""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLWan
from diffusers.models.autoencoders.autoencoder_kl_wan import unpatchify
from torch import nn

from worker.starter import parallel
from worker.starter.clips.data import Clips, to_tensor
from worker.starter.clips.scenes import FRAMES, PIXELS
from worker.starter.muon import Optimizers, split_parameters
from worker.starter.progress import Budget, load_checkpoint, rate_share, save_checkpoint

LATENT_CHANNELS = 16
_PATCH = 2
_CROP = 32
_CROPS = {1: 64, 5: 12, 9: 7, FRAMES: 4}
"""Clips in a batch of crops, by their frames."""
_PHASES = ((0.3, (1,)), (0.6, (5, 9, FRAMES, 1)), (1.0, (FRAMES, 9, FRAMES, 5)))
"""Lengths of the batches in turn, until so much of the time is over: short ones teach what moves, long ones
that nothing drifts."""
_WHOLE_EVERY = 4
"""One batch of full length in so many is a whole clip: attention and borders look different there."""
_MUON_RATE = 5e-3
_ADAM_RATE = 1e-3
_KL_WEIGHT = 2e-4


def build_vae() -> AutoencoderKLWan:
    """A fresh autoencoder of 2.7 M parameters."""
    vae = AutoencoderKLWan(
        base_dim=32,
        z_dim=LATENT_CHANNELS,
        dim_mult=[1, 2, 2],
        num_res_blocks=1,
        temperal_downsample=[True, True],
        latents_mean=[0.0] * LATENT_CHANNELS,
        latents_std=[1.0] * LATENT_CHANNELS,
        in_channels=3 * _PATCH**2,
        out_channels=3 * _PATCH**2,
        patch_size=_PATCH,
        is_residual=True,
    )
    with torch.no_grad():
        for convolution in vae.modules():
            if isinstance(convolution, nn.Conv3d) and convolution.kernel_size == (3, 3, 3):
                convolution.weight[:, :, :2] = 0.0  # frames before this one: nothing is known of them yet
        # Little posterior noise at first: colours are learned hundreds of steps sooner.
        vae.quant_conv.bias[LATENT_CHANNELS:] -= 4
    return channels_last(vae)


def channels_last(vae: AutoencoderKLWan) -> AutoencoderKLWan:
    """Weights laid out for the faster kernels; 3-D and 2-D convolutions each their own way."""
    for parameter in vae.parameters():
        if parameter.ndim == 5:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last_3d)
        elif parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return vae


def _decode(vae: AutoencoderKLWan, latents: torch.Tensor) -> torch.Tensor:
    """As `vae.decode`, but not clamped: a clamp has no gradient where colours overshoot."""
    vae.clear_cache()
    values = vae.post_quant_conv(latents)
    parts = []
    for number in range(values.shape[2]):
        vae._conv_idx = [0]
        first = {"first_chunk": True} if number == 0 else {}
        cache = {"feat_cache": vae._feat_map, "feat_idx": vae._conv_idx}
        parts.append(vae.decoder(values[:, :, number : number + 1], **cache, **first))
    vae.clear_cache()
    return unpatchify(torch.cat(parts, 2), patch_size=_PATCH)


def _differences(clips: torch.Tensor) -> list[torch.Tensor]:
    """Across, down, and from frame to frame where there are several."""
    return [clips.diff(dim=axis) for axis in (4, 3, 2) if clips.shape[axis] > 1]


def vae_loss(vae: AutoencoderKLWan, clips: torch.Tensor, *, train_encoder: bool = True) -> torch.Tensor:
    """L1 on pixels and on their differences in space and time, which keeps edges and motion sharp, and a
    little KL."""
    with torch.set_grad_enabled(train_encoder):
        posterior = vae.encode(clips).latent_dist
    output = _decode(vae, posterior.sample())
    divergence = 0.5 * (posterior.mean**2 + posterior.var - 1 - posterior.logvar).mean()
    loss = F.l1_loss(output, clips) + _KL_WEIGHT * divergence
    for got, wanted in zip(_differences(output), _differences(clips), strict=True):
        loss = loss + F.l1_loss(got, wanted)
    return loss


class _Batches:
    """Draws crops of clips, uint8 in, tensors (n, 3, t, h, w) out."""

    def __init__(self, clips: Clips, seed: int) -> None:
        self.clips = clips
        self.rng = np.random.default_rng(seed)

    def at(self, progress: float, step: int) -> torch.Tensor:
        """The batch of a step at `progress` 0-1 of the stage."""
        lengths = next(lengths for until, lengths in _PHASES if progress <= until)
        frames = lengths[step % len(lengths)]
        whole = frames == FRAMES and step % _WHOLE_EVERY == 2
        batch = self._whole() if whole else self._crops(frames, _CROPS[frames])
        return to_tensor(batch).contiguous(memory_format=torch.channels_last_3d)

    def _whole(self) -> Clips:
        return self.clips[int(self.rng.integers(0, len(self.clips)))][None]

    def _crops(self, frames: int, count: int) -> Clips:
        chosen = self.rng.integers(0, len(self.clips), count)
        starts = self.rng.integers(0, FRAMES - frames + 1, count)
        tops, lefts = self.rng.integers(0, PIXELS - _CROP + 1, (2, count))
        places = zip(chosen, starts, tops, lefts, strict=True)
        return np.stack(
            [self.clips[i, t : t + frames, y : y + _CROP, x : x + _CROP] for i, t, y, x in places]
        )


def train_vae(clips: Clips, checkpoint: Path, seconds: float) -> None:
    """Trains for `seconds` of wall clock; resumes from the checkpoint where there is one."""
    torch.manual_seed(parallel.rank())
    _train(build_vae(), clips, checkpoint, seconds, train_encoder=True)


def polish_decoder(vae: AutoencoderKLWan, clips: Clips, checkpoint: Path, seconds: float) -> None:
    """Trains the decoder on while the encoder, and with it every cached latent, stays."""
    torch.manual_seed(parallel.rank())
    vae.encoder.requires_grad_(False)
    vae.quant_conv.requires_grad_(False)
    _train(vae, clips, checkpoint, seconds, train_encoder=False)


def _train(
    vae: AutoencoderKLWan, clips: Clips, checkpoint: Path, seconds: float, *, train_encoder: bool
) -> None:
    inner, other = split_parameters(vae, ("encoder.conv_in", "decoder.conv_out", "quant_conv", "to_qkv"))
    optimizers = Optimizers(inner, other, muon=_MUON_RATE, adam=_ADAM_RATE)
    budget, step = Budget(seconds), 0
    if state := load_checkpoint(checkpoint):
        vae.load_state_dict(state["vae"])
        optimizers.load(state["optimizers"])
        budget.spent, step = state["spent"], state["step"]
    batches = _Batches(clips, 100 * step + parallel.rank())
    while (progress := parallel.agree(budget.progress)) < 1:
        total = 0.0
        for _ in range(parallel.MEET_EVERY):
            # What is left to the decoder alone are clips of full length and their like.
            batch = batches.at(progress if train_encoder else 1.0, step)
            loss = vae_loss(vae, batch, train_encoder=train_encoder)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
            optimizers.step(rate_share(progress, step))
            step += 1
            total += loss.item() / parallel.MEET_EVERY
        parallel.average_weights(vae)
        if step % (10 * parallel.MEET_EVERY) == 0 and parallel.rank() == 0:
            print(f"vae {step} {budget.elapsed:.0f}s loss {total:.4f}", flush=True)
            _save(vae, optimizers, budget, step, checkpoint)
    if parallel.rank() == 0:
        _save(vae, optimizers, budget, step, checkpoint)


def _save(vae: AutoencoderKLWan, optimizers: Optimizers, budget: Budget, step: int, path: Path) -> None:
    state = {"vae": vae.state_dict(), "optimizers": optimizers.state(), "spent": budget.elapsed, "step": step}
    save_checkpoint(path, state)


@torch.no_grad()
def encode(vae: AutoencoderKLWan, clips: Clips) -> torch.Tensor:
    """Means and deviations of the posterior, not normalised: float16 (n, 32, 5, 8, 8)."""
    parts = []
    for start in range(0, len(clips), 10):
        posterior = vae.encode(to_tensor(clips[start : start + 10])).latent_dist
        parts.append(torch.cat([posterior.mean, posterior.std], dim=1).half())
    return torch.cat(parts)


@torch.no_grad()
def reconstruction_psnr(vae: AutoencoderKLWan, clips: Clips) -> float:
    """Mean over clips, in dB, of values in 0..1."""
    values = []
    for clip in clips:
        wanted = to_tensor(clip[None])
        got = vae.decode(vae.encode(wanted).latent_dist.mean).sample
        error = float(((got - wanted) / 2).square().mean())
        values.append(-10 * np.log10(max(error, 1e-10)))
    return float(np.mean(values))
