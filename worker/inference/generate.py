"""A generation from job to finished files: pipeline and LoRAs from the pool, pictures with infotext.

Knows neither database nor queue: a job, local files, an output folder, a Reporter. What goes wrong
is told in the `Finished` event, in words for the person who asked; only defects of this program raise.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from app.contract.events import Finished, LogLine, Picture, Progress, Unplaced
from app.contract.jobs import GenerateJob, LoraRef
from worker.device import is_out_of_memory, peak_memory, prepare
from worker.families.base import CheckpointRefused
from worker.inference.draw import Request, draw
from worker.inference.errors import LoraError, NotFiniteError, SettingsError
from worker.inference.infotext import describe, embed_png, write
from worker.inference.lora_files import MAX_STRENGTH, MIN_STRENGTH, LoraUse, autov3
from worker.inference.pool import PipelinePool, Warm
from worker.inference.prompt import LoraTag, read_prompt
from worker.inference.sparing import sparing
from worker.reporter import Reporter

__all__ = ["Request", "draw", "run_generate"]

Outcome = Literal["succeeded", "canceled", "paused", "failed"]
_ENDINGS: dict[str, Outcome] = {"cancel": "canceled", "pause": "paused"}


def run_generate(
    job: GenerateJob, files: Mapping[str, Path], out: Path, reporter: Reporter, pool: PipelinePool
) -> Finished:
    """Draw the job's pictures into `out` as 000.png, 001.png, …; report each as soon as it is written.

    `files` has a local path for the sha256 of the checkpoint and of every LoRA. A `cancel` acts before
    the next step; a `pause` does too, and since pictures depend on seeds alone the job is then run anew.
    """
    prepare(pool.device, job.threads)
    run = _Run(job, files, out, reporter, pool)
    finished = _attempt(run)
    if finished is None:  # outside the handler: its traceback would keep the tensors alive
        pool.clear()
        run.spare_memory()
        finished = _attempt(run)
    if finished is not None:
        return finished
    pool.clear()
    return run.failed(
        "out-of-memory",
        f"The machine ran out of memory while drawing at {job.width} × {job.height}, also with models "
        "unloaded and the picture decoded in tiles. Choose a smaller size.",
    )


def _attempt(run: "_Run") -> Finished | None:
    """The run's last word; None where memory ran out."""
    try:
        return run.pictures()
    except NotFiniteError:
        return run.failed(
            "not-finite",
            "This picture cannot be drawn: its numbers grew beyond all limits. Lower the CFG scale, the "
            "weights in the prompt or the LoRA strength.",
        )
    except CheckpointRefused as error:
        return run.failed("checkpoint-refused", str(error))
    except LoraError as error:
        return run.failed("lora-unusable", str(error))
    except SettingsError as error:
        return run.failed("invalid-settings", str(error))
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
    return None


