"""The seam between supervising a job and the product: whoever supervises is given a `Handlers`.

Everything behind it runs inside a transaction that holds the job's fence.
"""

from typing import Any, Protocol

from sqlalchemy.orm import Session

from app.contract.events import Checkpoint, Finished, Picture, ResumePoint, Sample
from app.core.blobs import Blob
from app.jobs.models import Job

Delivery = Checkpoint | Sample | Picture
UNSAID: Any = {"kind": True, "path": True, "infotext": True, "poster": True, "low_noise": {"path"}}
"""What of an event is not told to whoever listens to the job: places in its work folder, long texts."""


def paths_of(event: Delivery | ResumePoint) -> list[str]:
    """The event's file, and what belongs beside it: a clip's poster, an adapter's file for low noise."""
    match event:
        case Checkpoint(low_noise=beside) if beside is not None:
            return [event.path, beside.path]
        case Sample(poster=str(poster)) | Picture(poster=str(poster)):
            return [event.path, poster]
    return [event.path]


class Handlers(Protocol):
    """Turns deliveries into rows. A delivery may come again after a lost worker: keep one."""

    def deliver(
        self, db: Session, job: Job, event: Delivery, blob: Blob, beside: Blob | None = None
    ) -> str | None:
        """Keep it; gives the address under which its owner can fetch it. `beside`: see `paths_of`."""
        ...

    def complete(self, db: Session, job: Job, finished: Finished) -> dict[str, Any]:
        """The job has ended, in whatever way; gives its `output`."""
        ...
