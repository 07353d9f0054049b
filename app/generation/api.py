"""REST routes of generations."""

from typing import Annotated, Any

from fastapi import APIRouter, Header, Response

from app.accounts.deps import Scoped
from app.accounts.models import User
from app.generation import service
from app.generation.schemas import GenerationEstimate, GenerationIn
from app.jobs import idempotency
from app.jobs.views import job_out
from app.web.deps import Db

router = APIRouter(prefix="/api/v1/generations", tags=["generations"])
Maker = Annotated[User, Scoped("generate")]


@router.post("", status_code=202, response_model=None)
def start(
    response: Response,
    db: Db,
    user: Maker,
    body: GenerationIn,
    dry_run: bool = False,
    idempotency_key: Annotated[str | None, Header(max_length=255)] = None,
) -> dict[str, Any] | GenerationEstimate | Response:
    """Draw pictures, or with `dry_run=true` say how long that takes."""
    if dry_run:
        response.status_code = 200
        return service.estimate(db, user, body)

    def make() -> idempotency.Answer:
        job = service.start_generation(db, user, body)
        return idempotency.Answer(202, job_out(db, job), f"/api/v1/jobs/{job.id}")

    return idempotency.answer(db, user, "generations", idempotency_key, body.model_dump(mode="json"), make)
