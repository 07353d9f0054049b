"""Routes found by how their paths begin, instead of one after another.

FastAPI asks every router, and then each route of the router that fits, whether a path is theirs: with some
hundred routes that takes longer than a simple answer. `Directory` stands before them and knows which few
can be meant. What it does not find goes the usual way: wrong methods, a slash too much, unknown addresses.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from fastapi.routing import RouteContext, iter_route_contexts
from starlette.routing import BaseRoute, Match, NoMatchFound
from starlette.types import Receive, Scope, Send

FOUND = "bottega.route"
Shelves = dict[tuple[str, str], list[tuple[int, RouteContext]]]


class Directory(BaseRoute):
    """Finds what the first of `routes` would that takes path and method; routers among them are opened."""

    def __init__(self, routes: Sequence[BaseRoute]) -> None:
        self.routes = tuple(routes)
        self.shelves = _sorted(self.routes)
        self.depth = max((start.count("/") for _, start in self.shelves), default=0)

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        if scope["type"] != "http" or scope.get("root_path"):
            return Match.NONE, {}
        for _, context in sorted(self._candidates(scope["method"], scope["path"]), key=_place):
            match, child = context.matches(scope)
            if match == Match.FULL:
                return match, child | {"route": context.original_route, FOUND: context}
        return Match.NONE, {}

    def _candidates(self, method: str, path: str) -> Iterator[tuple[int, RouteContext]]:
        """A path may have any number of slashes; only so many as a route has are looked at."""
        yield from self.shelves.get((method, path), ())
        end = 0
        for _ in range(self.depth):
            end = path.find("/", end) + 1
            if end == 0 or end == len(path):
                return
            yield from self.shelves.get((method, path[:end]), ())

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        await scope[FOUND].app(scope, receive, send)

    def url_path_for(self, name: str, /, **path_params: Any) -> Any:
        raise NoMatchFound(name, path_params)


def _sorted(routes: Sequence[BaseRoute]) -> Shelves:
    """(method, beginning of the path) → the routes, each with its place in the order of all."""
    shelves: Shelves = {}
    for place, context in enumerate(iter_route_contexts(routes)):
        if not context.methods:
            raise TypeError(f"{context.path} takes any method: put it behind the directory")
        for method in context.methods:
            shelves.setdefault((method, beginning(context.path or "")), []).append((place, context))
    return shelves


def beginning(path: str) -> str:
    """What all paths of a template have in common, up to a slash: `/models/{id}` → `/models/`."""
    fixed, parameter, _ = path.partition("{")
    return fixed[: fixed.rfind("/") + 1] if parameter else path


def _place(candidate: tuple[int, RouteContext]) -> int:
    return candidate[0]
