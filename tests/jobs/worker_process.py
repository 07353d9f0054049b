"""A worker process for tests: all real, but the child is light and effects go into a table of their own.

`effect` has no unique constraint: a job that takes effect twice has two rows.
"""

import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from app.contract.events import Finished
from app.contract.jobs import FilesJob
from app.core.blobs import Blob
from app.core.config import get_settings
from app.core.logs import setup_logs
from app.core.storage import Storage
from app.jobs.models import Job
from worker.deliveries import Delivery
from worker.facts import Facts
from worker.main import Worker

LIGHT = Path(__file__).with_name("light.py")
EFFECTS = "create table if not exists effect (id bigserial, job_id text, what text, sha256 text)"


class EffectHandlers:
    """Keeps deliveries once each, as the product does, and every completion that it is told of."""

    def deliver(self, db: Session, job: Job, event: Delivery, blob: Blob, beside: Blob | None = None) -> None:
        number = getattr(event, "index", getattr(event, "epoch", 0))
        what = f"{event.kind} {number}"
        known = text("select 1 from effect where job_id = :job and what = :what")
        if not db.execute(known, {"job": job.id, "what": what}).first():
            self._add(db, job.id, what, blob.sha256)
            if beside:
                self._add(db, job.id, f"{what} beside", beside.sha256)

    def complete(self, db: Session, job: Job, finished: Finished) -> dict[str, Any]:
        self._add(db, job.id, "complete", None)
        return {"outcome": finished.outcome}

    def _add(self, db: Session, job_id: str, what: str, sha256: str | None) -> None:
        row = text("insert into effect (job_id, what, sha256) values (:job, :what, :sha256)")
        db.execute(row, {"job": job_id, "what": what, "sha256": sha256})


class NoFacts(Facts):
    """Nothing is measured: that would need torch."""

    def __init__(self) -> None:
        super().__init__(get_settings().home, "cpu", (), {}, threading.Event())

    def measure_once(self, name: str, bell: threading.Event) -> None:
        """Nothing to do."""


def mark(db: Session, storage: Storage, job: FilesJob) -> dict[str, Any]:
    row = text("insert into effect (job_id, what) values (:job, 'complete')")
    db.execute(row, {"job": job.upload})
    return {"outcome": "succeeded"}


def make_worker(queues: list[str], child_command: Sequence[str] = (sys.executable, str(LIGHT))) -> Worker:
    return Worker(
        queues,
        "cpu",
        EffectHandlers(),
        child_command=child_command,
        files_tasks={"mark": mark},
        facts=NoFacts(),
    )


def main() -> None:
    setup_logs("worker")
    worker = make_worker(sys.argv[1].split(","))
    signal.signal(signal.SIGTERM, worker.stop)
    worker.run()


if __name__ == "__main__":
    main()
