"""Who may use the routes made for programs of A1111 and OpenAI, and of Civitai's orchestration."""

import base64
from typing import Any

from tests.app.compat.orchestration_refusals import ROWS as ORCHESTRATION
from tests.app.generation.making import png
from tests.app.refusals import Row, World, row
from tests.app.training.factories import make_base
from tests.factories import make_image


def _base(world: World) -> dict[str, Any]:
    make_base(world.db, world.owner)
    return {}


def _model(world: World) -> dict[str, Any]:
    """A private checkpoint of the owner's."""
    version = make_base(world.db, world.owner)
    version.model.visibility = "private"
    return {"name": f"x@{version.id}"}


def _picture(world: World) -> dict[str, Any]:
    return {"image_id": make_image(world.db, world.owner).id}


def _list(path: str, **rest: Any) -> Row:
    return row("GET", f"/sdapi/v1/{path}", anonymous=401, other=200, owner=200, **rest)


def _act(path: str, **rest: Any) -> Row:
    return row("POST", f"/sdapi/v1/{path}", anonymous=401, other=200, owner=200, **rest)


LISTS = (
    "sd-models", "sd-vae", "loras", "embeddings", "samplers", "schedulers", "upscalers",
    "latent-upscale-modes", "hypernetworks", "face-restorers", "realesrgan-models", "prompt-styles",
    "script-info", "scripts", "cmd-flags", "memory", "progress",
)  # fmt: skip
PNG = base64.b64encode(png()).decode()
ROWS = [
    *ORCHESTRATION,
    *(_list(path) for path in LISTS),
    *(_act(f"refresh-{what}") for what in ("checkpoints", "loras", "vae", "embeddings")),
    _list("options", make=_base),
    _act("options", make=_base, json={}),
    _act("interrupt"),
    _act("skip"),
    _act("png-info", json={"image": PNG}),
    row("POST", "/sdapi/v1/txt2img", anonymous=401, other=422, owner=422, json={"steps": "many"}),
    row("POST", "/sdapi/v1/img2img", anonymous=401, other=404, owner=404, make=_base, json={}),
    row("GET", "/v1/models", anonymous=401, other=200, owner=200),
    row("GET", "/v1/models/{name:path}", anonymous=401, other=404, owner=200, make=_model),
    row("POST", "/v1/images/generations", anonymous=401, other=400, owner=400, json={}),
    row("POST", "/v1/images/edits", anonymous=401, other=400, owner=400, data={"prompt": "x"}),
    row("GET", "/v1/images/{image_id}/file", anonymous=404, other=404, owner=404, make=_picture),
]