@dataclass
class _Run:
    job: GenerateJob
    files: Mapping[str, Path]
    out: Path
    reporter: Reporter
    pool: PipelinePool
    wish: str | None = None
    done: int = 0
    sparing: bool = False
    """Draw with little memory, after it ran out."""
    saved: set[int] = field(default_factory=set)
    unplaced: dict[str, Unplaced] = field(default_factory=dict)
    """By the LoRA's name."""
    started: float = field(default_factory=time.monotonic)

    def pictures(self) -> Finished:
        self.reporter.report(Progress(phase="preparing"))
        self.out.mkdir(parents=True, exist_ok=True)
        uses = self.lora_uses()
        if self.stopped():
            return self.finished()
        base = self.job.base
        vae = self.files[base.vae.sha256] if base.vae else None
        warm = self.pool.get(base, self.files[base.file.sha256], vae)
        self.attach(warm, uses)
        named = self.with_hashes()
        request = _request(self.job)
        drawing = draw(warm.pipe, request, on_step=self.step_counter(), should_stop=self.stopped)
        with sparing(warm.pipe, wanted=self.sparing):
            for index, image in drawing:
                infotext = write(describe(named, self.job.seeds[index]))
                self.save(index, embed_png(image, infotext), infotext)
        return self.finished()

    def attach(self, warm: Warm, uses: Sequence[LoraUse]) -> None:
        """Make these LoRAs act; what has no place in the checkpoint is told once."""
        notes = warm.loras.attach(uses)
        for unplaced, note in zip(warm.loras.unplaced, notes, strict=True):
            if unplaced.lora not in self.unplaced:
                self.unplaced[unplaced.lora] = unplaced
                self.warn(note)

    def spare_memory(self) -> None:
        """Be asked to do it again with less: what was drawn already stays as it is."""
        self.sparing = True
        self.warn("The memory was full. Drawing again with models unloaded and the picture decoded in tiles.")

    def save(self, index: int, png: bytes, infotext: str) -> None:
        if index in self.saved:
            return
        self.saved.add(index)
        name = f"{index:03d}.png"
        (self.out / name).write_bytes(png)
        self.reporter.report(
            Picture(
                index=index,
                seed=self.job.seeds[index],
                path=name,
                width=self.job.width,
                height=self.job.height,
                infotext=infotext,
            )
        )

    def step_counter(self) -> Callable[[int, int], None]:
        begin = time.monotonic()

        def count(done: int, total: int) -> None:
            self.done = done
            rate = done / max(time.monotonic() - begin, 1e-6)
            self.reporter.report(
                Progress(
                    phase="sampling",
                    current=done,
                    total=total,
                    rate=round(rate, 3),
                    eta_seconds=round((total - done) / rate, 1),
                )
            )

        return count

    def stopped(self) -> bool:
        while self.wish is None and (command := self.reporter.command()) is not None:
            self.wish = command if command in _ENDINGS else None
        return self.wish is not None

    def lora_uses(self) -> list[LoraUse]:
        """The job's LoRAs; a tag in the prompt that names one replaces its strength."""
        prompt = read_prompt(self.job.prompt)
        negative = read_prompt(self.job.negative_prompt)
        tags = {tag.name: tag for tag in prompt.loras}
        known = {lora.name for lora in self.job.loras}
        for name in tags.keys() - known:
            self.warn(f"The prompt names the LoRA “{name}”, which is not among those chosen: ignored.")
        for words in prompt.ignored:
            self.warn(f"{words} means nothing here: ignored.")
        if negative.loras or negative.ignored:
            self.warn("LoRAs in the negative prompt have no effect: ignored.")
        return [self.lora_use(lora, tags) for lora in self.job.loras]

    def lora_use(self, lora: LoraRef, tags: Mapping[str, LoraTag]) -> LoraUse:
        tag = tags.get(lora.name) or LoraTag(lora.name, lora.strength, lora.strength)
        strengths = [max(MIN_STRENGTH, min(MAX_STRENGTH, value)) for value in (tag.unet, tag.text_encoder)]
        if strengths != [tag.unet, tag.text_encoder]:
            self.warn(f"The strength of the LoRA “{lora.name}” was brought into the range from -1 to 2.")
        return LoraUse(self.files[lora.file.sha256], lora.file.sha256, lora.name, *strengths)

    def with_hashes(self) -> GenerateJob:
        """The job with AutoV3 hashes filled in where they were not known."""
        loras = tuple(
            lora if lora.autov3 else lora.model_copy(update={"autov3": autov3(self.files[lora.file.sha256])})
            for lora in self.job.loras
        )
        return self.job.model_copy(update={"loras": loras})

    def warn(self, message: str) -> None:
        self.reporter.report(LogLine(level="warning", message=message))

    def finished(self) -> Finished:
        return self._end(_ENDINGS[self.wish] if self.wish else "succeeded")

    def failed(self, code: str, detail: str) -> Finished:
        self.reporter.report(LogLine(level="error", message=detail))
        return self._end("failed", code, detail)

    def _end(self, outcome: Outcome, code: str | None = None, detail: str | None = None) -> Finished:
        seconds = round(time.monotonic() - self.started, 3)
        return Finished(
            outcome=outcome,
            code=code,
            detail=detail,
            steps=self.done,
            peak_memory_bytes=peak_memory(self.pool.device),
            memory_retries=int(self.sparing),
            run_seconds=seconds,
            unplaced=tuple(self.unplaced.values()),
        )


def _request(job: GenerateJob) -> Request:
    return Request(
        prompt=job.prompt,
        negative_prompt=job.negative_prompt,
        sampler=job.sampler,
        steps=job.steps,
        cfg_scale=job.cfg_scale,
        width=job.width,
        height=job.height,
        seeds=job.seeds,
        clip_skip=job.clip_skip,
    )
