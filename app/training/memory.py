"""Whether a training fits the machines that are online, told before it waits in the queue.

What a person set is never changed in silence: defaults that were left alone may be, and are shown; for the
rest the request is refused with what would fit. Estimates are corrected by what runs took here.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from app.contract.family import FamilySpec
from app.contract.jobs import SamplePrompt, TrainJob, TrainParams
from app.core.errors import FieldError, Invalid
from app.jobs import workers
from app.jobs.models import Job, Worker
from app.training.models import TrainingRun
from app.training.schemas import MemoryChange, MemoryPlan
from worker.families.memory import Change, Figures, Fit, fit, needs
from worker.families.resolve import resolve_params

CARD_SHARE = 0.94
"""What of a card can be had: the rest is lost between blocks of different sizes."""
CONTEXT_BYTES = 512 << 20
"""What the driver itself takes of a card for each process."""
RAM_SHARE = 0.75
"""Of a machine that did not say how much memory is free."""
RUNS = 10
CALIBRATED_WITH = 4
"""Pictures that a worker's timed steps are planned for."""
SMALLEST_DIM = 4
LEAST, MOST = 0.5, 3.0
"""A correction beyond these is not believed."""


@dataclass(frozen=True)
class Device:
    """What a training could run on. `available` in bytes, None where nobody is online to ask."""

    name: str
    kind: str
    available: int | None
    host: int | None = None
    """Of the machine's own memory, for weights that wait beside a card."""


def best_device(db: Session) -> Device:
    """The living training machine with most memory; without one, the last that was heard of."""
    alive = workers.list_workers(db, alive=True)
    known = [_device(w, alive) for w in alive if "train" in w.queues and w.memory_bytes]
    if known:
        return max(known, key=lambda device: device.available or 0)
    silent = [w for w in workers.list_workers(db) if "train" in w.queues and w.device]
    return Device("", kind_of(silent[-1]) if silent else "cuda", None)


def kind_of(worker: Worker) -> str:
    """`cpu` or `cuda`."""
    return "cpu" if worker.device in ("", "CPU") else "cuda"


def device_kind(db: Session, job: Job) -> str | None:
    """Of the worker that holds this job; None where it is gone."""
    worker = db.get(Worker, job.worker_id) if job.worker_id else None
    return kind_of(worker) if worker else None


def _device(worker: Worker, alive: Sequence[Worker]) -> Device:
    """The machine's own memory: what is free, and what our own jobs there hold until a training's turn."""
    total, kind = worker.memory_bytes or 0, kind_of(worker)
    free = worker.facts.get("memory_free_bytes")
    own = sum(w.facts.get("memory_own_bytes", 0) for w in alive if w.host == worker.host)
    if kind == "cuda":
        room = round(CARD_SHARE * total) - CONTEXT_BYTES
        return Device(worker.device, kind, room, free + own if free else None)
    return Device("this machine", kind, min(total, (free or round(RAM_SHARE * total)) + own))


def plan_memory(
    db: Session, spec: FamilySpec, job: TrainJob, *, fixed: Collection[str]
) -> tuple[TrainJob, MemoryPlan | None]:
    """The job as it fits, and what to tell. `fixed`: settings that a person chose.

    Errors: Invalid `out-of-memory-expected` where it cannot fit without changing those.
    """
    device = best_device(db)
    measured = correction(db, spec, device.kind)
    limit = device.available or 1 << 62
    found = fit(spec, job, device.kind, limit, fixed=fixed, factor=measured or 1.0, host=device.host)
    if found is None or spec.memory is None:
        return job, None
    if not found.fits:
        raise _refusal(spec, job, device, found, measured or 1.0)
    return found.job, MemoryPlan(
        needed_bytes=found.needs.peak,
        available_bytes=device.available,
        device=device.name or None,
        measured=measured is not None or bool(spec.memory.devices[device.kind].measured_on),
        changes=[
            MemoryChange(
                field=change.field,
                before=change.before,
                after=change.after,
                detail=_because(change, device, found),
            )
            for change in found.changes
        ],
    )


def _because(change: Change, device: Device, found: Fit) -> str:
    words, room = change.words, f"{device.name} has room for {gigabytes(device.available or 0)}"
    if change.field == "streamed":
        room += f". About {gigabytes(found.needs.host)} of the machine's own memory are taken"
    if change.field == "quantised" and device.host is not None:
        room += f" and {gigabytes(device.host)} of the machine's own memory are free"
    return f"{words[0].upper()}{words[1:]}, because {room}."


def gigabytes(count: int) -> str:
    return f"{count / 1e9:.1f} GB"


def correction(db: Session, spec: FamilySpec, kind: str) -> float | None:
    """Largest measured share of truth and estimate on this installation and kind of device, or None.

    Counted are the newest runs that came to their end, and those that ran out of memory: their peak is
    what was there, so the next plan asks for more than that.
    """
    shares = []
    for peak, params, prompts, sparing, pictures, streamed, quantised in _peaks(db, spec, kind):
        asked = Figures(
            TrainParams.model_validate(params),
            tuple(SamplePrompt.model_validate(prompt) for prompt in prompts),
            bool(sparing),
            range(pictures),
            bool(streamed),
            bool(quantised),
        )
        if (found := needs(spec, asked, kind)) and peak:
            shares.append(peak / found.peak)
    shares = shares or _timed_steps(db, spec, kind)
    return min(MOST, max(LEAST, *shares)) if shares else None


