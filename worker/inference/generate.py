"""A generation from job to finished files: pipeline and LoRAs from the pool, pictures or clips with infotext.

Knows neither database nor queue: a job, local files, an output folder, a Reporter. What goes wrong
is told in the `Finished` event, in words for the person who asked; only defects of this program raise.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal, TypeVar

from PIL import Image

from app.contract.events import Finished, LogLine, Picture, Progress, Unplaced
from app.contract.family import ClipDefaults
from app.contract.jobs import EmbeddingRef, GenerateJob, LoraRef
from worker.device import is_out_of_memory, peak_memory, prepare
from worker.families.base import CheckpointRefused, Chosen
from worker.inference.clip_draw import draw_clips
from worker.inference.clip_job import check_media, clip_request, rate_of, save_clip
from worker.inference.draw import Request, draw, request_of
from worker.inference.embeddings import Embedding, EmbeddingError, read_embedding, unknown_names
from worker.inference.errors import LoraError, NotFiniteError, SettingsError
from worker.inference.grid import Series, series_of
from worker.inference.infotext import clips_of, describe, embed_png, write
from worker.inference.lora_files import MAX_STRENGTH, MIN_STRENGTH, LoraUse, LowNoise, autov3
from worker.inference.pool import PipelinePool, Warm
from worker.inference.preview import Previewer
from worker.inference.prompt import LoraTag, read_prompt
from worker.inference.sparing import sparing
from worker.inference.start import Start, read_start
from worker.reporter import Reporter

__all__ = ["Request", "draw", "run_generate"]

Outcome = Literal["succeeded", "canceled", "paused", "failed"]
Used = TypeVar("Used", LoraRef, EmbeddingRef)
_ENDINGS: dict[str, Outcome] = {"cancel": "canceled", "pause": "paused"}


def run_generate(
    job: GenerateJob, files: Mapping[str, Path], out: Path, reporter: Reporter, pool: PipelinePool
) -> Finished:
    """Draw the job's pictures into `out` as 000.png, 001.png, …; report each as soon as it is written.

    Clips are 000.mp4, … with 000.jpg, … beside them.

    `files` has a local path for the sha256 of every file that the job names. A `cancel` acts before
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
        "unloaded and the picture decoded in tiles. Choose a smaller size"
        + (" or fewer frames." if job.frames > 1 else "."),
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
    except EmbeddingError as error:
        return run.failed("embedding-unusable", str(error))
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
    told: set[str] = field(default_factory=set)
    hashes: dict[str, str] = field(default_factory=dict)
    """AutoV3 by sha256, as far as they had to be computed."""
    total: int = 0
    begun: float = 0.0
    started: float = field(default_factory=time.monotonic)

    def pictures(self) -> Finished:
        self.reporter.report(Progress(phase="preparing"))
        self.out.mkdir(parents=True, exist_ok=True)
        self.done, self.begun = 0, time.monotonic()
        check_media(self.job, self.clips)
        everything = series_of(self.job, flow=self.clips is not None)
        self.total = sum(series.calls for series in everything)
        if self.stopped():
            return self.finished()
        base = self.job.base
        chosen = Chosen.of(base, self.files)
        warm = self.pool.get(base, self.files[base.file.sha256], chosen, sparing=self.sparing)
        with sparing(warm.pipe, wanted=self.sparing):
            for series in everything:
                if not self.stopped():
                    self.attach(warm, self.lora_uses(series.job))
                    draw_all = self.draw if self.clips is None else self.draw_clips
                    draw_all(warm, series)
        return self.finished()

    def draw(self, warm: Warm, series: Series) -> None:
        """Pictures that differ in their seed alone, with the LoRAs that act now."""
        named, before = self.with_hashes(series.job), self.done
        previewer = Previewer(warm.pipe, self.out, self.reporter.report)
        drawing = draw(
            warm.pipe,
            request_of(series.job, self.start, self.embeddings),
            on_step=lambda done, _: self.count(before + done),
            should_stop=self.stopped,
            on_look=lambda place, meant: previewer.look(series.places[place], meant),
        )
        for place, image in drawing:
            seed = series.job.seeds[place]
            self.save(series.places[place], seed, image, write(describe(named, seed)))

    def draw_clips(self, warm: Warm, series: Series) -> None:
        """The same of clips."""
        assert self.clips is not None
        named, before, fps = self.with_hashes(series.job), self.done, rate_of(series.job, self.clips)
        previewer = Previewer(warm.pipe, self.out, self.reporter.report)
        drawing = draw_clips(
            warm.pipe,
            clip_request(series.job, self.clips, self.start.picture if self.start else None),
            on_step=lambda done, _: self.count(before + done),
            should_stop=self.stopped,
            on_look=lambda place, meant: previewer.look(series.places[place], meant),
        )
        for place, frames in drawing:
            index, seed = series.places[place], series.job.seeds[place]
            if index not in self.saved:
                self.saved.add(index)
                drawn = seed, write(describe(named, seed))
                self.reporter.report(save_clip(self.out, index, frames, fps, drawn))

    @cached_property
    def clips(self) -> ClipDefaults | None:
        return clips_of(self.job)

    @cached_property
    def start(self) -> Start | None:
        return read_start(self.job.start, self.files) if self.job.start else None

    @cached_property
    def embeddings(self) -> tuple[Embedding, ...]:
        return tuple(read_embedding(self.files[one.file.sha256], one.name) for one in self.job.embeddings)

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

    def save(self, index: int, seed: int, image: Image.Image, infotext: str) -> None:
        if index in self.saved:
            return
        self.saved.add(index)
        name = f"{index:03d}.png"
        (self.out / name).write_bytes(embed_png(image, infotext))
        self.reporter.report(
            Picture(
                index=index,
                seed=seed,
                path=name,
                width=image.width,
                height=image.height,
                infotext=infotext,
            )
        )

    def count(self, done: int) -> None:
        """So many calls of the model are done."""
        self.done = done
        rate = done / max(time.monotonic() - self.begun, 1e-6)
        self.reporter.report(
            Progress(
                phase="sampling",
                current=done,
                total=self.total,
                rate=round(rate, 3),
                eta_seconds=round((self.total - done) / rate, 1),
            )
        )

    def stopped(self) -> bool:
        while self.wish is None and (command := self.reporter.command()) is not None:
            self.wish = command if command in _ENDINGS else None
        return self.wish is not None

    def lora_uses(self, job: GenerateJob) -> list[LoraUse]:
        """The LoRAs of a series; a tag in the prompt that names one replaces its strength."""
        prompt, negative = read_prompt(job.prompt), read_prompt(job.negative_prompt)
        tags = {tag.name: tag for tag in prompt.loras}
        known = {lora.name for lora in job.loras}
        for name in tags.keys() - known:
            self.warn(f"The prompt names the LoRA “{name}”, which is not among those chosen: ignored.")
        for words in prompt.ignored:
            self.warn(f"{words} means nothing here: ignored.")
        embeddings = [embedding.name for embedding in job.embeddings]
        for name in unknown_names(f"{job.prompt}\n{job.negative_prompt}", embeddings):
            self.warn(f"The prompt names the embedding “{name}”, which is not here: it is read as words.")
        if negative.loras or negative.ignored:
            self.warn("LoRAs in the negative prompt have no effect: ignored.")
        return [self.lora_use(lora, tags) for lora in job.loras]

    def lora_use(self, lora: LoraRef, tags: Mapping[str, LoraTag]) -> LoraUse:
        apart = lora.text_encoder_strength
        own = LoraTag(lora.name, lora.strength if apart is None else apart, lora.strength)
        tag = tags.get(lora.name, own)
        strengths = [max(MIN_STRENGTH, min(MAX_STRENGTH, value)) for value in (tag.unet, tag.text_encoder)]
        if strengths != [tag.unet, tag.text_encoder]:
            self.warn(f"The strength of the LoRA “{lora.name}” was brought into the range from -1 to 2.")
        file, low = lora.file.sha256, lora.low_noise
        second = LowNoise(self.files[low.sha256], low.sha256) if low else None
        return LoraUse(self.files[file], file, lora.name, strengths[0], strengths[1], second)

    def with_hashes(self, job: GenerateJob) -> GenerateJob:
        """The job with AutoV3 hashes filled in where they were not known."""
        loras = tuple(map(self.with_hash, job.loras))
        embeddings = tuple(map(self.with_hash, job.embeddings))
        return job.model_copy(update={"loras": loras, "embeddings": embeddings})

    def with_hash(self, used: Used) -> Used:
        if used.autov3:
            return used
        sha256 = used.file.sha256
        if sha256 not in self.hashes:
            self.hashes[sha256] = autov3(self.files[sha256])
        return used.model_copy(update={"autov3": self.hashes[sha256]})

    def warn(self, message: str) -> None:
        """Tell it once, however many series there are."""
        if message in self.told:
            return
        self.told.add(message)
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
