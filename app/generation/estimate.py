"""How much a generation is to draw, and how long that takes here: measured, never guessed."""

from statistics import median

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.contract.family import FamilySpec
from app.contract.jobs import GenerateJob
from app.contract.passes import passes, picture_job
from app.contract.samplers import model_calls, split_sampler
from app.jobs.models import Job


def work(job: GenerateJob) -> float:
    """Pixels times calls of the model, over all pictures and frames: what time grows with."""
    if job.grid is None:
        return len(job.seeds) * _picture(job)
    return sum(_picture(picture_job(job, index)) for index in range(len(job.grid.cells)))


def _picture(job: GenerateJob) -> float:
    return float(job.frames * sum(one.width * one.height * one.calls for one in passes(job)))


def eta_seconds(db: Session, family: str, amount: float) -> float | None:
    """Seconds for so much work, from the last pictures of this family; None before the first."""
    rate = seconds_per_work(db, family)
    return round(rate * amount, 1) if rate is not None else None


def seconds_per_work(db: Session, family: str) -> float | None:
    query = (
        select(Job.metrics)
        .where(Job.type == "generation", Job.status == "succeeded", Job.metrics["family"].astext == family)
        .order_by(Job.seq.desc())
        .limit(8)
    )
    rates = [
        m["run_seconds"] / m["work"] for m in db.scalars(query) if m.get("run_seconds") and m.get("work")
    ]
    return median(rates) if rates else None


def words(db: Session, spec: FamilySpec) -> str:
    """Words for the button before anything was changed; empty before anything was measured here."""
    size, frames = spec.generation, spec.clips.length if spec.clips else 1
    calls = model_calls(split_sampler(size.sampler)[0], size.steps)
    seconds = eta_seconds(db, spec.name, float(calls * size.width * size.height * frames))
    return about(seconds)


def about(seconds: float | None) -> str:
    """`about 12 s`, `about 4 min`; empty for what was never measured."""
    if seconds is None:
        return ""
    return f"about {max(1, round(seconds))} s" if seconds < 90 else f"about {round(seconds / 60)} min"
