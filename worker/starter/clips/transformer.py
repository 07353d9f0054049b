"""Trains the transformer and the text encoder on cached latents, as a flow (Wan's objective).

EMA weights are what previews and the checkpoint hold.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

import torch
from diffusers import WanTransformer3DModel
from torch import nn
from transformers import PreTrainedTokenizerFast, UMT5EncoderModel

from worker.starter import parallel
from worker.starter.clips.scenes import MovingScene, training_caption
from worker.starter.clips.text import text_states
from worker.starter.clips.vae import LATENT_CHANNELS
from worker.starter.muon import Optimizers, split_parameters
from worker.starter.progress import Budget, load_checkpoint, rate_share, save_checkpoint
from worker.starter.text import WIDTH
from worker.starter.unet import Ema
from worker.starter.vocabulary import filler_tags

SHIFT = 2.0
"""Of the noise levels, in training as in sampling: motion is decided while there is much noise."""
_BATCH = 32
_STILL_EVERY = 12
"""One batch in so many shows first frames only: a picture is a clip of one frame."""
_MUON_RATE = 3e-3
_ADAM_RATE = 1e-3
_TIMESTEPS = 1000
_ENDS = ("patch_embedding", "proj_out", "condition_embedder", "scale_shift_table", "text_encoder")


def build_transformer() -> WanTransformer3DModel:
    """A fresh WanTransformer3DModel of 4.5 M parameters; a clip is 5 x 4 x 4 tokens."""
    return WanTransformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=6,
        attention_head_dim=32,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        text_dim=WIDTH,
        freq_dim=128,
        ffn_dim=768,
        num_layers=7,
        cross_attn_norm=True,
        qk_norm="rms_norm_across_heads",
        rope_max_seq_len=64,
    )


class Model(nn.Module):
    """Transformer and text encoder as one, so that optimiser, EMA and checkpoint take both."""

    def __init__(self, transformer: WanTransformer3DModel, text_encoder: UMT5EncoderModel) -> None:
        super().__init__()
        self.transformer = transformer
        self.text_encoder = text_encoder


@dataclass(frozen=True)
class Examples:
    """The training set: posterior means and deviations (n, 32, 5, 8, 8), scenes, and each channel's
    mean and deviation over the set (1, 16, 1, 1, 1)."""

    latents: torch.Tensor
    scenes: list[MovingScene]
    mean: torch.Tensor
    deviation: torch.Tensor

    def batches(self, seed: int) -> Iterator[tuple[torch.Tensor, list[MovingScene]]]:
        """Endless shuffled epochs of normalised, sampled latents (b, 16, 5 or 1, 8, 8) and scenes."""
        rng, number = torch.Generator().manual_seed(seed), 0
        while True:
            order = torch.randperm(len(self.scenes), generator=rng)
            for start in range(0, len(order) - _BATCH + 1, _BATCH):
                chosen = order[start : start + _BATCH]
                mean, deviation = self.latents[chosen].float().chunk(2, dim=1)
                drawn = mean + deviation * torch.randn(mean.shape, generator=rng)
                number += 1
                length = 1 if number % _STILL_EVERY == 0 else drawn.shape[2]
                normalised = (drawn[:, :, :length] - self.mean) / self.deviation
                yield normalised, [self.scenes[i] for i in chosen.tolist()]


def channel_statistics(latents: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and deviation of each channel of the posterior's mean, (1, 16, 1, 1, 1)."""
    means = latents[:1000].float().chunk(2, dim=1)[0]
    axes = (0, 2, 3, 4)
    return means.mean(axes, keepdim=True), means.std(axes, keepdim=True)


def _noise_levels(count: int) -> torch.Tensor:
    """One from each of `count` equal slices, which makes the loss less noisy, then shifted: 0-1."""
    even = (torch.arange(count) + torch.rand(count)) / count
    return SHIFT * even / (1 + (SHIFT - 1) * even)


def flow_loss(transformer: nn.Module, states: torch.Tensor, latents: torch.Tensor) -> torch.Tensor:
    """Mean squared error of the velocity noise - latents (arXiv:2209.03003); states are (b, 64, width)."""
    noise, levels = torch.randn_like(latents), _noise_levels(len(latents))
    share = levels[:, None, None, None, None]
    noisy = (1 - share) * latents + share * noise
    predicted = transformer(noisy, levels * _TIMESTEPS, states, return_dict=False)[0]
    return (predicted - (noise - latents)).square().mean()


class Training:
    """The stage's state: model, optimisers, average, clock; resumable at any checkpoint."""

    def __init__(self, model: Model, tokenizer: PreTrainedTokenizerFast, folder: Path, seconds: float):
        self.model = model
        self.tokenizer = tokenizer
        self.checkpoint = folder / "transformer.pt"
        self.step = 0
        inner, other = split_parameters(model, _ENDS)
        self.optimizers = Optimizers(inner, other, muon=_MUON_RATE, adam=_ADAM_RATE)
        self.ema = Ema(model)
        self.budget = Budget(seconds)
        if state := load_checkpoint(self.checkpoint):
            self.model.load_state_dict(state["model"])
            self.optimizers.load(state["optimizers"])
            self.ema.weights = state["ema"]
            self.step, self.budget.spent = state["step"], state["spent"]

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

    def run(self, examples: Examples) -> Iterator[float]:
        """Trains until the time is used up; yields the mean loss at every meeting."""
        seed = self.step + 1000 * parallel.rank()
        torch.manual_seed(seed)
        rng, fillers = Random(seed), filler_tags()
        batches = examples.batches(seed)
        while (progress := parallel.agree(self.budget.progress)) < 1:
            total = 0.0
            for _ in range(parallel.MEET_EVERY):
                latents, scenes = next(batches)
                captions = [training_caption(scene, rng, fillers) for scene in scenes]
                states = text_states(self.model.text_encoder, self.tokenizer, captions)
                loss = flow_loss(self.model.transformer, states, latents)
                loss.backward()
                torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
                self.optimizers.step(rate_share(progress, self.step))
                self.step += 1
                total += loss.item() / parallel.MEET_EVERY
            parallel.average_weights(self.model)
            self.ema.update(self.model, self.step // parallel.MEET_EVERY)
            yield total
