"""Who may use which route: one row per route, kept beside the tests of each domain.

Write `tests/app/<domain>/refusals.py` with `ROWS = [row(…), …]`. A row names the method, the path
template exactly as the route has it, and what an anonymous visitor, another member and the owner
get; `make(world)` creates the owner's thing and answers the path parameters. The request is really
made, in that order, so a refused request that changes something is found by the owner's.

    row("POST", "/api/v1/jobs/{id}/cancel", anonymous=401, other=404, owner=200, make=a_job)
    row("GET", "/models/{id}", anonymous=404, other=404, owner=200, make=a_private_model)
    row("POST", "/settings/theme", anonymous=401, other=303, owner=303, data={"theme": "dark"})

`owner` is a member; with `as_admin=True` it is an admin. A status may be a tuple of statuses.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from sqlalchemy.orm import Session

from app.accounts.models import User

UNSAFE = {"POST", "PUT", "PATCH", "DELETE"}
Statuses = int | tuple[int, ...]


@dataclass
class World:
    """What `make` gets: the database and the two people."""

    db: Session
    owner: User
    other: User


def _nothing(world: World) -> dict[str, Any]:
    return {}


@dataclass(frozen=True)
class Row:
    method: str
    path: str
    anonymous: Statuses
    other: Statuses
    owner: Statuses
    make: Callable[[World], dict[str, Any]] = _nothing
    as_admin: bool = False
    public_write: bool = False
    """Anybody may do this, a token with the scope `read` too."""
    any_token: bool = False
    """A token with the scope `read` is enough, although the method writes."""
    request: dict[str, Any] = field(default_factory=dict)
    """json=, data=, files=, params=, headers= of the request."""

    @property
    def route(self) -> tuple[str, str]:
        return self.method, self.path

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


def row(method: str, path: str, *, anonymous: Statuses, other: Statuses, owner: Statuses, **rest: Any) -> Row:
    known = {key: rest.pop(key) for key in ("make", "as_admin", "public_write", "any_token") if key in rest}
    return Row(method, path, anonymous, other, owner, request=rest, **known)


def routes(app: FastAPI) -> list[tuple[str, str]]:
    """(method, path template) of every route of the application, included ones too."""
    found = {
        (method, context.path)
        for context in iter_route_contexts(app.routes)
        for method in (context.methods or ())
        if context.path and method not in ("HEAD", "OPTIONS")
    }
    return sorted(found, key=lambda r: (r[1], r[0]))


def all_rows() -> list[Row]:
    """The rows of every domain."""
    found: list[Row] = []
    for path in sorted(Path(__file__).parent.glob("*/refusals.py")):
        found += import_module(f"tests.app.{path.parent.name}.refusals").ROWS
    return found


def as_set(statuses: Statuses) -> set[int]:
    return {statuses} if isinstance(statuses, int) else set(statuses)
