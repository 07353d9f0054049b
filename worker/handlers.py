"""What a job's events mean to the product: the one table that joins queue and domains."""

from typing import Any

from sqlalchemy.orm import Session

from app.contract.events import Checkpoint, Finished, Picture, Sample
from app.core.blobs import Blob
from app.generation import service as generation
from app.jobs.models import Job
from app.training import service as training
from worker.deliveries import Delivery


class ProductHandlers:
    def deliver(self, db: Session, job: Job, event: Delivery, blob: Blob, beside: Blob | None = None) -> str:
        match event:
            case Checkpoint():
                return training.add_checkpoint(db, job, event, blob, low_noise=beside)
            case Sample():
                return training.add_sample(db, job, event, blob, poster=beside)
            case Picture():
                return generation.file_path(generation.add_picture(db, job, event, blob, beside))

    def complete(self, db: Session, job: Job, finished: Finished) -> dict[str, Any]:
        if job.type == "training":
            return training.complete_training(db, job, finished)
        return generation.complete_generation(db, job, finished)
