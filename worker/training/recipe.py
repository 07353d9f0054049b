"""One training from job to adapter, to be read from top to bottom.

Load, cache latents and captions, free the encoders, put the LoRA in, resume, loop, measure, sample,
export. It knows no database, queue or web: a job, a family, files by hash, a work folder, a
reporter. All its randomness depends on (seed, purpose, position), so that a run which was killed
and goes on from its resume point ends with the same bits on a CPU.
"""

import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from app.contract.events import Finished
from app.contract.jobs import TrainJob
from worker import device as devices
from worker.draws import Draws
from worker.families.base import CheckpointRefused, Chosen, Family
from worker.families.resolve import epoch_ends, samples_seen, saved_epochs, steps_for
from worker.reporter import Reporter
from worker.training import optim
from worker.training.again import lower, with_less
from worker.training.checkpoint import EpochRecord, RunState
from worker.training.dataset import Stream, load_examples
from worker.training.errors import Stopped, TrainingError
from worker.training.frozen_weights import settle
from worker.training.lora import LEARNED, inject
from worker.training.monitor import Monitor
from worker.training.preview import Occasion, draw_samples
from worker.training.run import Run, Task
from worker.training.saving import furthest_resume, save_point, write_adapter
from worker.training.setup import go_on, obtain_cache, tell_about, unit_of
from worker.training.step import LossLog, train_step, validation_loss

RESUME_SECONDS = 180.0
"""A resume point is also written when the last one is older than this."""
OUT_OF_MEMORY = "out-of-memory"


def train(
    job: TrainJob,
    family: Family,
    files: Mapping[str, Path],
    out: Path,
    reporter: Reporter,
    *,
    resume: Path | None = None,
    device: torch.device | None = None,
    resume_seconds: float = RESUME_SECONDS,
    full_while: str | None = None,
) -> Finished:
    """Train one LoRA; the last event reported is the returned one.

    `files` maps the sha256 of every file that the job names to a local path; the base checkpoint is
    a folder in diffusers layout or one file. All output lies under `out`. The run goes on from `resume`, else
    from the newest resume point in `out`. Only programming errors are raised.
    """
    device = device or devices.choose_device()
    devices.prepare(device, job.threads)
    out.mkdir(parents=True, exist_ok=True)
    monitor = Monitor(reporter, steps_for(job.params, len(job.items)), job.params.epochs)
    task = Task(job, family, files, out, monitor, device, Draws(job.params.seed))
    retries = 0
    if full_while and (smaller := with_less(task, full_while)):
        task, retries = smaller, 1
    finished = attempt(task, resume, resume_seconds)
    if finished.code == OUT_OF_MEMORY and (smaller := with_less(task, monitor.phase)):
        finished, retries = attempt(smaller, resume, resume_seconds), 1
    figures = {"peak_memory_bytes": devices.peak_memory(device), "memory_retries": retries}
    finished = finished.model_copy(update=figures)
    reporter.report(finished)
    return finished


def attempt(task: Task, resume: Path | None, resume_seconds: float) -> Finished:
    """The run from its last resume point to its end, whatever that is. Nothing of it stays in memory."""
    since = time.monotonic()
    try:
        run = prepare(task, resume)
        since -= run.state.run_seconds
        loop(run, resume_seconds, since)
        finished = conclude(run)
    except (Stopped, TrainingError, CheckpointRefused, RuntimeError, MemoryError) as error:
        finished = ending(error, task.monitor, task.device)
    return finished.model_copy(update={"run_seconds": time.monotonic() - since})


def ending(error: Exception, monitor: Monitor, device: torch.device) -> Finished:
    """How a run that did not reach its end is reported. Raises `error` again where nobody can help it."""
    match error:
        case Stopped():
            return Finished(outcome="paused" if monitor.stop == "pause" else "canceled")
        case TrainingError():
            return Finished(outcome="failed", code=error.code, detail=error.detail)
        case CheckpointRefused():
            return Finished(outcome="failed", code="base-model-unusable", detail=str(error))
    if not devices.is_out_of_memory(error):
        raise error
    words = devices.out_of_memory_words(device, monitor.phase)
    return Finished(outcome="failed", code=OUT_OF_MEMORY, detail=words)


def prepare(task: Task, resume: Path | None = None) -> Run:
    """Everything up to the first step: checkpoint, set, caches, adapter, and where the last run stopped."""
    task.monitor.begin("preparing")
    saved = furthest_resume(task, resume)
    if saved and saved.state.lowered:
        lower(task, saved.state.lowered)
    job, family, p = task.job, task.family, task.job.params
    chosen = Chosen.of(job.base, task.files)
    parts = family.load(task.files[job.base.file.sha256], task.device, devices.DTYPES[p.precision], chosen)
    multiple = math.lcm(family.spec.bucket_multiple, family.latent_factor(parts))
    examples = load_examples(job, task.files, multiple, task.rng, family.spec.clips)
    tell_about(task, parts, examples)

    task.monitor.begin("caching", total=len(examples), unit=unit_of(task))
    cache = obtain_cache(task, parts, examples, saved)

    targets = family.lora_targets(parts)
    parts.free_encoders(keep_text_encoder=p.text_encoder_lr > 0)
    adapter = inject(parts, targets, p, task.rng)
    settle(parts, job)
    optimizer = optim.create_optimizer(adapter, p)
    if p.gradient_checkpointing:
        parts.checkpoint_gradients()

    state = RunState(started_at=time.time())
    run = Run(
        **vars(task),
        parts=parts,
        examples=examples,
        cache=cache,
        adapter=adapter,
        optimizer=optimizer,
        state=state,
    )
    go_on(run, saved)
    return run


