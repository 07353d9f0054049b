"""How often the model is asked for a picture, and at what size: one pass, or two with the hires fix.

The worker draws by it, forms and estimates count by it. Sides are pixels.
"""

from typing import Protocol

from app.contract.family import Frozen
from app.contract.jobs import Cell, GenerateJob, Hires
from app.contract.samplers import model_calls

MULTIPLE = 8
"""Of the sides after the hires fix."""
LONGEST = 200
"""Steps of the longest schedule that a hires pass takes the end of."""


class Denoised(Protocol):
    @property
    def denoise(self) -> float: ...


class Drawable(Protocol):
    """What decides the passes: a GenerateJob, for one."""

    @property
    def sampler(self) -> str: ...
    @property
    def steps(self) -> int: ...
    @property
    def width(self) -> int: ...
    @property
    def height(self) -> int: ...
    @property
    def start(self) -> Denoised | None: ...
    @property
    def hires(self) -> Hires | None: ...


class Pass(Frozen):
    """One walk from noise to a picture: the last `steps` steps of a schedule of `schedule_steps`."""

    width: int
    height: int
    schedule_steps: int
    steps: int
    calls: int
    """Of the model: some samplers ask it twice a step."""


def picture_job(job: GenerateJob, index: int) -> GenerateJob:
    """The job of picture `index` alone: with what its cell changes, without the grid."""
    seed = job.seeds[index] if index < len(job.seeds) else job.seeds[0]
    if job.grid is None:
        return job.model_copy(update={"seeds": (seed,)})
    cell = job.grid.cells[index]
    values = {name: getattr(cell, name) for name in Cell.model_fields if name not in ("x", "y", "seed")}
    changes = {name: value for name, value in values.items() if value is not None}
    seeds = (seed if cell.seed is None else cell.seed,)
    return job.model_copy(update={**changes, "grid": None, "seeds": seeds})


def passes(job: Drawable) -> list[Pass]:
    """The first pass and, with `hires`, the second. Errors: KeyError for an unknown sampler.

    Clips run all their steps: what they start from is their first frame.
    """
    length = steps = job.steps
    if job.start is not None and getattr(job, "frames", 1) == 1:
        length, steps = start_steps(job.steps, job.start.denoise)
    found = [_pass(job.sampler, (job.width, job.height), length, steps)]
    if job.hires:
        size = hires_size(job.width, job.height, job.hires.scale)
        length, steps = hires_steps(job.hires.steps or job.steps, job.hires.denoise)
        found.append(_pass(job.sampler, size, length, steps))
    return found


def picture_calls(job: Drawable) -> int:
    """Calls of the model for one picture: what progress counts."""
    return sum(one.calls for one in passes(job))


def _pass(sampler: str, size: tuple[int, int], length: int, steps: int) -> Pass:
    return Pass(
        width=size[0],
        height=size[1],
        schedule_steps=length,
        steps=steps,
        calls=model_calls(sampler, steps),
    )


def start_steps(steps: int, denoise: float) -> tuple[int, int]:
    """Starting from a picture: (length of the schedule, how many of its last steps are run)."""
    return steps, min(steps, max(1, round(steps * denoise))) if denoise > 0 else 0


def hires_steps(steps: int, denoise: float) -> tuple[int, int]:
    """The same for the second pass: as in A1111 so many steps are run, as the end of a longer schedule."""
    if denoise <= 0:
        return steps, 0
    length = int(steps / min(denoise, 1.0))
    return (length, steps) if length <= LONGEST else (LONGEST, max(1, round(LONGEST * denoise)))


def hires_size(width: int, height: int, scale: float) -> tuple[int, int]:
    """Width and height after the hires fix."""
    scaled = [max(MULTIPLE, round(side * scale / MULTIPLE) * MULTIPLE) for side in (width, height)]
    return scaled[0], scaled[1]
