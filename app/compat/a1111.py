"""A1111's API, `/sdapi/v1`: drawing, how far it is, stopping it. Its lists and options are beside it.

A1111 has one job for everybody; here progress, interrupt and skip mean what the same token asked for.
"""

import io
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel
from sqlalchemy.orm import Session

from app.accounts.deps import CompatScoped, LenientlyIdentified
from app.accounts.models import User
from app.compat.a1111_answers import A1111Route, refusal
from app.compat.a1111_drawing import FACE, answer, body_of, encoded
from app.compat.a1111_fields import Img2Img, Txt2Img, filled
from app.compat.holding import Held, labels_of
from app.contract.jobs import GenerateJob
from app.contract.states import JobState
from app.core.errors import Conflict, NotFound
from app.core.storage import Storage
from app.generation import service
from app.generation.reading import data_of
from app.generation.sources import at_field, bytes_of
from app.images.models import Image
from app.jobs import service as jobs
from app.jobs.models import Job
from app.jobs.queries import find_current
from app.jobs.views import job_out
from app.web.deps import Db, Store

router = APIRouter(prefix="/sdapi/v1", tags=["a1111"], route_class=A1111Route)
MAX_PICTURES = 64 << 20
"""Bytes of a request that brings a start picture and a mask as base64."""
MAY_READ = CompatScoped("read", "generate")
Maker = Annotated[User, CompatScoped("generate")]
Reader = Annotated[User, MAY_READ]


class Sent(BaseModel):
    image: str


@router.post("/txt2img", response_model=None)
def txt2img(
    request: Request, db: Db, store: Store, user: Maker, identity: LenientlyIdentified, wanted: Txt2Img
) -> Response:
    """Draw, and answer with the pictures. 504 with the job's address where it takes too long."""
    return _draw(request, db, store, user, identity, wanted)


@router.post("/img2img", response_model=None, max_body_size=MAX_PICTURES)
def img2img(
    request: Request, db: Db, store: Store, user: Maker, identity: LenientlyIdentified, wanted: Img2Img
) -> Response:
    """Draw from a picture, or a part of it anew. Pictures are base64; addresses are not fetched."""
    return _draw(request, db, store, user, identity, wanted)


def _draw(
    request: Request, db: Session, store: Storage, user: User, identity: LenientlyIdentified, wanted: Txt2Img
) -> Response:
    wanted = filled(wanted)
    body = body_of(db, user, identity, wanted)
    job = service.start_generation(db, user, body, labels=labels_of(FACE, identity))

    def finish(_db: Session, job: Job, pictures: list[Image]) -> Response:
        return answer(store, wanted, job, pictures)

    return Held(request, job, finish, refusal)


def _current(db: Session, user: User, identity: LenientlyIdentified) -> Job | None:
    return find_current(db, user, labels_of(FACE, identity))


@router.get("/progress")
def progress(
    db: Db, user: Reader, identity: LenientlyIdentified, skip_current_image: bool = False
) -> dict[str, Any]:
    """How far this token's drawing is: its oldest that has not ended. All is 0 when there is none."""
    job = _current(db, user, identity)
    if job is None:
        return _state(0.0, 0.0)
    shown, payload = job_out(db, job), GenerateJob.model_validate(job.payload)
    steps = {
        "job": job.id,
        "job_count": len(payload.seeds),
        "job_timestamp": f"{job.created_at:%Y%m%d%H%M%S}",
        "job_no": len(service.pictures_of(db, job)),
        "sampling_step": shown["progress"]["current"] or 0,
        "sampling_steps": shown["progress"]["total"] or payload.steps * len(payload.seeds),
        "interrupted": job.status == JobState.CANCELING,
    }
    words = _waiting(shown) if shown["queue"] else shown["phase"]
    look = None if skip_current_image else _look(db, user, job)
    done, left = shown["progress"]["fraction"], shown["progress"]["eta_seconds"] or 0.0
    return _state(done, left, steps) | {"current_image": look, "textinfo": words}


def _state(done: float, left: float, steps: dict[str, Any] | None = None) -> dict[str, Any]:
    nothing = {
        "skipped": False, "interrupted": False, "stopping_generation": False, "job": "", "job_count": 0,
        "job_timestamp": "0", "job_no": 0, "sampling_step": 0, "sampling_steps": 0,
    }  # fmt: skip
    state = nothing | (steps or {})
    state["stopping_generation"] = state["interrupted"]
    return {"progress": done, "eta_relative": left, "state": state, "current_image": None, "textinfo": None}


def _waiting(shown: dict[str, Any]) -> str:
    place = f"In queue: {shown['queue']['position']}"
    return f"{place}. No worker is running." if shown["status_reason"] == "no-worker" else place


def _look(db: Session, user: User, job: Job) -> str | None:
    """How the picture looks so far: a JPEG as base64."""
    try:
        return encoded(service.get_preview(db, user, job.id))
    except NotFound:
        return None


@router.post("/interrupt")
def interrupt(db: Db, user: Maker, identity: LenientlyIdentified) -> dict[str, Any]:
    """Stop this token's drawing; who waits for it gets the pictures that are done."""
    job = _current(db, user, identity)
    if job is not None:
        jobs.cancel_job(db, user, job.id)
    return {}


@router.post("/skip")
def skip(db: Db, user: Maker, identity: LenientlyIdentified) -> None:
    """As interrupt for a single picture; one of several cannot be left out here."""
    job = _current(db, user, identity)
    if job is None:
        return
    if len(GenerateJob.model_validate(job.payload).seeds) > 1:
        raise Conflict("One of several pictures cannot be skipped here. POST /sdapi/v1/interrupt stops all.")
    jobs.cancel_job(db, user, job.id)


@router.post("/png-info", dependencies=[MAY_READ], max_body_size=MAX_PICTURES)
def png_info(sent: Sent) -> dict[str, Any]:
    """The generation data of a picture, whichever program wrote it; `parameters` are its settings."""
    with at_field("#/image"):
        found = data_of(io.BytesIO(bytes_of(sent.image, bare=True)))
    if found is None:
        return {"info": "", "items": {}, "parameters": {}}
    info = found.info
    settings: dict[str, Any] = {"Prompt": info.prompt, "Negative prompt": info.negative_prompt}
    settings |= info.settings
    if info.size:
        settings |= {"Size-1": info.size[0], "Size-2": info.size[1]}
    return {"info": found.text, "items": {}, "parameters": settings}
