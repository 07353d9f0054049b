"""Who may use the routes of generations."""

from typing import Any

from app.generation import service
from app.generation.schemas import GenerationIn
from tests.app.refusals import World, row
from tests.app.training.factories import make_base


def _job(world: World) -> dict[str, Any]:
    base = make_base(world.db, world.owner)
    job = service.start_generation(
        world.db, world.owner, GenerationIn(model_version_id=base.id, prompt="house")
    )
    return {"job_id": job.id}


ROWS = [
    row("POST", "/api/v1/generations", anonymous=401, other=422, owner=422, json={}),
    row("GET", "/generate", anonymous=303, other=200, owner=200),
    row("POST", "/generate", anonymous=401, other=422, owner=422, data={"prompt": "house"}),
    row("GET", "/generate/jobs/{job_id}", anonymous=303, other=404, owner=200, make=_job),
    row("POST", "/generate/jobs/{job_id}/cancel", anonymous=401, other=404, owner=200, make=_job),
    row("GET", "/generate/picker", anonymous=303, other=200, owner=200),
]
