"""A1111's lists that are the same for everybody: samplers, upscalers, and what there is none of here."""

from typing import Any

from fastapi import APIRouter

from app.compat.a1111 import MAY_READ
from app.compat.a1111_answers import A1111Route
from app.compat.a1111_fields import ALIASES, short_name
from app.contract.jobs import UPSCALERS
from app.contract.samplers import SAMPLERS, SCHEDULES, SamplerSpec
from app.jobs.workers import list_workers
from app.web.deps import Db

router = APIRouter(prefix="/sdapi/v1", tags=["a1111"], route_class=A1111Route, dependencies=[MAY_READ])
Json = dict[str, Any]
LATENT = [name for name in UPSCALERS if name.startswith("Latent")]


@router.get("/samplers")
def list_samplers() -> list[Json]:
    """Samplers; a schedule may stand behind the name, as in old programs."""
    return [
        {"name": one.name, "aliases": list(ALIASES.get(one.name, ())), "options": _habits(one)}
        for one in SAMPLERS.values()
    ]


def _habits(sampler: SamplerSpec) -> dict[str, str]:
    habits = {"scheduler": short_name(sampler.automatic)}
    return habits | ({"second_order": "True"} if sampler.twice else {})


@router.get("/schedulers")
def list_schedulers() -> list[Json]:
    """How noise levels are spaced; not every sampler knows every one."""
    rest: Json = {"aliases": [], "default_rho": -1.0, "need_inner_model": False}
    return [{"name": short_name(label), "label": label, **rest} for label in SCHEDULES]


@router.get("/upscalers")
def list_upscalers() -> list[Json]:
    """Those of pixels; the others are in latent-upscale-modes."""
    rest: Json = {"model_name": None, "model_path": None, "model_url": None, "scale": 4.0}
    return [{"name": name, **rest} for name in UPSCALERS if name not in LATENT]


@router.get("/latent-upscale-modes")
def list_latent_modes() -> list[Json]:
    return [{"name": name} for name in LATENT]


@router.get("/hypernetworks")
@router.get("/face-restorers")
@router.get("/realesrgan-models")
@router.get("/prompt-styles")
@router.get("/script-info")
def list_nothing() -> list[Json]:
    """There are none of these here."""
    return []


@router.get("/scripts")
def list_scripts() -> dict[str, list[str]]:
    return {"txt2img": [], "img2img": []}


@router.get("/cmd-flags")
def get_flags() -> Json:
    return {"api": True, "nowebui": False, "share": False}


@router.get("/memory")
def get_memory(db: Db) -> Json:
    """Of the largest card that draws; of the server's own memory nothing is told."""
    drawing = [worker for worker in list_workers(db, alive=True) if "generate" in worker.queues]
    total = max((worker.memory_bytes or 0 for worker in drawing), default=0)
    unknown: Json = {"error": "not told"}
    return {"ram": unknown, "cuda": {"system": {"total": total}} if total else unknown}


@router.post("/refresh-checkpoints")
@router.post("/refresh-loras")
@router.post("/refresh-vae")
@router.post("/refresh-embeddings")
def refresh() -> None:
    """Nothing to do: every list is read anew each time."""
