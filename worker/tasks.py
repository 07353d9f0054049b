"""What reaches a worker from outside: wake-ups by Celery, and the work of the queue `files`.

A wake-up only rings the bell of the queue's own thread, which claims from the database.
"""

import threading
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy.orm import Session

from app.contract.jobs import FilesJob
from app.core.storage import Storage
from app.jobs.wakeups import TASK
from worker.celery_app import app

bells: defaultdict[str, threading.Event] = defaultdict(threading.Event)


@app.task(name=TASK)
def wake(queue: str) -> None:
    """Something waits in `queue`."""
    bells[queue].set()


FilesTask = Callable[[Session, Storage, FilesJob], dict[str, Any] | None]


def finalize_upload(db: Session, storage: Storage, job: FilesJob) -> dict[str, Any] | None:
    from app.uploads import service as uploads

    return uploads.finalize_upload(db, storage, job.upload)


def import_zip(db: Session, storage: Storage, job: FilesJob) -> dict[str, Any] | None:
    from app.datasets import service as datasets

    return datasets.import_zip(db, storage, dataset_id=job.dataset, upload_id=job.upload)


FILES_TASKS: Mapping[str, FilesTask] = {"finalize_upload": finalize_upload, "import_zip": import_zip}
