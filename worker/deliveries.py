"""The seam between supervising a job and the product: whoever supervises is given a `Handlers`.

Everything behind it runs inside a transaction that holds the job's fence.
"""

from typing import Any, Protocol

from sqlalchemy.orm import Session

from app.contract.events import Checkpoint, Finished, Picture, Sample
from app.core.blobs import Blob
from app.jobs.models import Job

Delivery = Checkpoint | Sample | Picture


class Handlers(Protocol):
    """Turns deliveries into rows. A delivery may come again after a lost worker: keep one."""

    def deliver(self, db: Session, job: Job, event: Delivery, blob: Blob) -> str | None:
        """Keep it; gives the address under which its owner can fetch it."""
        ...

    def complete(self, db: Session, job: Job, finished: Finished) -> dict[str, Any]:
        """The job has ended, in whatever way; gives its `output`."""
        ...
