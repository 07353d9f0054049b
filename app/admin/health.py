"""Is everything there that this server needs? One line each, for people and for a load balancer.

Without the database or the storage nothing works; without the broker jobs start a few seconds
later; without a worker they wait. Only the first two make the server not ready.
"""

from collections.abc import Callable
from dataclasses import dataclass

import redis
from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from app.core.blobs import ping
from app.core.config import get_settings
from app.core.storage import Storage
from app.jobs.models import Worker

PROBE = "readyz"


@dataclass(frozen=True)
class Check:
    name: str
    state: str
    """`ok`, `warn` (works, with something missing) or `bad`."""
    words: str

    def __str__(self) -> str:
        return f"{self.name}: {self.state}, {self.words}"


def live_workers(db: Session) -> list[Worker]:
    """Workers that were heard of within one lease, by name."""
    since = func.now() - func.make_interval(0, 0, 0, 0, 0, 0, get_settings().queue.lease_seconds)
    return list(db.scalars(select(Worker).where(Worker.seen_at > since).order_by(Worker.id)))


def check_all(db: Session, storage: Storage) -> list[Check]:
    """Database, broker, storage, workers, in this order."""
    return [
        _checked("database", lambda: _database(db)),
        _checked("broker", _broker, broken="warn"),
        _checked("storage", lambda: _storage(storage)),
        _checked("workers", lambda: _workers(db), broken="warn"),
    ]


def is_ready(checks: list[Check]) -> bool:
    return all(check.state != "bad" for check in checks)


def _checked(name: str, look: Callable[[], tuple[str, str]], *, broken: str = "bad") -> Check:
    try:
        return Check(name, *look())
    except (SQLAlchemyError, redis.RedisError, OSError) as error:
        return Check(name, broken, f"away ({type(error).__name__})")


def _database(db: Session) -> tuple[str, str]:
    ping(db)
    return "ok", "answers"


def _broker() -> tuple[str, str]:
    url = get_settings().queue.redis_url
    if not url:
        return "ok", "none is set; workers look for jobs every few seconds"
    with redis.Redis.from_url(url, socket_connect_timeout=1, socket_timeout=1) as client:
        client.ping()
    return "ok", "answers"


def _storage(storage: Storage) -> tuple[str, str]:
    storage.size(PROBE)
    free = storage.free_bytes()
    if free is None:
        return "ok", "answers"
    if free < get_settings().storage.reserve_bytes:
        return "warn", f"only {free / 1e9:.1f} GB free; uploads are refused"
    return "ok", f"{free / 1e9:.1f} GB free"


def _workers(db: Session) -> tuple[str, str]:
    found = live_workers(db)
    if not found:
        return "warn", "none is running; jobs wait"
    queues = sorted({queue for worker in found for queue in worker.queues})
    return "ok", f"{len(found)} running, for {', '.join(queues)}"
