"""The directory finds what going through all routes would, and leaves the rest to the usual way."""

import re
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI
from fastapi.responses import PlainTextResponse
from fastapi.routing import iter_route_contexts
from fastapi.testclient import TestClient
from starlette.routing import Match, NoMatchFound

from app.web.routing import Directory, beginning

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


def _directory(application: FastAPI) -> Directory:
    found = application.router.routes[0]
    assert isinstance(found, Directory)
    return found


def _scope(method: str, path: str) -> dict[str, Any]:
    return {"type": "http", "method": method, "path": path, "headers": [], "root_path": ""}


def _takers(directory: Directory, path: str) -> list[Any]:
    """All routes whose paths are like this one, in their order."""
    contexts = iter_route_contexts(directory.routes)
    return [context for context in contexts if context.matches(_scope("GET", path))[0] != Match.NONE]


def _found(directory: Directory, method: str, path: str) -> Any:
    match, child = directory.matches(_scope(method, path))
    return child["endpoint"] if match == Match.FULL else None


def _paths(directory: Directory) -> set[str]:
    """Of every route a path that it takes, and some that are only like it."""
    templates = {context.path or "" for context in iter_route_contexts(directory.routes)}
    own = {re.sub(r"\{[^}]+\}", value, path) for path in templates for value in ("7", "new", "")}
    return own | {f"{path}/" for path in own} | {path.rpartition("/")[0] for path in own} | {"//", "/API/v1"}


def test_it_finds_what_asking_every_route_finds(application: FastAPI) -> None:
    directory, found = _directory(application), set()
    for path in _paths(directory):
        takers = _takers(directory, path)
        for method in METHODS:
            first = next((taker.endpoint for taker in takers if method in taker.methods), None)
            assert _found(directory, method, path) == first, (method, path)
            found.add(first)
    assert found >= {context.endpoint for context in iter_route_contexts(directory.routes)}


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("/", "/"),
        ("/models", "/models"),
        ("/models/{id:int}/x", "/models/"),
        ("/a/b{c}.png", "/a/"),
        ("{a}", ""),
    ],
)
def test_the_beginning_of_a_path(template: str, expected: str) -> None:
    assert beginning(template) == expected


def test_the_first_of_two_routes_answers_and_prefixes_count() -> None:
    inner, outer, application = APIRouter(prefix="/in"), APIRouter(), FastAPI()

    @inner.get("/{name:path}", response_class=PlainTextResponse)
    def anything(name: str) -> str:
        return f"anything {name}"

    @inner.get("/fixed", response_class=PlainTextResponse)
    def fixed() -> str:
        return "fixed"

    outer.include_router(inner, prefix="/{side}")
    application.include_router(outer, prefix="/out")
    application.router.routes.insert(0, Directory(application.router.routes))
    client = TestClient(application)
    assert client.get("/out/left/in/fixed").text == "anything fixed"
    assert client.get("/out/left/in/a/b").text == "anything a/b"
    assert client.get("/out/left/in/").text == "anything "


def test_the_usual_way_is_open(client: TestClient) -> None:
    assert client.get("/models/", follow_redirects=False).headers["location"].endswith("/models")
    refused = client.put("/docs")
    assert (refused.status_code, refused.headers["allow"]) == (405, "GET")
    assert client.head("/docs").status_code == 405
    assert client.get("/api/v1/nothing").status_code == 404
    assert client.get("/openapi.json").status_code == 200
    assert client.get("/static/nothing.css").status_code == 404


def test_a_path_of_many_slashes_is_not_taken_apart(application: FastAPI) -> None:
    directory = _directory(application)
    candidates = directory._candidates("GET", "/models/" + "/" * 60_000)
    assert len(list(candidates)) < 100
    assert directory.depth < 12


def test_what_takes_any_method_stays_outside() -> None:
    application = FastAPI()
    application.mount("/files", PlainTextResponse("file"))
    with pytest.raises(TypeError, match="/files"):
        Directory(application.router.routes)


def test_names_are_found_behind_it(application: FastAPI) -> None:
    with pytest.raises(NoMatchFound):
        _directory(application).url_path_for("show_docs")
    assert application.url_path_for("show_docs") == "/docs"
