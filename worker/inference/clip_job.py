"""A generation of clips: the job as a request, and each drawn clip as its files, its poster beside it."""

from pathlib import Path

from PIL import Image

from app.contract.events import Picture
from app.contract.family import ClipDefaults
from app.contract.jobs import GenerateJob
from worker.inference.clip_draw import ClipRequest
from worker.inference.clip_files import Frames, poster, write_clip
from worker.inference.errors import SettingsError
from worker.inference.infotext import embed_png


def check_media(job: GenerateJob, clips: ClipDefaults | None) -> None:
    """SettingsError for what the family of the job cannot make. `clips` None: it knows pictures only."""
    if clips is None:
        if job.frames != 1:
            raise SettingsError(
                "This model draws pictures, no clips. Ask for one frame, or take another model."
            )
        return
    if job.frames > clips.max_length:
        raise SettingsError(f"A clip of this model has {clips.max_length} frames at most.")
    if job.fps is not None and not 1 <= job.fps <= 60:
        raise SettingsError("A clip has 1 to 60 frames a second.")
    unknown = {
        "The hires fix": job.hires,
        "A mask": job.start and job.start.mask,
        "An embedding": job.embeddings,
    }
    for name, used in unknown.items():
        if used:
            raise SettingsError(f"{name} does nothing with a model that draws clips. Take it out.")


def clip_request(job: GenerateJob, clips: ClipDefaults, first_frame: Image.Image | None) -> ClipRequest:
    """The request of a job without grid; `first_frame` is its start, opened."""
    return ClipRequest(
        prompt=job.prompt,
        negative_prompt=job.negative_prompt,
        steps=job.steps,
        cfg_scale=job.cfg_scale,
        width=job.width,
        height=job.height,
        frames=job.frames,
        seeds=job.seeds,
        shift=job.shift,
        sampler=job.sampler,
        schedule=job.schedule,
        first_frame=first_frame,
        fps=rate_of(job, clips),
    )


def rate_of(job: GenerateJob, clips: ClipDefaults) -> float:
    """Frames a second of its clips."""
    return job.fps or clips.rule.fps


def save_clip(folder: Path, index: int, frames: Frames, fps: float, drawn: tuple[int, str]) -> Picture:
    """Write `NNN.mp4` and `NNN.jpg`; of one frame a PNG as any picture. `drawn`: seed and infotext."""
    seed, infotext = drawn
    count, height, width, _ = frames.shape
    facts = {"index": index, "seed": seed, "width": width, "height": height, "infotext": infotext}
    if count == 1:
        name = f"{index:03d}.png"
        (folder / name).write_bytes(embed_png(Image.fromarray(frames[0]), infotext))
        return Picture(path=name, **facts)
    name, beside = f"{index:03d}.mp4", f"{index:03d}.jpg"
    write_clip(folder / name, frames, fps, infotext)
    (folder / beside).write_bytes(poster(frames))
    return Picture(path=name, frames=count, fps=fps, poster=beside, **facts)
