"""Whose turn it is. Waiting jobs of a queue are served in rounds, one job of each person a round.

A job gets the number of its round when it joins the queue (start-time fair queueing with jobs of equal
cost: P. Goyal et al., 1996): not before the round that is served now, and one after its owner's last. So
two hundred jobs of one person take two hundred rounds, and somebody else's first job is in the next one.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, and_, case, cast, func, literal, or_, select
from sqlalchemy.dialects.postgresql import JSONB, JSONPATH
from sqlalchemy.orm import Session, load_only

from app.contract.states import LEASED, JobState
from app.jobs.models import Job

QUEUED = JobState.QUEUED.value
ORDER = (Job.priority.desc(), Job.turn, Job.seq)
"""The order of claims and of the places that people are told."""
_WAITS = Job.status == QUEUED
_SERVED = and_(Job.fence > 0, Job.status != QUEUED)


@dataclass(frozen=True)
class Warm:
    """What a worker has in memory, as SHA256: the checkpoint, its VAE if another was chosen, the LoRAs."""

    base: str
    vae: str | None = None
    loras: tuple[str, ...] = ()

    @classmethod
    def of(cls, payload: Mapping[str, Any]) -> "Warm":
        """After this `GenerateJob`."""
        base, vae = payload["base"], payload["base"].get("vae")
        loras = tuple(lora["file"]["sha256"] for lora in payload.get("loras") or ())
        return cls(base["file"]["sha256"], vae["sha256"] if vae else None, loras)

    def nearness(self) -> ColumnElement[int]:
        """2 for jobs that need just this, 1 for those that need only other LoRAs, else 0."""
        base = Job.payload["base"]
        same = and_(
            base["file"]["sha256"].astext == self.base,
            base["vae"]["sha256"].astext.is_not_distinct_from(self.vae),
        )
        loras = func.jsonb_path_query_array(Job.payload, cast("$.loras[*].file.sha256", JSONPATH))
        return case((and_(same, loras == literal(list(self.loras), JSONB)), 2), (same, 1), else_=0)


def next_turn(db: Session, user_id: int, queue: str) -> int:
    """The round that a job joins which this person puts into the queue now."""
    here = Job.queue == queue
    served = select(func.max(Job.turn)).where(here, _SERVED, Job.priority <= 0).scalar_subquery()
    lowest = select(func.min(Job.turn)).where(here, _WAITS).scalar_subquery()
    mine = here & (Job.user_id == user_id)
    waiting = select(func.max(Job.turn)).where(mine, _WAITS).scalar_subquery()
    # Of what was served, only the round that is served now can be later than `served` itself.
    running = select(func.max(Job.turn)).where(mine, _SERVED, Job.turn >= served).scalar_subquery()
    row = db.execute(select(served, lowest, waiting, running)).one()
    last = [int(turn) + 1 for turn in row[2:] if turn is not None]
    return max(int(row[0] or 0), int(row[1] or 0) - 1, *last, 0)


def join(db: Session, job: Job) -> None:
    """A job that was paused goes on: it has the turn of one that comes now."""
    job.turn = next_turn(db, job.user_id, job.queue)


def leave(db: Session, job: Job) -> None:
    """A waiting job is cancelled or paused: its owner's later ones move up by one round."""
    later = (
        select(Job)
        .options(load_only(Job.turn))
        .where(Job.user_id == job.user_id, Job.queue == job.queue, _WAITS)
        .where(Job.turn > job.turn, Job.fence == 0)
        .order_by(Job.seq)
        .with_for_update(skip_locked=True)
        .execution_options(populate_existing=True)
    )
    if job.fence == 0:
        for other in db.scalars(later):
            other.turn -= 1
    job.turn = 0


def queue_positions(db: Session, jobs: Iterable[Job]) -> dict[str, int]:
    """Place in its queue, from 1, of each of `jobs` that waits. One query."""
    waiting = [job.id for job in jobs if job.status == QUEUED]
    if not waiting:
        return {}
    order = func.row_number().over(partition_by=Job.queue, order_by=ORDER)
    ranked = select(Job.id, order.label("place")).where(_WAITS).subquery()
    rows = db.execute(select(ranked.c.id, ranked.c.place).where(ranked.c.id.in_(waiting)))
    return {row.id: row.place for row in rows}


def count_ahead(db: Session, user_id: int, queue: str) -> int:
    """How many jobs, running ones among them, come before one that this person would put in now."""
    turn = next_turn(db, user_id, queue)
    earlier = and_(_WAITS, or_(Job.priority > 0, and_(Job.priority == 0, Job.turn <= turn)))
    held = Job.status.in_([state.value for state in LEASED])
    return db.scalar(select(func.count()).where(Job.queue == queue, or_(earlier, held))) or 0


def estimate_wait(db: Session, job: Job, ahead: int) -> float | None:
    """Seconds until a waiting job may start, from the last ten jobs of its queue; None without any."""
    recent = (
        select(Job.metrics["run_seconds"].as_float().label("took"))
        .where(
            Job.queue == job.queue, Job.status == JobState.SUCCEEDED.value, Job.metrics.has_key("run_seconds")
        )
        .order_by(Job.seq.desc())
        .limit(10)
        .subquery()
    )
    mean = db.scalar(select(func.avg(recent.c.took)))
    return None if mean is None else float(mean) * ahead
