"""Sample pictures and clips during a run, drawn by the same code as the generator's.

They have draws of their own (each prompt's fixed seed), so a run with samples learns exactly what
one without learns. The freed encoders come back for the moment.
"""

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from safetensors.torch import save

from app.contract.events import Sample
from app.contract.family import ClipDefaults
from app.contract.jobs import SamplePrompt
from worker.inference.clip_draw import draw_clips
from worker.inference.clip_files import poster, write_clip
from worker.inference.clip_job import clip_request
from worker.inference.draw import draw, request_of
from worker.inference.errors import NotFiniteError
from worker.inference.infotext import describe, embed_png, sample_job, write
from worker.inference.sparing import sparing
from worker.training.errors import diverged
from worker.training.export import exported_tensors, tensor_hash
from worker.training.run import Run
from worker.training.setup import unit_of

FOLDER = "samples"


@dataclass(frozen=True)
class Occasion:
    """When samples are drawn. `name` makes their file names."""

    epoch: int
    step: int
    name: str
    baseline: bool = False


def draw_samples(run: Run, occasion: Occasion) -> Path | None:
    """Draw every sample prompt and report each picture; returns the first one's path.

    A wish to stop ends it early. Raises `training-diverged` where the numbers are not finite.
    """
    prompts = run.job.sample_prompts
    if not prompts:
        return None
    unit, clips = unit_of(run), run.family.spec.clips
    run.monitor.begin("sampling", total=len(prompts), unit=unit)
    run.family.load_encoders(run.parts)
    if run.job.sparing and not run.live_text:
        run.parts.move_text("cpu")
    first: Path | None = None
    try:
        pipe = run.family.assemble(run.parts)
        off = run.adapter.switched_off() if occasion.baseline else nullcontext()
        with off, sparing(pipe, wanted=run.job.sparing):
            for sample in _clips(run, pipe, occasion, clips) if clips else _pictures(run, pipe, occasion):
                first = first or run.out / (sample.poster or sample.path)
                run.monitor.report(sample)
                run.monitor.count(sample.prompt_index + 1, len(prompts), unit)
    except NotFiniteError as error:
        raise diverged(occasion.step) from error
    finally:
        run.parts.free_encoders(keep_text_encoder=run.live_text)
    return first


def _pictures(run: Run, pipe: Any, occasion: Occasion) -> Iterator[Sample]:
    (run.out / FOLDER).mkdir(parents=True, exist_ok=True)
    named = {} if occasion.baseline else _adapter_names(run, occasion)
    for index, prompt in enumerate(run.job.sample_prompts):
        wanted = sample_job(run.job, prompt, run.family.spec.generation, **named)
        for _, picture in draw(
            pipe,
            request_of(wanted),
            on_step=lambda *_, done=index: run.monitor.count(done, len(run.job.sample_prompts), "picture"),
            should_stop=lambda: run.monitor.listen() is not None,
        ):
            path = f"{FOLDER}/{occasion.name}-{index}.png"
            text = write(describe(wanted, prompt.seed))
            (run.out / path).write_bytes(embed_png(picture, text))
            yield _sample(occasion, index, prompt, path)


def _clips(run: Run, pipe: Any, occasion: Occasion, clips: ClipDefaults) -> Iterator[Sample]:
    (run.out / FOLDER).mkdir(parents=True, exist_ok=True)
    named = {} if occasion.baseline else _adapter_names(run, occasion)
    for index, prompt in enumerate(run.job.sample_prompts):
        wanted = sample_job(run.job, prompt, run.family.spec.generation, **named)
        wanted = wanted.model_copy(
            update={"frames": prompt.frames, "fps": clips.rule.fps, "shift": clips.shift}
        )
        for _, frames in draw_clips(
            pipe,
            clip_request(wanted, clips, None),
            on_step=lambda *_, done=index: run.monitor.count(done, len(run.job.sample_prompts), "clip"),
            should_stop=lambda: run.monitor.listen() is not None,
        ):
            path, text = f"{FOLDER}/{occasion.name}-{index}", write(describe(wanted, prompt.seed))
            if len(frames) == 1:
                (run.out / f"{path}.png").write_bytes(embed_png(Image.fromarray(frames[0]), text))
                yield _sample(occasion, index, prompt, f"{path}.png")
                continue
            write_clip(run.out / f"{path}.mp4", frames, clips.rule.fps, text)
            (run.out / f"{path}.jpg").write_bytes(poster(frames))
            sample = _sample(occasion, index, prompt, f"{path}.mp4")
            yield sample.model_copy(
                update={"frames": len(frames), "fps": clips.rule.fps, "poster": f"{path}.jpg"}
            )


def _sample(occasion: Occasion, index: int, prompt: SamplePrompt, path: str) -> Sample:
    return Sample(
        epoch=occasion.epoch,
        step=occasion.step,
        prompt_index=index,
        prompt=prompt.prompt,
        seed=prompt.seed,
        baseline=occasion.baseline,
        path=path,
        width=prompt.width,
        height=prompt.height,
    )


def _adapter_names(run: Run, occasion: Occasion) -> dict[str, str]:
    """How the generation data calls the adapter: by the name and the tensor hash that its file has."""
    digest = tensor_hash(save(exported_tensors(run)))
    return {"lora": f"{run.job.output_name}-{occasion.name}", "autov3": digest[:12]}
