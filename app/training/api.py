"""REST routes of trainings."""

from typing import Annotated, Any

from fastapi import APIRouter, Header, Request, Response

from app.accounts.deps import Scoped
from app.accounts.models import User
from app.gallery.shapes import model_out
from app.jobs import idempotency
from app.jobs.views import job_out
from app.training import publishing, service
from app.training.plan import describe_plan, plan_training
from app.training.schemas import CheckpointOut, PublishIn, TrainingIn, TrainingPlan
from app.web.deps import Db, Store
from app.web.downloads import send_blob

router = APIRouter(prefix="/api/v1/trainings", tags=["trainings"])
Reader = Annotated[User, Scoped("read")]
Trainer = Annotated[User, Scoped("train")]
Publisher = Annotated[User, Scoped("publish")]


@router.post("", status_code=202, response_model=None)
def start(
    response: Response,
    db: Db,
    user: Trainer,
    body: TrainingIn,
    dry_run: bool = False,
    idempotency_key: Annotated[str | None, Header(max_length=255)] = None,
) -> dict[str, Any] | TrainingPlan | Response:
    """Start a training, or with `dry_run=true` say what it would take."""
    if dry_run:
        response.status_code = 200
        return describe_plan(db, plan_training(db, user, body))

    def make() -> idempotency.Answer:
        job = service.start_training(db, user, body)
        return idempotency.Answer(202, job_out(db, job), f"/api/v1/jobs/{job.id}")

    return idempotency.answer(db, user, "trainings", idempotency_key, body.model_dump(mode="json"), make)


@router.get("/{training_id}")
def show(db: Db, user: Reader, training_id: str) -> dict[str, Any]:
    job, _ = service.get_training(db, user, training_id)
    return job_out(db, job)


@router.get("/{training_id}/checkpoints")
def checkpoints(db: Db, user: Reader, training_id: str) -> list[CheckpointOut]:
    return service.list_checkpoints(db, user, training_id)


@router.get("/{training_id}/checkpoints/{epoch}/file", response_class=Response)
def checkpoint_file(
    request: Request, db: Db, store: Store, user: Reader, training_id: str, epoch: int
) -> Response:
    row = service.get_checkpoint(db, user, training_id, epoch)
    return send_blob(request, store, row.blob_sha256, name=row.name)


@router.get("/{training_id}/samples/{sample_id}/file", response_class=Response)
def sample_file(
    request: Request, db: Db, store: Store, user: Reader, training_id: str, sample_id: int
) -> Response:
    row = service.get_sample(db, user, training_id, sample_id)
    name = f"sample-{row.epoch}-{row.prompt_index}.png"
    return send_blob(request, store, row.blob_sha256, name=name, media_type="image/png", inline=True)


@router.post("/{training_id}/sample", status_code=202)
def sample_now(db: Db, user: Trainer, training_id: str) -> dict[str, Any]:
    """Draw sample pictures at the next step."""
    return job_out(db, service.wish(db, user, training_id, "sample"))


@router.post("/{training_id}/save", status_code=202)
def save_now(db: Db, user: Trainer, training_id: str) -> dict[str, Any]:
    """Save a checkpoint at the next step."""
    return job_out(db, service.wish(db, user, training_id, "save"))


@router.post("/{training_id}/publish", status_code=201)
def publish(request: Request, db: Db, user: Publisher, training_id: str, body: PublishIn) -> dict[str, Any]:
    """Make a model page, or a new version of one, from an epoch."""
    return model_out(request, publishing.publish_checkpoint(db, user, training_id, body), user)
