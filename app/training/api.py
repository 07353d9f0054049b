"""REST routes of trainings."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Request, Response

from app.accounts.deps import Scoped
from app.accounts.models import User
from app.gallery.shapes import model_out
from app.jobs import idempotency
from app.jobs.answers import show_job
from app.jobs.schemas import JobOut
from app.jobs.views import job_out
from app.training import publishing, service
from app.training.plan import describe_plan, plan_training
from app.training.schemas import CheckpointOut, PublishIn, SampleRow, TrainingIn, TrainingPlan
from app.web.deps import Db, Store
from app.web.downloads import send_blob

router = APIRouter(prefix="/api/v1/trainings", tags=["trainings"])
Reader = Annotated[User, Scoped("read")]
Trainer = Annotated[User, Scoped("train")]
Publisher = Annotated[User, Scoped("publish")]

Key = Annotated[str | None, Header(alias="Idempotency-Key", max_length=255)]


@router.post("", status_code=202, response_model=None)
def start(
    response: Response,
    db: Db,
    user: Trainer,
    body: TrainingIn,
    dry_run: bool = False,
    idempotency_key: Key = None,
) -> dict[str, Any] | TrainingPlan | Response:
    """Start a training, or with `dry_run=true` say what it would take."""
    if dry_run:
        response.status_code = 200
        return describe_plan(db, plan_training(db, user, body))

    def make() -> idempotency.Answer:
        job = service.start_training(db, user, body)
        return idempotency.Answer(202, job_out(db, job), f"/api/v1/jobs/{job.id}")

    return idempotency.answer(db, user, "trainings", idempotency_key, body.model_dump(mode="json"), make)


@router.get("/{training_id}", response_model=JobOut)
def show(request: Request, db: Db, user: Reader, training_id: str) -> Response:
    """The training's job, as GET /jobs/{id} answers it."""
    job, _ = service.get_training(db, user, training_id)
    return show_job(request, db, job)


@router.get("/{training_id}/checkpoints")
def checkpoints(db: Db, user: Reader, training_id: str) -> list[CheckpointOut]:
    return service.list_checkpoints(db, user, training_id)


@router.get("/{training_id}/checkpoints/{epoch}/file", response_class=Response)
def checkpoint_file(
    request: Request,
    db: Db,
    store: Store,
    user: Reader,
    training_id: str,
    epoch: int,
    *,
    noise: Literal["low"] | None = None,
) -> Response:
    """The adapter; of a family with two experts the one for high noise, with `noise=low` the other."""
    row = service.get_checkpoint(db, user, training_id, epoch)
    sha256, name = service.file_of(row, low_noise=noise == "low")
    return send_blob(request, store, sha256, name=name)


@router.get("/{training_id}/samples")
def samples(db: Db, user: Reader, training_id: str) -> list[SampleRow]:
    """Every sample picture or clip, by epoch and prompt; the row without the LoRA comes first."""
    return service.list_sample_rows(db, user, training_id)


@router.get("/{training_id}/samples/{sample_id}/file", response_class=Response)
def sample_file(
    request: Request, db: Db, store: Store, user: Reader, training_id: str, sample_id: int
) -> Response:
    """A PNG, or an MP4 with ranges."""
    row = service.get_sample(db, user, training_id, sample_id)
    kind, ending = ("video/mp4", "mp4") if row.is_clip else ("image/png", "png")
    name = f"sample-{row.epoch}-{row.prompt_index}.{ending}"
    return send_blob(request, store, row.blob_sha256, name=name, media_type=kind, inline=True)


@router.get("/{training_id}/samples/{sample_id}/poster", response_class=Response)
def sample_poster(
    request: Request, db: Db, store: Store, user: Reader, training_id: str, sample_id: int
) -> Response:
    """The middle frame of a clip. 404 for pictures."""
    poster = service.get_poster(db, user, training_id, sample_id)
    return send_blob(request, store, poster, name="poster.jpg", media_type="image/jpeg", inline=True)


@router.post("/{training_id}/sample", status_code=202)
def sample_now(db: Db, user: Trainer, training_id: str) -> dict[str, Any]:
    """Draw sample pictures at the next step."""
    return job_out(db, service.wish(db, user, training_id, "sample"))


@router.post("/{training_id}/save", status_code=202)
def save_now(db: Db, user: Trainer, training_id: str) -> dict[str, Any]:
    """Save a checkpoint at the next step."""
    return job_out(db, service.wish(db, user, training_id, "save"))


@router.post("/{training_id}/publish", status_code=201, response_model=None)
def publish(
    request: Request,
    db: Db,
    user: Publisher,
    training_id: str,
    body: PublishIn,
    *,
    idempotency_key: Key = None,
) -> Response:
    """Make a model page, or a new version of one, from an epoch."""

    def make() -> idempotency.Answer:
        model = publishing.publish_checkpoint(db, user, training_id, body)
        return idempotency.Answer(201, model_out(request, model, user), f"/api/v1/models/{model.id}")

    sent = body.model_dump(mode="json") | {"training": training_id}
    return idempotency.answer(db, user, "publish", idempotency_key, sent, make)
