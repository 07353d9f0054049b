"""Who may use the routes of trainings."""

from typing import Any

from app.training import drafts, service
from tests.app.refusals import World, row
from tests.app.training.factories import make_base, make_clip_training, make_training
from tests.factories import make_dataset


def _queued(world: World) -> dict[str, Any]:
    return {"training_id": make_training(world.db, world.owner).id}


def _finished(world: World) -> dict[str, Any]:
    return {"training_id": make_training(world.db, world.owner, epochs=2).id, "epoch": 2}


def _sample(world: World) -> dict[str, Any]:
    job = make_training(world.db, world.owner, epochs=1)
    return {"training_id": job.id, "sample_id": service.list_samples(world.db, job.id)[0].id}


def _clip(world: World) -> dict[str, Any]:
    job = make_clip_training(world.db, world.owner, epochs=1)
    return {"training_id": job.id, "sample_id": service.list_samples(world.db, job.id)[0].id}


def _running(world: World) -> dict[str, Any]:
    job = make_training(world.db, world.owner)
    job.status = "running"
    world.db.flush()
    return {"training_id": job.id}


def _draft(world: World) -> dict[str, Any]:
    base = make_base(world.db, world.owner)
    draft = drafts.create_draft(world.db, world.owner)
    drafts.save_about(
        world.db, world.owner, draft.id, type="style", name="Tuscany", base=base.id, trigger="x"
    )
    draft.dataset_id = make_dataset(world.db, world.owner, items=4).id
    world.db.flush()
    return {"draft_id": draft.id}


API = "/api/v1/trainings"
ROWS = [
    row("POST", API, anonymous=401, other=422, owner=422, json={}),
    row("GET", API + "/{training_id}", anonymous=401, other=404, owner=200, make=_queued),
    row("GET", API + "/{training_id}/checkpoints", anonymous=401, other=404, owner=200, make=_finished),
    row(
        "GET",
        API + "/{training_id}/checkpoints/{epoch}/file",
        anonymous=401,
        other=404,
        owner=200,
        make=_finished,
    ),
    row("GET", API + "/{training_id}/samples", anonymous=401, other=404, owner=200, make=_finished),
    row(
        "GET",
        API + "/{training_id}/samples/{sample_id}/file",
        anonymous=401,
        other=404,
        owner=200,
        make=_sample,
    ),
    row(
        "GET",
        API + "/{training_id}/samples/{sample_id}/poster",
        anonymous=401,
        other=404,
        owner=200,
        make=_clip,
    ),
    row("POST", API + "/{training_id}/sample", anonymous=401, other=404, owner=202, make=_running),
    row("POST", API + "/{training_id}/save", anonymous=401, other=404, owner=202, make=_running),
    row(
        "POST",
        API + "/{training_id}/publish",
        anonymous=401,
        other=404,
        owner=201,
        make=_finished,
        json={"checkpoint": 2},
    ),
    row("GET", "/train", anonymous=303, other=200, owner=200),
    row("POST", "/train", anonymous=401, other=303, owner=303),
    row("POST", "/train/{draft_id}/delete", anonymous=401, other=404, owner=303, make=_draft),
    row("GET", "/train/{draft_id}/about", anonymous=303, other=404, owner=200, make=_draft),
    row("POST", "/train/{draft_id}/about", anonymous=401, other=404, owner=422, make=_draft),
    row("GET", "/train/{draft_id}/images", anonymous=303, other=404, owner=200, make=_draft),
    row(
        "POST",
        "/train/{draft_id}/images",
        anonymous=401,
        other=404,
        owner=303,
        make=_draft,
        data={"rights": "true"},
    ),
    row(
        "POST",
        "/train/{draft_id}/dataset",
        anonymous=401,
        other=404,
        owner=404,
        make=_draft,
        data={"dataset": "ds_0"},
    ),
    row("GET", "/train/{draft_id}/review", anonymous=303, other=404, owner=200, make=_draft),
    row(
        "POST",
        "/train/{draft_id}/review",
        anonymous=401,
        other=404,
        owner=200,
        make=_draft,
        data={"preset": "quick"},
    ),
    row("GET", "/trainings/{training_id}", anonymous=303, other=404, owner=200, make=_queued),
    row(
        "POST",
        "/trainings/{training_id}/{action}",
        anonymous=401,
        other=404,
        owner=303,
        make=lambda w: _running(w) | {"action": "pause"},
    ),
    row(
        "POST",
        "/trainings/{training_id}/further/{epoch}",
        anonymous=401,
        other=404,
        owner=303,
        make=_finished,
    ),
    row("GET", "/trainings/{training_id}/publish", anonymous=303, other=404, owner=200, make=_finished),
    row(
        "POST",
        "/trainings/{training_id}/publish",
        anonymous=401,
        other=404,
        owner=303,
        make=_finished,
        data={"epoch": "2", "name": "Tuscany"},
    ),
]