def loop(run: Run, resume_seconds: float, since: float) -> None:
    """All steps that are left. `since`: when the run began, time between attempts taken out."""
    p, state, monitor = run.job.params, run.state, run.monitor
    images = len(run.job.items)
    ends, saves = epoch_ends(p, images), saved_epochs(p, images)
    stream = Stream(run.trained, images * p.repeats, p.batch_size, run.rng)
    losses = LossLog(run)

    draw_baseline(run, ends_left=len(saves))
    saved_at = time.monotonic()
    monitor.begin_training(state.step, next_epoch(run, ends) or p.epochs)
    while (epoch := next_epoch(run, ends)) is not None:
        if monitor.listen() is not None:
            losses.flush()
            stop(run, since)

        if state.step < ends[epoch]:
            loss, rate = advance(run, stream)
            losses.add(state.step, loss, rate)
            monitor.stepped(state.step, epoch)

        if state.step == ends[epoch]:
            losses.flush()
            began = time.monotonic()
            end_epoch(run, epoch, losses.mean(), save=epoch in saves)
            save_point(run, since)
            saved_at = time.monotonic()
            monitor.epoch_ended(saved_at - began, sum(1 for e in saves if e > epoch))
            if state.step < steps_for(p, images):
                monitor.begin_training(state.step, next_epoch(run, ends) or epoch)
        elif time.monotonic() - saved_at >= resume_seconds:
            losses.flush()
            save_point(run, since)
            saved_at = time.monotonic()
        grant_wishes(run, epoch)


def advance(run: Run, stream: Stream) -> tuple[Tensor, float]:
    """One optimizer step with the next turns of the stream; returns its mean loss and its rate."""
    p, step, images = run.job.params, run.state.step, len(run.job.items)
    batch = p.batch_size * p.gradient_accumulation
    first = step * batch
    samples = stream.take(first, min(batch, samples_seen(p, images) - first))
    run.state.step += 1
    return train_step(run, samples, optim.lr_factor(p, step, steps_for(p, images)))


def next_epoch(run: Run, ends: Mapping[int, int]) -> int | None:
    """The first epoch that was not brought to its end; None after the last."""
    ended = {record.epoch for record in run.state.history}
    return min((epoch for epoch in ends if epoch not in ended), default=None)


def draw_baseline(run: Run, ends_left: int) -> None:
    """The sample prompts without the LoRA, once in a run. They also tell how long an epoch's end takes."""
    if run.state.baseline_drawn:
        return
    began = time.monotonic()
    draw_samples(run, Occasion(epoch=0, step=0, name="baseline", baseline=True))
    run.monitor.epoch_ended(time.monotonic() - began, ends_left)
    run.state.baseline_drawn = run.monitor.listen() is None


def end_epoch(run: Run, epoch: int, loss: float | None, *, save: bool) -> None:
    """Measure on the kept-out pictures; with `save` also draw samples and write the adapter.

    A wish to stop cuts the samples short: then the epoch has not ended, and a resumed run does this again.
    """
    measured = validation_loss(run)
    step = run.state.step
    if save:
        picture = draw_samples(run, Occasion(epoch=epoch, step=step, name=f"{epoch:06d}"))
        run.monitor.begin("saving")
        event = write_adapter(run, epoch, f"{epoch:06d}", picture)
        run.monitor.report(event.model_copy(update={"loss": loss, "validation_loss": measured}))
    if run.monitor.listen() is None:
        run.state.history.append(EpochRecord(epoch, step, loss, measured, save))
        run.state.loss_sum, run.state.loss_count = 0.0, 0


def stop(run: Run, since: float) -> None:
    """Obey the wish to stop; a pause leaves a resume point of this very step."""
    if run.monitor.stop == "pause":
        run.monitor.begin("saving")
        save_point(run, since)
    raise Stopped


def grant_wishes(run: Run, epoch: int) -> None:
    """Samples or a file at this very step, when somebody asked for them."""
    run.monitor.listen()
    name = f"step{run.state.step:08d}"
    if sample := run.monitor.wants("sample"):
        draw_samples(run, Occasion(epoch=epoch, step=run.state.step, name=name))
    if save := run.monitor.wants("save"):
        run.monitor.begin("saving")
        run.monitor.report(write_adapter(run, epoch, name))
    if sample or save:
        run.monitor.begin_training(run.state.step, epoch)


def conclude(run: Run) -> Finished:
    """The verdict: which epoch to take, or that nothing was learnt."""
    if run.adapter.relative_change() < LEARNED:
        detail = (
            "It learned nothing: the LoRA changes the model by less than one part in a million. "
            "Choose a higher learning rate or more steps."
        )
        raise TrainingError("adapter-empty", detail)
    epoch, reason = recommended(run.state.history)
    return Finished(
        outcome="succeeded", recommended_epoch=epoch, recommended_reason=reason, steps=run.state.step
    )


def recommended(history: list[EpochRecord]) -> tuple[int, Literal["validation", "last"]]:
    """The saved epoch with the lowest loss on kept-out pictures, ties to the earlier; else the last."""
    saved = [record for record in history if record.saved]
    measured = [(r.validation_loss, r.epoch) for r in saved if r.validation_loss is not None]
    if measured:
        return min(measured)[1], "validation"
    return saved[-1].epoch, "last"