def _timed_steps(db: Session, spec: FamilySpec, kind: str) -> list[float]:
    """What workers measured with their three timed steps at default settings."""
    params = resolve_params(spec, "style", "normal", CALIBRATED_WITH, {})
    estimate = needs(spec, Figures(params), kind)
    told = (w.facts.get("train_memory_bytes") or {} for w in workers.list_workers(db) if kind_of(w) == kind)
    return [peak / estimate.peak for found in told if estimate and (peak := found.get(spec.name))]


def _peaks(db: Session, spec: FamilySpec, kind: str) -> list[Any]:
    """What `Figures` takes, behind the peak in bytes, of runs on such devices, newest first."""
    payload = Job.payload
    query = (
        select(
            Job.metrics["peak_memory_bytes"],
            payload["params"],
            payload["sample_prompts"],
            payload["sparing"],
            func.jsonb_array_length(payload["items"]),
            payload["streamed"],
            payload["quantised"],
        )
        .join(TrainingRun, TrainingRun.job_id == Job.id)
        .where(
            TrainingRun.family == spec.name,
            Job.metrics["device_kind"].as_string() == kind,
            or_(Job.status == "succeeded", Job.error["code"].as_string() == "out-of-memory"),
        )
        .order_by(Job.seq.desc())
        .limit(RUNS)
    )
    return list(db.execute(query))


def _refusal(spec: FamilySpec, job: TrainJob, device: Device, found: Fit, factor: float) -> Invalid:
    available = device.available or 0
    first = fit(spec, job, device.kind, 1 << 62, factor=factor)
    needed = gigabytes((first or found).needs.peak)
    cure = lower_settings(spec, job, device, factor)
    fields = [
        FieldError(f"#/params/{name}", f"{_said(value)} would fit.", "out-of-memory-expected")
        for name, value in cure.items()
    ]
    return Invalid(
        f"This training needs about {needed} of memory; {device.name} has room for {gigabytes(available)}. "
        + _host_words(device, found)
        + _advice(cure, found),
        fields,
        code="out-of-memory-expected",
        needed_bytes=(first or found).needs.peak,
        available_bytes=available,
        device=device.name,
        would_fit=cure,
    )


def _host_words(device: Device, found: Fit) -> str:
    """Why weights do not wait outside of the card, where that would have helped."""
    if not found.host:
        return ""
    return (
        f"Weights could wait in the machine's own memory, but they take {gigabytes(found.host)} there, of "
        f"which {gigabytes(device.host or 0)} are free. "
    )


def lower_settings(spec: FamilySpec, job: TrainJob, device: Device, factor: float) -> dict[str, Any]:
    """Settings that would fit, by name: without losing quality where that is enough, else smaller.

    Empty where nothing fits.
    """
    for smaller, own in _smaller(spec, job):
        found = fit(spec, smaller, device.kind, device.available or 0, factor=factor, host=device.host)
        if found and found.fits:
            return own | {c.field: c.after for c in found.changes if c.field in TrainParams.model_fields}
    return {}


def _smaller(spec: FamilySpec, job: TrainJob) -> Iterator[tuple[TrainJob, dict[str, Any]]]:
    """The job itself, then with less resolution and network dim, and what differs.

    Resolution falls to a half, then the dim is halved; an adapter that is trained further keeps its dim.
    """
    p, limits = job.params, spec.params["resolution"]
    least, step = int(limits.minimum or 64), int(limits.step or 64)
    dims = [p.network_dim >> n for n in range(8) if n == 0 or p.network_dim >> n >= SMALLEST_DIM]
    dims = dims[:1] if job.continue_from else dims
    for dim in dims:
        end = least if dim == dims[-1] else max(least, p.resolution // 2)
        for side in range(p.resolution, end - 1, -step):
            values = {"resolution": side, "network_dim": dim}
            own = {name: value for name, value in values.items() if value != getattr(p, name)}
            yield job.model_copy(update={"params": p.model_copy(update=own)}), own


def _said(value: Any) -> str:
    return {True: "On", False: "Off"}.get(value, str(value)) if isinstance(value, bool) else str(value)


def _advice(cure: dict[str, Any], found: Fit) -> str:
    names = {
        "gradient_checkpointing": "gradient checkpointing on",
        "batch_size": "batch size {}",
        "gradient_accumulation": "gradient accumulation {}",
        "resolution": "resolution {}",
        "network_dim": "network dim {}",
    }
    if cure:
        words = [names[name].format(value) for name, value in cure.items()]
        return f"It fits with {' and '.join(words[-2:]) if len(words) < 3 else ', '.join(words)}."
    if found.needs.phase == "sampling":
        return "Choose smaller sample pictures, or none."
    return "Choose a smaller base model, or add a machine with more memory."
