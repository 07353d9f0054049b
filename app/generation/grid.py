"""X/Y grids: two lists of values become the cells of a job, each with what differs there.

An axis is a list of labels and changes. A change works on a `Drawing`, what one cell is drawn with;
the epoch is changed first, because a strength is given to the LoRA that stands in its place.
"""

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

from sqlalchemy.orm import Session

from app.accounts.models import User
from app.contract.family import FamilySpec
from app.contract.jobs import Cell, GenerateJob, Grid, LoraRef
from app.contract.samplers import AUTOMATIC, SAMPLERS, joined_name, resolve_schedule, split_sampler
from app.core.errors import FieldError, Invalid
from app.gallery import refs
from app.generation import resolve
from app.generation.limits import sampler_error
from app.generation.schemas import MAX_SEED, MAX_STRENGTH, MIN_STRENGTH, AxisIn, EpochOf, GenerationIn, GridIn
from app.generation.values import numbers_of, words_of
from app.training import service as training

MAX_CELLS = 64
AXES = {
    "lora_strength": "LoRA strength",
    "epoch": "Epoch",
    "sampler": "Sampler",
    "steps": "Steps",
    "cfg_scale": "CFG",
    "seed": "Seed",
    "prompt": "Prompt",
}


@dataclass
class Drawing:
    """What one cell is drawn with. `loras` has a place for each LoRA; None = left out."""

    fields: dict[str, Any]
    loras: list[LoraRef | None]


Change = Callable[[Drawing], None]


@dataclass
class Axis:
    """`place` is the index of the LoRA that it is about, None where it is about none."""

    name: str
    labels: list[str]
    changes: list[Change]
    place: int | None = None
    first: bool = False


@dataclass
class Asked:
    """What the axes are made from. `loras` grows where an axis brings one that the job does not have."""

    db: Session
    user: User
    body: GenerationIn
    job: GenerateJob
    spec: FamilySpec
    loras: list[LoraRef | None] = field(default_factory=list)


def add_grid(db: Session, user: User, body: GenerationIn, job: GenerateJob, spec: FamilySpec) -> GenerateJob:
    """The job with its grid and one seed for each cell. Errors: Invalid with words for the axis."""
    asked = Asked(db, user, body, job, spec, list(job.loras))
    grid = cast(GridIn, body.grid)
    wanted = {"x": grid.x, "y": grid.y}
    made = {}
    for side, axis in sorted(wanted.items(), key=lambda item: not (item[1] and item[1].axis == "epoch")):
        made[side] = _axis(asked, axis, f"#/grid/{side}") if axis else None
    x, y = cast(Axis, made["x"]), made["y"]
    if y is not None and (x.name, x.place) == (y.name, y.place) and x.name != AXES["prompt"]:
        raise _wrong("#/grid/y", "is the same as the first one; choose another")
    if grid.baseline:
        _add_baseline(asked, x, y)
    _check_cells(len(x.labels) * (len(y.labels) if y else 1))
    return _with_cells(asked, x, y)


def _check_cells(count: int) -> None:
    if count > MAX_CELLS:
        words = f"These are {count} pictures; a grid has at most {MAX_CELLS}. Give fewer values."
        raise Invalid(words, [FieldError("#/grid", words, "too-many")], code="too-many-cells")


def _wrong(where: str, words: str) -> Invalid:
    return Invalid(f"{where[2:].replace('/', ' ')}: {words}.", [FieldError(where, words)])


def _axis(asked: Asked, wanted: AxisIn, where: str) -> Axis:
    for name, axis in (("model_version_id", "lora_strength"), ("training", "epoch"), ("search", "prompt")):
        if getattr(wanted, name) is not None and wanted.axis != axis:
            raise _wrong(f"{where}/{name}", f"has a meaning only for {axis}")
    try:
        return _MAKERS[wanted.axis](asked, wanted)
    except ValueError as error:
        raise _wrong(f"{where}/values", str(error)) from error


