"""Who may use the routes of generations."""

import io
from typing import Any

from PIL import Image

from app.contract.events import Picture
from app.core.storage import get_storage
from app.generation import service, sources
from app.generation.schemas import GenerationIn
from tests.app.refusals import World, row
from tests.app.training.factories import make_base
from tests.factories import make_blob


def _job(world: World) -> dict[str, Any]:
    base = make_base(world.db, world.owner)
    job = service.start_generation(
        world.db, world.owner, GenerationIn(model_version_id=base.id, prompt="house")
    )
    return {"job_id": job.id}


def _base(world: World) -> dict[str, Any]:
    make_base(world.db, world.owner)
    return {}


def png() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (96, 64), "#a8472a").save(out, "PNG")
    return out.getvalue()


def _previewed(world: World) -> dict[str, Any]:
    params = _job(world)
    job, _ = service.get_generation(world.db, world.owner, params["job_id"])
    get_storage().put(service.preview_key(job), png())
    return params


def _grid(world: World) -> dict[str, Any]:
    base = make_base(world.db, world.owner)
    body = {
        "model_version_id": base.id,
        "prompt": "house",
        "grid": {"x": {"axis": "steps", "values": "4, 8"}},
    }
    job = service.start_generation(world.db, world.owner, GenerationIn.model_validate(body))
    event = Picture(index=0, seed=1, path="000.png", width=96, height=64, infotext="")
    service.add_picture(world.db, job, event, make_blob(world.db, png(), "image/png"))
    return {"job_id": job.id}


def _kept(world: World) -> dict[str, Any]:
    return {"upload_id": sources.keep_picture(world.db, world.owner, io.BytesIO(png()), name="start.png").id}


SENT = {"file": ("start.png", png(), "image/png")}
TEXT = "a castle\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1"

ROWS = [
    row("POST", "/api/v1/generations", anonymous=401, other=422, owner=422, json={}),
    row("GET", "/generate", anonymous=303, other=200, owner=200),
    row("POST", "/generate", anonymous=401, other=422, owner=422, data={"prompt": "house"}),
    row("GET", "/generate/jobs/{job_id}", anonymous=303, other=404, owner=200, make=_job),
    row("POST", "/generate/jobs/{job_id}/cancel", anonymous=401, other=404, owner=200, make=_job),
    row("GET", "/generate/picker", anonymous=303, other=200, owner=200),
    row("POST", "/generate/form", anonymous=401, other=200, owner=200, make=_base, data={"prompt": "house"}),
    row("POST", "/generate/read", anonymous=401, other=200, owner=200, make=_base, data={"text": TEXT}),
    row("POST", "/generate/estimate", anonymous=401, other=200, owner=200, data={"prompt": "house"}),
    row("POST", "/generate/pictures", anonymous=401, other=201, owner=201, files=SENT),
    row("GET", "/generate/pictures", anonymous=303, other=200, owner=200),
    row("GET", "/generate/pictures/{upload_id}", anonymous=303, other=404, owner=200, make=_kept),
    row("GET", "/generate/jobs/{job_id}/preview", anonymous=303, other=404, owner=200, make=_previewed),
    row("GET", "/generate/grids/{job_id}", anonymous=303, other=404, owner=200, make=_grid),
    row("GET", "/generate/grids/{job_id}/sheet.png", anonymous=303, other=404, owner=200, make=_grid),
]
