"""How OpenAI's API answers what goes wrong: `{"error": {message, type, param, code}}`, all four of them."""

from fastapi.responses import JSONResponse, Response

from app.compat.holding import FaceRoute
from app.core.errors import AppError, Invalid, NotFound, RateLimited

CALLED = {
    "quantity": "n", "width": "size", "height": "size", "model_version_id": "model", "resources": "loras",
    "init_image": "image", "schedule": "scheduler", "denoise": "strength",
}  # fmt: skip
"""Our fields by the names that OpenAI has for them."""
TYPES = {401: "invalid_request_error", 403: "insufficient_permissions", 429: "rate_limit_exceeded"}
CODES = {
    "unauthorized": "invalid_api_key",
    "bad-token": "invalid_api_key",
    "rate-limited": "rate_limit_exceeded",
    "model-unknown": "model_not_found",
}
AGAIN = (429, 503)
"""Answers after which OpenAI's client may ask again; after all others it would start a second drawing."""


class NoSuchModel(NotFound):
    code = "model-unknown"

    def __init__(self, name: str) -> None:
        words = f"The model `{name[:100]}` does not exist or you do not have access to it."
        super().__init__(f"{words} GET /v1/models lists those that there are.", param="model")


def refusal(error: AppError) -> Response:
    """One error. What pydantic refuses is 400 there."""
    status = 400 if error.status == 422 else error.status
    kind = "server_error" if status >= 500 else "invalid_request_error"
    told = {
        "message": error.detail,
        "type": TYPES.get(status, kind),
        "param": _param(error),
        "code": CODES.get(error.code, error.code),
    }
    headers = dict(error.headers) | {"Cache-Control": "no-store"}
    if not isinstance(error, RateLimited) and status not in AGAIN:
        headers["x-should-retry"] = "false"
    return JSONResponse({"error": told}, status, headers=headers)


def _param(error: AppError) -> str | None:
    if isinstance(error, Invalid) and error.errors:
        name = error.errors[0].pointer.removeprefix("#").strip("/").partition("/")[0]
        return CALLED.get(name, name) or None
    param = error.extra.get("param")
    return param if isinstance(param, str) else None


class OpenAIRoute(FaceRoute):
    """Renders every error of its routes as OpenAI does."""

    refuse = staticmethod(refusal)
