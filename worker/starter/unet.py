"""Trains the U-Net and the text encoder on cached latents.

Attention starts at 8 x 8: at 16 x 16 its backward pass took a third of every step on
two cores and bought nothing. EMA weights are what previews and the checkpoint hold.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

import torch
from diffusers import DDPMScheduler, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextModel, CLIPTokenizer

from worker.starter import parallel
from worker.starter.muon import Optimizers, split_parameters
from worker.starter.pipeline import BETAS
from worker.starter.progress import Budget, load_checkpoint, rate_share, save_checkpoint
from worker.starter.scenes import Scene
from worker.starter.text import WIDTH, caption_of, tokenize
from worker.starter.vae import LATENT_CHANNELS
from worker.starter.vocabulary import filler_tags

_BATCH = 24
_MUON_RATE = 3e-3
_ADAM_RATE = 1e-3
_SNR_LIMIT = 5.0
_EMA_DECAY = 0.98
"""Per meeting of the workers: an average over some 400 steps."""


def build_unet() -> UNet2DConditionModel:
    """A fresh U-Net of 10.9 M parameters for 16 x 16 latents."""
    unet = UNet2DConditionModel(
        sample_size=16,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        block_out_channels=(64, 128, 192),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=WIDTH,
        attention_head_dim=4,
        norm_num_groups=16,
    )
    return unet.to(memory_format=torch.channels_last)


class Model(nn.Module):
    """U-Net and text encoder as one, so that optimiser, EMA and checkpoint take both."""

    def __init__(self, unet: UNet2DConditionModel, text_encoder: CLIPTextModel) -> None:
        super().__init__()
        self.unet = unet
        self.text_encoder = text_encoder


@dataclass(frozen=True)
class Examples:
    """The training set: unscaled latent means and deviations (n, 2c, 16, 16), and scenes."""

    latents: torch.Tensor
    scenes: list[Scene]
    scaling: float

    def batches(self, seed: int) -> Iterator[tuple[torch.Tensor, list[Scene]]]:
        """Endless shuffled epochs of scaled, sampled latents (b, c, 16, 16) and scenes."""
        rng = torch.Generator().manual_seed(seed)
        while True:
            order = torch.randperm(len(self.scenes), generator=rng)
            for start in range(0, len(order) - _BATCH + 1, _BATCH):
                chosen = order[start : start + _BATCH]
                mean, deviation = self.latents[chosen].float().chunk(2, dim=1)
                drawn = mean + deviation * torch.randn(mean.shape, generator=rng)
                yield drawn * self.scaling, [self.scenes[i] for i in chosen.tolist()]


class Ema:
    """Running average of the weights, short at first."""

    def __init__(self, model: nn.Module) -> None:
        self.weights = {name: value.clone() for name, value in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module, updates: int) -> None:
        """Moves the average towards the model; `updates` counts the calls before."""
        decay = min(_EMA_DECAY, (1 + updates) / (10 + updates))
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                self.weights[name].lerp_(value, 1 - decay)


def _timesteps(count: int, scheduler: DDPMScheduler) -> torch.Tensor:
    """One from each of `count` equal slices, which makes the loss less noisy."""
    total = scheduler.config.num_train_timesteps
    slices = (torch.arange(count) + torch.rand(count)) / count
    return (slices * total).long().clamp(max=total - 1)


def diffusion_loss(
    unet: nn.Module, states: torch.Tensor, latents: torch.Tensor, scheduler: DDPMScheduler
) -> torch.Tensor:
    """Epsilon loss with min-SNR-5 weights (arXiv:2303.09556); states are (b, 77, width)."""
    noise = torch.randn_like(latents)
    steps = _timesteps(len(latents), scheduler)
    noisy = scheduler.add_noise(latents, noise, steps)
    noisy = noisy.contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        predicted = unet(noisy, steps, states, return_dict=False)[0]
    kept = scheduler.alphas_cumprod[steps]
    ratio = kept / (1 - kept)
    weights = ratio.clamp(max=_SNR_LIMIT) / ratio
    return (weights * ((predicted.float() - noise) ** 2).mean(dim=(1, 2, 3))).mean()


class UNetTraining:
    """The stage's state: model, optimisers, average, clock; resumable at any checkpoint."""

    def __init__(self, model: Model, tokenizer: CLIPTokenizer, folder: Path, seconds: float):
        self.model = model
        self.tokenizer = tokenizer
        self.checkpoint = folder / "unet.pt"
        self.step = 0
        ends = ("conv_in", "conv_out", "time_emb", "text_encoder")
        inner, other = split_parameters(model, ends)
        self.optimizers = Optimizers(inner, other, muon=_MUON_RATE, adam=_ADAM_RATE)
        self.ema = Ema(model)
        self.budget = Budget(seconds)
        self._resume()

    def _resume(self) -> None:
        state = load_checkpoint(self.checkpoint)
        if state is None:
            return
        self.model.load_state_dict(state["model"])
        self.optimizers.load(state["optimizers"])
        self.ema.weights = state["ema"]
        self.step = state["step"]
        self.budget.spent = state["spent"]

    def save(self) -> None:
        """Writes the checkpoint that the next start resumes from."""
        state = {
            "model": self.model.state_dict(),
            "optimizers": self.optimizers.state(),
            "ema": self.ema.weights,
            "step": self.step,
            "spent": self.budget.elapsed,
        }
        save_checkpoint(self.checkpoint, state)

    def averaged(self) -> Model:
        """A copy that holds the averaged weights."""
        copy = Model(build_unet(), CLIPTextModel(self.model.text_encoder.config))
        copy.load_state_dict(self.ema.weights)
        return copy.eval()

    def run(self, examples: Examples) -> Iterator[float]:
        """Trains until the time is used up; yields the mean loss at every meeting."""
        seed = self.step + 1000 * parallel.rank()
        torch.manual_seed(seed)
        scheduler = DDPMScheduler(num_train_timesteps=1000, **BETAS)
        captions, batches = _Captions(self.tokenizer, seed), examples.batches(seed)
        progress = parallel.agree(self.budget.progress)
        while progress < 1:
            total = 0.0
            for _ in range(parallel.MEET_EVERY):
                latents, scenes = next(batches)
                states = self.model.text_encoder(captions.ids(scenes)).last_hidden_state
                loss = diffusion_loss(self.model.unet, states, latents, scheduler)
                loss.backward()
                torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
                self.optimizers.step(rate_share(progress, self.step))
                self.step += 1
                total += loss.item() / parallel.MEET_EVERY
            parallel.average_weights(self.model)
            self.ema.update(self.model, self.step // parallel.MEET_EVERY)
            progress = parallel.agree(self.budget.progress)
            yield total


class _Captions:
    """Turns scenes into the token ids of freshly made captions."""

    def __init__(self, tokenizer: CLIPTokenizer, seed: int) -> None:
        self.tokenizer = tokenizer
        self.rng = Random(seed)
        self.fillers = filler_tags()

    def ids(self, scenes: list[Scene]) -> torch.Tensor:
        """(n, 77) for n scenes."""
        texts = [caption_of(scene, self.rng, self.fillers) for scene in scenes]
        return tokenize(self.tokenizer, texts)
