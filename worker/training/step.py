"""One optimizer step, and the measure of over-fitting on the pictures that were kept out."""

from collections.abc import Iterator

import torch
from torch import Tensor

from worker.draws import Draws
from worker.families.base import Batch
from worker.training import optim
from worker.training.dataset import Sample, by_size
from worker.training.errors import diverged
from worker.training.run import Run

VALIDATION_LEVELS = 4
"""Noise levels, each with fixed noise, at which a kept-out picture is measured."""
_LOSSES_AT_ONCE = {"cpu": 1, "cuda": 10}
"""Asking a device for a number makes it wait, so on CUDA losses are fetched a few at a time."""


class LossLog:
    """Losses on their way from the device; they stop the run once one is not finite."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._waiting: list[tuple[int, Tensor, float]] = []

    def add(self, step: int, loss: Tensor, lr: float) -> None:
        """`loss` of `step`, counted from 1. Raises `training-diverged`, possibly a few steps late."""
        self._waiting.append((step, loss, lr))
        if len(self._waiting) >= _LOSSES_AT_ONCE.get(loss.device.type, 1):
            self.flush()

    def flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        for (step, _, lr), loss in zip(
            waiting, torch.stack([loss for _, loss, _ in waiting]).tolist(), strict=True
        ):
            if not abs(loss) < float("inf"):
                raise diverged(step)
            self._run.state.loss_sum += loss
            self._run.state.loss_count += 1
            self._run.monitor.metric(step, loss, lr)

    def mean(self) -> float | None:
        """Mean loss of the epoch that is running, None where there was no step."""
        state = self._run.state
        return state.loss_sum / state.loss_count if state.loss_count else None


def train_step(run: Run, samples: list[Sample], factor: float) -> tuple[Tensor, float]:
    """Learn from `samples` with the rate scaled by `factor`; returns mean loss and rate.

    Batches run one after the other (gradient accumulation), and so do different sizes in a batch.
    """
    size = run.job.params.batch_size
    total = torch.zeros((), device=run.parts.device)
    for first in range(0, len(samples), size):
        for group in by_size(samples[first : first + size]):
            with _precision(run):
                loss = run.family.loss(run.parts, make_batch(run, group), run.rng).sum() / len(samples)
            loss.backward()
            total += loss.detach()
    rate = optim.set_rate(run.optimizer, factor)
    tensors = [tensor for group in run.optimizer.param_groups for tensor in group["params"]]
    torch.nn.utils.clip_grad_norm_(tensors, optim.MAX_GRAD_NORM)
    run.optimizer.step()
    run.optimizer.zero_grad(set_to_none=True)
    return total, rate


def make_batch(run: Run, samples: list[Sample]) -> Batch:
    """Cached latents and captions of these turns, with mirroring, shuffling and dropout drawn."""
    p, rng = run.job.params, run.rng
    flips = [p.flip and rng.chance("flip", 0.5, sample.position) for sample in samples]
    latents = run.cache.latent([sample.example.number for sample in samples], flips)
    return Batch(
        mean=latents.mean,
        std=latents.std,
        cond=run.cache.cond([_caption(run, sample) for sample in samples]),
        keys=[(sample.position,) for sample in samples],
        min_snr_gamma=p.min_snr_gamma,
        noise_offset=p.noise_offset,
        clip_skip=p.clip_skip,
        frames=_frames(run, [s.example.frame(mirrored=f) for s, f in zip(samples, flips, strict=True)]),
        flow_shift=p.flow_shift,
        timestep_density=p.timestep_density,
        turn=run.state.step,
    )


def _frames(run: Run, frames: list[tuple[int, ...]]) -> Tensor:
    return torch.tensor(frames, dtype=torch.float32, device=run.parts.device)


def _caption(run: Run, sample: Sample) -> str:
    if run.rng.chance("dropout", run.job.params.caption_dropout, sample.position):
        return ""
    texts = sample.example.captions
    if len(texts) == 1:
        return texts[0]
    return texts[int(run.rng.below("variant", [(sample.position,)], len(texts)))]


@torch.no_grad()
def validation_loss(run: Run) -> float | None:
    """Mean loss of the kept-out pictures at fixed noise levels; None where none was kept out."""
    if not run.held_out:
        return None
    with _precision(run):
        losses = [
            run.family.loss(run.parts, batch, Draws(run.rng.number("validation")))
            for batch in _validation_batches(run)
        ]
    return float(torch.cat(losses).double().mean())


def _validation_batches(run: Run) -> Iterator[Batch]:
    levels = run.parts.scheduler.config.num_train_timesteps
    spread = [levels * (2 * level + 1) // (2 * VALIDATION_LEVELS) for level in range(VALIDATION_LEVELS)]
    for example in run.held_out:
        latents = run.cache.latent([example.number] * VALIDATION_LEVELS, [False] * VALIDATION_LEVELS)
        yield Batch(
            mean=latents.mean,
            std=None,
            cond=run.cache.cond([example.caption] * VALIDATION_LEVELS),
            keys=[(example.number, level) for level in range(VALIDATION_LEVELS)],
            timesteps=torch.tensor(spread, device=run.parts.device),
            clip_skip=run.job.params.clip_skip,
            frames=_frames(run, [example.frame(mirrored=False)] * VALIDATION_LEVELS),
            flow_shift=run.job.params.flow_shift,
        )


def _precision(run: Run) -> torch.autocast:
    enabled = run.job.params.precision == "bf16"
    return torch.autocast(run.parts.device.type, torch.bfloat16, enabled=enabled)
