"""What the tests of orchestration share: a base with its AIR, zips of pictures, jobs that are done."""

import io
import zipfile
from typing import Any

from fastapi.testclient import TestClient
from PIL import Image as Pillow
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.accounts.models import User
from app.compat.orchestration.models import Workflow, WorkflowJob
from app.contract.events import Finished
from app.contract.states import JobState
from app.core.storage import get_storage
from app.datasets import service as datasets
from app.gallery.airs import air
from app.gallery.models import ModelVersion
from app.generation import service as generation
from app.jobs import workers
from app.jobs.models import Job
from app.jobs.service import change_state
from app.uploads import service as uploads
from tests.app.generation.making import deliver
from tests.app.training.factories import make_base

JOBS, WORKFLOWS, BLOBS = "/v1/consumer/jobs", "/v2/consumer/workflows", "/v2/consumer/blobs"
SMALL = {"width": 128, "height": 96, "steps": 4, "cfgScale": 5, "seed": 7}


def base_air(db: Session, user: User) -> str:
    return air(make_base(db, user))


def v1_job(model: str, **fields: Any) -> dict[str, Any]:
    """As both clients of version 1 send it."""
    job = {
        "$type": "textToImage",
        "baseModel": "SD_1_5",
        "model": model,
        "params": {"prompt": "a mill", **SMALL},
    }
    return job | fields


def drawing(model: str, **fields: Any) -> dict[str, Any]:
    """A step textToImage."""
    told = {"model": model, "prompt": "a mill", "scheduler": "dpM2MKarras", **SMALL}
    return {"$type": "textToImage", "input": told | fields}


def workflow(*steps: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"steps": list(steps), "currencies": ["blue"], **fields}


def submit(api: TestClient, *steps: dict[str, Any], status: int = 202, **fields: Any) -> dict[str, Any]:
    answer = api.post(WORKFLOWS, json=workflow(*steps, **fields))
    assert answer.status_code == status, answer.text
    told: dict[str, Any] = answer.json()
    return told


def png(color: str = "#a8472a", side: int = 96) -> bytes:
    out = io.BytesIO()
    Pillow.new("RGB", (side, side), color).save(out, "PNG")
    return out.getvalue()


def zip_of_pictures(count: int = 4, label: str = "tuscany, olive tree") -> bytes:
    """`000.png` with `000.txt` and so on; every picture is another one."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for number in range(count):
            picture = Pillow.effect_noise((96, 96), 60 + 20 * number).convert("RGB")
            data = io.BytesIO()
            picture.save(data, "PNG")
            archive.writestr(f"{number:03d}.png", data.getvalue())
            archive.writestr(f"{number:03d}.txt", label)
    return out.getvalue()


def keep_zip(db: Session, user: User, data: bytes, tmp_path: Any) -> str:
    """Id of the blob."""
    path = tmp_path / "set.zip"
    path.write_bytes(data)
    return uploads.create_complete(db, get_storage(), user, name="set.zip", path=path).id


def jobs_of(db: Session, workflow_id: str | None = None) -> list[Job]:
    """The jobs of a workflow (of all of them without one) in order."""
    query = select(Job).join(WorkflowJob, WorkflowJob.job_id == Job.id)
    if workflow_id is not None:
        query = query.where(WorkflowJob.workflow_id == workflow_id)
    return list(db.scalars(query.order_by(Job.seq)))


def workflows(db: Session) -> list[Workflow]:
    return list(db.scalars(select(Workflow).order_by(Workflow.seq)))


def run(db: Session, job: Job, *states: JobState) -> None:
    for state in states or (JobState.STARTING, JobState.RUNNING):
        change_state(db, job, state)


def draw(db: Session, job: Job) -> None:
    """All pictures of a job, as a worker hands them over, and its end."""
    run(db, job)
    for index in range(len(job.payload["seeds"])):
        deliver(db, job, index)
    job.output = generation.complete_generation(db, job, Finished(outcome="succeeded", run_seconds=1.0))
    change_state(db, job, JobState.SUCCEEDED)


def bring(db: Session, job: Job) -> dict[str, Any]:
    """Read the zip of a job of the queue `files`, as a worker does."""
    run(db, job)
    told = datasets.import_zip(
        db, get_storage(), dataset_id=job.payload["dataset"], upload_id=job.payload["upload"]
    )
    job.output = told
    change_state(db, job, JobState.SUCCEEDED)
    return told


def hire(db: Session, *queues: str) -> None:
    """A living worker for these queues."""
    workers.say_hello(db, {"id": "worker-1", "queues": list(queues), "host": "here"})


def version_of(db: Session, name: str) -> ModelVersion:
    return db.get_one(ModelVersion, int(name.rpartition("@")[2]))
