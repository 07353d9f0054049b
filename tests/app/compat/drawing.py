"""A worker for the tests of programs that wait: it delivers each job at the first look at it."""

from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.orm import Session

from app.accounts.models import User
from app.contract.events import Finished, Picture
from app.contract.jobs import GenerateJob
from app.contract.states import JobState
from app.core.db import unit_of_work
from app.core.storage import get_storage
from app.gallery.models import ModelVersion
from app.generation import service
from app.jobs import leases, tail
from app.jobs import service as jobs
from app.jobs.models import Job
from tests.app.generation.making import png
from tests.factories import make_blob, make_file, make_model, make_version
from worker.inference.infotext import describe, write


@dataclass
class Worker:
    """What it has seen, and how its next job ends."""

    jobs: list[GenerateJob] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    outcome: JobState = JobState.SUCCEEDED
    most: int = 99
    """Pictures that it delivers before the end."""
    error: tuple[str, str] | None = None

    @property
    def job(self) -> GenerateJob:
        return self.jobs[-1]

    def work(self, db: Session, job_id: str) -> None:
        job = jobs.find_job(db, job_id)
        assert job is not None
        self.jobs.append(GenerateJob.model_validate(job.payload))
        self.ids.append(job_id)
        jobs.change_state(db, job, JobState.STARTING)
        jobs.change_state(db, job, JobState.RUNNING)
        for index in range(min(len(self.job.seeds), self.most)):
            draw(db, job, index)
        if self.outcome is JobState.CANCELED:
            jobs.change_state(db, job, JobState.CANCELING)
        done = Finished(
            outcome=self.outcome.value, code=(self.error or ("",))[0], detail=(self.error or ("", ""))[1]
        )
        job.output = service.complete_generation(db, job, done)
        leases.finish(db, job, done)


def draw(db: Session, job: Job, index: int = 0) -> None:
    """Picture `index` as a real worker hands it over: a PNG that says how it was made."""
    payload = GenerateJob.model_validate(job.payload)
    text = write(describe(payload, payload.seeds[index]))
    size = (payload.width, payload.height)
    facts = {"index": index, "seed": payload.seeds[index], "path": f"{index:03d}.png", "infotext": text}
    event = Picture.model_validate(facts | {"width": size[0], "height": size[1]})
    service.add_picture(db, job, event, make_blob(db, png(text, size=size), "image/png"))


def hire(monkeypatch: Any) -> Worker:
    """From now on every waited-for job is drawn."""
    worker, look = Worker(), tail._ended

    def ended(job_id: str, sessions: Any) -> Any:
        if job_id not in worker.ids:
            with unit_of_work(sessions) as db:
                worker.work(db, job_id)
        return look(job_id, sessions)

    monkeypatch.setattr(tail, "_ended", ended)
    return worker


def make_checkpoint(db: Session, user: User, stem: str, **fields: Any) -> ModelVersion:
    """A checkpoint of the starter's family in one file."""
    model = make_model(db, user, stem.title(), **{"type": "Checkpoint", "visibility": "public"} | fields)
    version = make_version(db, model, base_model="Starter 1", family="starter", status="Published")
    make_file(db, version, name=f"{stem}.safetensors", format="SafeTensor")
    db.refresh(version)
    return version


def preview(db: Session, job_id: str, content: bytes) -> None:
    job = jobs.find_job(db, job_id)
    assert job is not None
    get_storage().put(service.preview_key(job), content)
