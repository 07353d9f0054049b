"""A query parameter that a route does not know is refused, as an unknown field of a body is.

`?dryrun=true` must not start a training. The Civitai-shaped routes ignore what they do not know, as
the programs expect that were made for Civitai.
"""

import re

from fastapi import Request
from fastapi.dependencies.utils import get_flat_params
from fastapi.routing import APIRoute

from app.core.errors import FieldError, Invalid

STRICT = re.compile(r"/api/v1/(uploads|datasets|trainings|generations|jobs|webhooks|reports)(/|$)")


async def refuse_unknown_query(request: Request) -> None:
    """For the whole application. Errors: Invalid, with one entry for each unknown name."""
    route = request.scope.get("route")
    if not request.query_params or not STRICT.match(request.url.path) or not isinstance(route, APIRoute):
        return
    known = {field.alias for field in get_flat_params(route.dependant)}
    if unknown := sorted(set(request.query_params) - known):
        errors = [FieldError(f"#/{name}", "this parameter is not known", "unknown") for name in unknown]
        raise Invalid(f"Unknown query parameters: {', '.join(unknown)}.", errors)
