"""What pydantic cannot know of a request: the limits of this family, and settings that would do nothing."""

from collections.abc import Iterator, Mapping

from app.contract.family import FamilySpec
from app.contract.jobs import UPSCALERS
from app.contract.passes import hires_size
from app.contract.samplers import AUTOMATIC, SAMPLERS, SCHEDULES, SamplerSpec, split_sampler
from app.core.errors import FieldError, Invalid
from app.generation.clips import check_clip, samplers_of
from app.generation.schemas import DENOISE, MASK_BLUR, GenerationIn

HIRES_SIDES = 2
"""A hires picture may have sides so many times the family's longest."""


def check(body: GenerationIn, spec: FamilySpec) -> None:
    """Errors: Invalid that lists every wrong field."""
    wrong = [*_sampling(body, spec), *_sizes(body, spec), *check_clip(body, spec)]
    if spec.clips is None:
        wrong += [*_start(body), *_hires(body, spec), *_grid(body)]
    refuse(wrong)


def refuse(wrong: list[FieldError], code: str | None = None) -> None:
    """Errors: Invalid with all of them, unless there are none."""
    if wrong:
        listed = "; ".join(f"{e.pointer[2:].replace('/', ' ')}: {e.detail}" for e in wrong)
        raise Invalid(f"Please correct: {listed}.", wrong, code=code)


def sampler_error(name: str, schedule: str, samplers: Mapping[str, SamplerSpec] = SAMPLERS) -> str:
    """Words for a sampler that there is not, or a schedule that it does not know; else empty."""
    if name not in samplers:
        return f"choose one of {', '.join(samplers)}"
    if schedule not in samplers[name].schedules:
        return f"{name} has no {schedule}: choose one of {', '.join(samplers[name].schedules)}"
    return ""


def _sampling(body: GenerationIn, spec: FamilySpec) -> Iterator[FieldError]:
    limits, samplers = spec.generation, samplers_of(spec)
    name, schedule = split_sampler(body.sampler or limits.sampler, body.schedule or AUTOMATIC)
    if name in samplers and schedule not in SCHEDULES:
        yield FieldError("#/schedule", f"choose one of {', '.join(samplers[name].schedules)}", "enum")
    elif words := sampler_error(name, schedule, samplers):
        field = "sampler" if name not in samplers or body.schedule is None else "schedule"
        yield FieldError(f"#/{field}", words, "enum")
    if body.steps is not None and body.steps > limits.max_steps:
        yield FieldError("#/steps", f"give at most {limits.max_steps}", "out-of-range")
    if body.quantity is not None and body.quantity > limits.max_quantity:
        yield FieldError("#/quantity", f"give at most {limits.max_quantity}", "out-of-range")


def _sizes(body: GenerationIn, spec: FamilySpec) -> Iterator[FieldError]:
    limits = spec.generation
    for name, pixels in (("width", body.width), ("height", body.height)):
        if pixels is None:
            continue
        if pixels % limits.multiple or not limits.min_side <= pixels <= limits.max_side:
            words = f"give {limits.min_side} to {limits.max_side} pixels in steps of {limits.multiple}"
            yield FieldError(f"#/{name}", words, "out-of-range")


def _start(body: GenerationIn) -> Iterator[FieldError]:
    if body.init_image is None:
        if body.denoise not in (None, DENOISE):
            yield FieldError("#/denoise", "has a meaning only with init_image", "no-effect")
        if body.mask is not None:
            yield FieldError("#/mask", "has a meaning only with init_image", "no-effect")
    if body.mask is None and body.mask_blur not in (None, MASK_BLUR):
        yield FieldError("#/mask_blur", "has a meaning only with mask", "no-effect")
    if body.mask is None and body.mask_padding is not None:
        yield FieldError("#/mask_padding", "has a meaning only with mask", "no-effect")


def _hires(body: GenerationIn, spec: FamilySpec) -> Iterator[FieldError]:
    hires, limits = body.hires, spec.generation
    if hires is None:
        return
    if body.mask is not None:
        words = "a part of a picture cannot be drawn anew with it; switch one of them off"
        yield FieldError("#/hires", words, "not-together")
    if hires.upscaler not in UPSCALERS:
        yield FieldError("#/hires/upscaler", f"choose one of {', '.join(UPSCALERS)}", "enum")
    if hires.steps is not None and hires.steps > limits.max_steps:
        yield FieldError("#/hires/steps", f"give at most {limits.max_steps}", "out-of-range")
    sides = hires_size(body.width or limits.width, body.height or limits.height, hires.scale)
    longest = HIRES_SIDES * limits.max_side
    if max(sides) > longest:
        words = f"makes {sides[0]} × {sides[1]}; at most {longest} pixels a side are possible"
        yield FieldError("#/hires/scale", words, "out-of-range")


def _grid(body: GenerationIn) -> Iterator[FieldError]:
    if body.grid is not None and body.quantity not in (None, 1):
        words = "a grid draws one picture for each of its cells; leave quantity out"
        yield FieldError("#/quantity", words, "no-effect")