def _strengths(asked: Asked, wanted: AxisIn) -> Axis:
    place = _place(asked, wanted.model_version_id)
    numbers = numbers_of(wanted.values)
    if not all(MIN_STRENGTH <= number <= MAX_STRENGTH for number in numbers):
        raise ValueError("a strength is from -1 to 2")

    def at(number: float) -> Change:
        def change(drawing: Drawing) -> None:
            lora = drawing.loras[place]
            drawing.loras[place] = resolve.with_strengths(lora, number, None) if lora else None

        return change

    name = f"Strength of {_called(asked.loras[place])}"
    return Axis(name, [f"{n:g}" for n in numbers], [at(number) for number in numbers], place)


def _called(lora: LoraRef | None) -> str:
    return (lora.title or lora.name) if lora else ""


def _place(asked: Asked, version_id: int | None) -> int:
    """Which of the job's LoRAs is meant. Errors: ValueError."""
    for place, lora in enumerate(asked.loras):
        if lora and version_id is not None and lora.model_version_id == version_id:
            return place
    if not asked.loras:
        raise ValueError("there is no LoRA; add one first")
    if version_id is not None:
        raise ValueError("this LoRA is not in the list; add it first")
    if len(asked.loras) > 1:
        raise ValueError("say which LoRA is meant: there are several")
    return 0


def _epochs(asked: Asked, wanted: AxisIn) -> Axis:
    own = asked.body.checkpoint_of_training
    source = wanted.training or (own.id if own else None)
    if source is None:
        raise ValueError("say whose epochs: choose a training")
    numbers = _epoch_numbers(asked, source, wanted)
    given = {"strength": own.strength, "text_encoder_strength": own.text_encoder_strength} if own else {}
    epochs = [
        resolve.epoch_ref(asked.db, asked.user, EpochOf(id=source, epoch=number, **given))
        for number in numbers
    ]
    refs.check_loras(asked.db, asked.job.base, epochs[:1], ["#/grid"])
    place = len(asked.loras)
    if own and own.id == source:  # its place is the last of those that were listed, before the prompt's
        held = resolve.epoch_ref(asked.db, asked.user, own).file.sha256
        place = next(n for n, lora in enumerate(asked.loras) if lora and lora.file.sha256 == held)
    else:
        asked.loras.append(epochs[0])

    def at(epoch: LoraRef) -> Change:
        return lambda drawing: drawing.loras.__setitem__(place, epoch)

    name = f"Epoch of {_called(epochs[0])}"
    return Axis(name, [f"{n}" for n in numbers], [at(epoch) for epoch in epochs], place, first=True)


def _epoch_numbers(asked: Asked, source: str, wanted: AxisIn) -> list[int]:
    """`all` is every epoch that there is."""
    if wanted.values in ("all", ["all"]):
        return [row.epoch for row in training.list_checkpoints(asked.db, asked.user, source)]
    return [int(number) for number in numbers_of(wanted.values, whole=True)]


def _samplers(asked: Asked, wanted: AxisIn) -> Axis:
    labels, changes = [], []
    for words in words_of(wanted.values):
        name, schedule = split_sampler(words)
        if schedule == AUTOMATIC and name in SAMPLERS and asked.body.schedule in SAMPLERS[name].schedules:
            schedule = asked.body.schedule or AUTOMATIC
        if error := sampler_error(name, schedule):
            raise ValueError(error)
        resolved = resolve_schedule(name, schedule)
        labels.append(joined_name(name, resolved))
        changes.append(_set(sampler=name, schedule=resolved))
    return Axis(AXES["sampler"], labels, changes)


def _set(**fields: Any) -> Change:
    return lambda drawing: drawing.fields.update(fields)


def _steps(asked: Asked, wanted: AxisIn) -> Axis:
    numbers = numbers_of(wanted.values, whole=True)
    limit = asked.spec.generation.max_steps
    if not all(1 <= number <= limit for number in numbers):
        raise ValueError(f"give 1 to {limit} steps")
    return Axis(AXES["steps"], [f"{n:g}" for n in numbers], [_set(steps=int(n)) for n in numbers])


