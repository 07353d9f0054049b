"""Every route, three people: the owner, another member, somebody who is not logged in.

The rows stand in tests/app/<domain>/refusals.py; tests/app/refusals.py says how to write one.
"""

import re
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session

from tests.app.conftest import Browser, Script
from tests.app.refusals import UNSAFE, Row, World, all_rows, as_set, routes
from tests.factories import make_admin, make_user

ROUTES = 268
"""How many (method, path) pairs the application has. Change it together with the rows."""
ROWS = all_rows()


def test_every_route_has_a_row(application: FastAPI) -> None:
    have = {r.route for r in ROWS}
    missing = [r for r in routes(application) if r not in have]
    lines = "\n".join(
        f'    row("{m}", "{p}", anonymous=401, other=404, owner=200, make=…),' for m, p in missing
    )
    assert not missing, f"{len(missing)} routes have no row; add to tests/app/<domain>/refusals.py:\n{lines}"


def test_every_row_has_a_route(application: FastAPI) -> None:
    have = set(routes(application))
    assert not [str(r) for r in ROWS if r.route not in have]
    assert len({r.route for r in ROWS}) == len(ROWS), "a route has two rows"


def test_the_number_of_routes_is_known(application: FastAPI) -> None:
    assert len(routes(application)) == ROUTES


def test_every_documented_path_has_a_row(client: TestClient) -> None:
    have = {r.route for r in ROWS}
    paths = client.get("/openapi.json").json()["paths"]
    documented = {(method.upper(), path) for path, methods in paths.items() for method in methods}
    documented = {pair for pair in documented if pair[0] not in ("HEAD", "OPTIONS")}
    assert documented
    assert documented <= {(m, re.sub(r":\w+}", "}", p)) for m, p in have}


@pytest.fixture
def world(request: pytest.FixtureRequest, db: Session) -> World:
    owner = make_admin(db, "owner") if request.param.as_admin else make_user(db, "owner")
    return World(db, owner, make_user(db, "other"))


def _ask(client: TestClient, row: Row, params: dict[str, Any]) -> Any:
    path = re.sub(r":\w+}", "}", row.path).format(**params)
    answer = client.request(row.method, path, **row.request)
    assert "content-security-policy" in answer.headers, f"{row}: no CSP"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "unsafe-inline" not in answer.headers["content-security-policy"]
    return answer


@pytest.mark.parametrize(("row", "world"), [(r, r) for r in ROWS], ids=str, indirect=["world"])
def test_who_may_use_a_route(row: Row, world: World, client: TestClient, browser: Browser) -> None:
    params = row.make(world)
    people = {"anonymous": client, "other": browser(world.other), "owner": browser(world.owner)}
    for name, person in people.items():
        answer = _ask(person, row, params)
        assert answer.status_code in as_set(getattr(row, name)), (
            f"{name}: {answer.status_code} {answer.text[:400]}"
        )


WRITES = [r for r in ROWS if r.method in UNSAFE and r.path.startswith("/api/") and not r.public_write]


@pytest.mark.parametrize(
    ("row", "world"), [(r, r) for r in WRITES if not r.any_token], ids=str, indirect=["world"]
)
def test_a_token_that_only_reads_never_writes(row: Row, world: World, script: Script) -> None:
    answer = _ask(script(world.owner, "read"), row, row.make(world))
    assert (answer.status_code, answer.json()["code"]) == (403, "insufficient-scope"), answer.text


FORGED = [
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "cross-site", "Origin": "http://testserver"},
    {"Origin": "https://evil.example"},
    {"Origin": "http://testserver:8001"},
    {"Origin": "null"},
    {"Cookie": "bottega_x_0=y"},
    {"Sec-Fetch-Site": "cross-site", "Authorization": "Basic dTpw"},
    {"Origin": "https://evil.example", "Authorization": "Basic dTpw"},
]
OURS = [
    {"Sec-Fetch-Site": "same-origin", "Cookie": "a=b"},
    {"Sec-Fetch-Site": "none"},
    {"Origin": "http://testserver", "Cookie": "a=b"},
    {},
    {"Sec-Fetch-Site": "cross-site", "Authorization": "Bearer bottega_x"},
]


def _path(template: str) -> str:
    return re.sub(r"\{[^}]+\}", "1", template)


def test_a_forged_write_reaches_no_route(application: FastAPI, client: TestClient) -> None:
    writes = [(m, _path(p)) for m, p in routes(application) if m in UNSAFE]
    assert writes
    for method, path in writes:
        for headers in FORGED:
            answer = client.request(method, path, headers=headers)
            assert (answer.status_code, "did not come from" in answer.text) == (403, True), (
                method,
                path,
                headers,
            )


@pytest.mark.parametrize("headers", OURS, ids=str)
def test_our_own_forms_and_scripts_pass(client: TestClient, headers: dict[str, str]) -> None:
    answer = client.post("/login", data={"username": "x", "password": "y"}, headers=headers)
    assert "did not come from" not in answer.text


def test_reading_needs_no_proof_of_origin(client: TestClient) -> None:
    assert client.get("/login", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 200
