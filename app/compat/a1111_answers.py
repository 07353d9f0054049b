"""How A1111's API answers what goes wrong: `{error, detail, body, errors}`; of fields pydantic's list."""

from typing import Any

from fastapi.responses import JSONResponse, Response

from app.compat.holding import FaceRoute
from app.core.errors import AppError, Invalid, Unauthorized

CALLED = {
    "quantity": "batch_size", "sampler": "sampler_name", "schedule": "scheduler",
    "clip_skip": "override_settings", "model_version_id": "override_settings",
    "vae_version_id": "override_settings", "init_image": "init_images", "denoise": "denoising_strength",
    "hires": "enable_hr", "hires/scale": "hr_scale", "hires/upscaler": "hr_upscaler",
    "hires/steps": "hr_second_pass_steps", "hires/denoise": "denoising_strength",
}  # fmt: skip
"""Our fields by the names that A1111 has for them."""


def refusal(error: AppError) -> Response:
    """One error. `error` is its kind, `detail` the words or one entry a wrong field, `code` our own."""
    detail: Any = error.detail
    if isinstance(error, Invalid) and error.errors:
        detail = [
            {"loc": ["body", *_called(e.pointer)], "msg": e.detail, "type": e.code} for e in error.errors
        ]
    body = {
        "error": type(error).__name__.lstrip("_"), "detail": detail, "body": "", "errors": error.detail,
        "code": error.code, **error.extra,
    }  # fmt: skip
    headers = dict(error.headers)
    if isinstance(error, Unauthorized):
        headers["WWW-Authenticate"] = 'Basic realm="bottega"'
        body["error"] = "Unauthorized"
    return JSONResponse(body, error.status, headers=headers | {"Cache-Control": "no-store"})


def _called(pointer: str) -> list[str]:
    path = pointer.removeprefix("#").strip("/")
    name = CALLED.get(path, CALLED.get(path.partition("/")[0], path))
    return [part for part in name.split("/") if part]


class A1111Route(FaceRoute):
    """Renders every error of its routes as A1111 does."""

    refuse = staticmethod(refusal)