def _cfg(_: Asked, wanted: AxisIn) -> Axis:
    numbers = numbers_of(wanted.values)
    if not all(1 <= number <= 30 for number in numbers):
        raise ValueError("a CFG scale is from 1 to 30")
    return Axis(AXES["cfg_scale"], [f"{n:g}" for n in numbers], [_set(cfg_scale=n) for n in numbers])


def _seeds(_: Asked, wanted: AxisIn) -> Axis:
    numbers = [int(number) for number in numbers_of(wanted.values, whole=True)]
    if not all(-1 <= number <= MAX_SEED for number in numbers):
        raise ValueError(f"a seed is from 0 to {MAX_SEED}, or -1 for a random one")
    seeds = [secrets.randbelow(MAX_SEED + 1) if number == -1 else number for number in numbers]
    return Axis(AXES["seed"], [str(seed) for seed in seeds], [_set(seed=seed) for seed in seeds])


def _prompts(asked: Asked, wanted: AxisIn) -> Axis:
    """Search and replace: the first value is what is searched, unless that is said apart."""
    words = words_of(wanted.values)
    search = wanted.search or words[0]
    if search not in asked.job.prompt and search not in asked.job.negative_prompt:
        raise ValueError(f"“{search[:40]}” is not in the prompt, so nothing would change")

    def replaced(by: str) -> Change:
        def change(drawing: Drawing) -> None:
            for name in ("prompt", "negative_prompt"):
                drawing.fields[name] = drawing.fields[name].replace(search, by)

        return change

    return Axis(AXES["prompt"], [each[:80] for each in words], [replaced(each) for each in words])


_MAKERS: dict[str, Callable[[Asked, AxisIn], Axis]] = {
    "lora_strength": _strengths, "epoch": _epochs, "sampler": _samplers, "steps": _steps,
    "cfg_scale": _cfg, "seed": _seeds, "prompt": _prompts,
}  # fmt: skip


def _add_baseline(asked: Asked, x: Axis, y: Axis | None) -> None:
    """One more column (or row) without the LoRA that the axis is about; else without any."""
    if not asked.loras:
        raise _wrong("#/grid/baseline", "there is no LoRA to leave out")
    about = next((axis for axis in (x, y) if axis and axis.place is not None), x)
    place = about.place

    def leave_out(drawing: Drawing) -> None:
        drawing.loras = [lora if place not in (None, n) else None for n, lora in enumerate(drawing.loras)]

    one = place is not None or len(asked.loras) == 1
    named = _called(asked.loras[place or 0]) if one else "any LoRA"
    about.labels.insert(0, f"without {named}")
    about.changes.insert(0, leave_out)


def _with_cells(asked: Asked, x: Axis, y: Axis | None) -> GenerateJob:
    job, cells = asked.job, []
    for row in range(len(y.labels) if y else 1):
        for column in range(len(x.labels)):
            changes = [(x.first, x.changes[column])] + ([(y.first, y.changes[row])] if y else [])
            cells.append(_cell(asked, column, row, [c for _, c in sorted(changes, key=lambda c: not c[0])]))
    grid = Grid(
        x_axis=x.name, x_labels=tuple(x.labels), cells=tuple(cells),
        **({"y_axis": y.name, "y_labels": tuple(y.labels)} if y else {}),
    )  # fmt: skip
    seeds = tuple(job.seeds[0] if cell.seed is None else cell.seed for cell in cells)
    return job.model_copy(update={"grid": grid, "seeds": seeds})


def _cell(asked: Asked, column: int, row: int, changes: list[Change]) -> Cell:
    """A cell says only what differs from the job."""
    job = asked.job
    own = {
        "seed": job.seeds[0], "prompt": job.prompt, "negative_prompt": job.negative_prompt,
        "sampler": job.sampler, "schedule": job.schedule, "steps": job.steps, "cfg_scale": job.cfg_scale,
    }  # fmt: skip
    drawing = Drawing(dict(own), list(asked.loras))
    for change in changes:
        change(drawing)
    loras = tuple(lora for lora in drawing.loras if lora is not None)
    differing = {name: value for name, value in drawing.fields.items() if value != own[name]}
    return Cell(x=column, y=row, **differing, **({} if loras == job.loras else {"loras": loras}))
