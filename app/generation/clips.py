"""Clips in the generator: their lengths, what a request may say of them, what only pictures have.

The chosen model decides: a family with `clips` draws clips, any other pictures. Seconds are for people,
frames count.
"""

from collections.abc import Iterator, Mapping

from app.contract.family import ClipDefaults, FamilySpec
from app.contract.jobs import GenerateJob
from app.contract.samplers import FLOW_SAMPLERS, SAMPLERS, SamplerSpec
from app.core.errors import FieldError
from app.generation.schemas import DENOISE, GenerationIn

OFFERED = 8
"""Lengths that the form shows; REST takes every legal one."""
RATES = (8, 12, 16, 24, 30)
ONLY_PICTURES = {
    "hires": "the hires fix", "mask": "a mask", "grid": "a grid of values", "clip_skip": "CLIP skip",
}  # fmt: skip


def samplers_of(spec: FamilySpec) -> Mapping[str, SamplerSpec]:
    """Those that draw with this family."""
    return FLOW_SAMPLERS if spec.clips else SAMPLERS


def legal_lengths(clips: ClipDefaults) -> list[int]:
    """Frames of every clip that can be drawn; the first one is a picture."""
    return list(range(1, clips.max_length + 1, clips.rule.step))


def offered_lengths(clips: ClipDefaults, chosen: int | None = None) -> list[int]:
    """Some of them, evenly apart, for a form: the usual one is among them, and what is chosen."""
    every = legal_lengths(clips)[1:]
    apart = -(-len(every) // OFFERED)
    shown = {frames for n, frames in enumerate(reversed(every)) if n % apart == 0} | {clips.length}
    return sorted(shown | ({chosen} if chosen in every else set()))


def seconds_words(frames: int, fps: float) -> str:
    """`2.1 s`."""
    return f"{frames / fps:.1f} s"


def rates_of(clips: ClipDefaults, chosen: float | None = None) -> list[float]:
    """Frames a second that the form offers."""
    return sorted({*RATES, clips.rule.fps} | ({chosen} if chosen else set()))


def nearest_length(frames: float, clips: ClipDefaults) -> int:
    """The legal length next to what was asked for elsewhere."""
    return min(legal_lengths(clips), key=lambda legal: (abs(legal - frames), legal))


def check_clip(body: GenerationIn, spec: FamilySpec) -> Iterator[FieldError]:
    """What is wrong with a request as one for clips, or as one for pictures that asks for clips."""
    if spec.clips is None:
        yield from _of_pictures(body, spec)
    else:
        yield from _values(body, spec.clips)
        yield from _without(body, spec)


def _of_pictures(body: GenerationIn, spec: FamilySpec) -> Iterator[FieldError]:
    words = f"{spec.title} draws pictures; choose a model that draws clips, or leave this out"
    if body.frames not in (None, 1):
        yield FieldError("#/frames", words, "no-effect")
    for name in ("fps", "shift"):
        if getattr(body, name) is not None:
            yield FieldError(f"#/{name}", words, "no-effect")


def _values(body: GenerationIn, clips: ClipDefaults) -> Iterator[FieldError]:
    if body.frames is not None and body.frames not in legal_lengths(clips):
        step, longest = clips.rule.step, legal_lengths(clips)[-1]
        near = nearest_length(body.frames, clips)
        words = f"give {step} · n + 1 frames from 1 to {longest}; the nearest is {near}"
        yield FieldError("#/frames", words, "out-of-range")
    if body.shift is not None and not 0 < body.shift <= clips.max_shift:
        yield FieldError("#/shift", f"give more than 0 and at most {clips.max_shift:g}", "out-of-range")


def _without(body: GenerationIn, spec: FamilySpec) -> Iterator[FieldError]:
    usual = {"clip_skip": spec.generation.clip_skip}
    for name, called in ONLY_PICTURES.items():
        if getattr(body, name) not in (None, usual.get(name)):
            yield FieldError(f"#/{name}", f"{called} is for pictures; clips have none", "no-effect")
    if body.init_image is None:
        return
    if spec.clips is None or not spec.clips.first_frame:
        yield FieldError("#/init_image", f"{spec.title} cannot go on from a picture", "no-effect")
    elif body.frames == 1:
        yield FieldError("#/init_image", "a clip of one frame cannot go on from a picture", "no-effect")
    if body.denoise not in (None, DENOISE):
        words = "has no meaning for clips: the picture is their first frame as it is"
        yield FieldError("#/denoise", words, "no-effect")


def of_job(body: GenerationIn, spec: FamilySpec) -> dict[str, int | float | None]:
    """Frames, rate and shift of a job; what is left out is the family's."""
    clips = spec.clips
    if clips is None:
        return {}
    return {
        "frames": body.frames or clips.length,
        "fps": body.fps or clips.rule.fps,
        "shift": body.shift or clips.shift,
    }


def meta_of(job: GenerateJob) -> dict[str, float | None]:
    """What a clip keeps of itself beside what pictures keep."""
    return {"frames": job.frames, "fps": job.fps, "shift": job.shift} if job.shift is not None else {}
