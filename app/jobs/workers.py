"""Who takes jobs: rows that worker processes keep fresh, read by pages, plans and `no-worker`."""

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any

from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.core.config import get_settings
from app.jobs.models import Worker

FORGET_AFTER = timedelta(hours=1)


def say_hello(db: Session, worker: Mapping[str, Any]) -> None:
    """Write or refresh a worker's row; `worker` holds its columns, `id` among them."""
    values = dict(worker)
    row = insert(Worker).values(**values)
    changed = {name: row.excluded[name] for name in values if name != "id"} | {"seen_at": func.now()}
    db.execute(row.on_conflict_do_update(index_elements=["id"], set_=changed))


def say_goodbye(db: Session, worker_id: str) -> None:
    db.execute(delete(Worker).where(Worker.id == worker_id))


def _alive() -> Any:
    return Worker.seen_at > func.now() - timedelta(seconds=get_settings().queue.lease_seconds)


def list_workers(db: Session, *, alive: bool = False) -> list[Worker]:
    """All workers that were heard of lately, or only those that are alive."""
    query = select(Worker).order_by(Worker.host, Worker.started_at)
    return list(db.scalars(query.where(_alive()) if alive else query))


def served_queues(db: Session) -> set[str]:
    """Queues that some living worker takes jobs from."""
    return {queue for queues in db.scalars(select(Worker.queues).where(_alive())) for queue in queues}


def forget_workers(db: Session) -> None:
    """Drop rows of workers that have been silent for an hour."""
    db.execute(delete(Worker).where(Worker.seen_at < func.now() - FORGET_AFTER))


def measured(db: Session, names: Iterable[str]) -> dict[str, Any]:
    """The newest value of each of these facts that any worker measured."""
    wanted = set(names)
    found: dict[str, Any] = {}
    for worker in db.scalars(select(Worker).order_by(Worker.seen_at)):
        found |= {name: value for name, value in worker.facts.items() if name in wanted}
    return found
