"""The API listing and the error codes: complete, and without anything from elsewhere."""

import ast
import re
from pathlib import Path

from fastapi.testclient import TestClient

import app
from app.core.errors import AppError
from app.web.apidocs import kind_of, listing
from app.web.error_codes import CODES

ROOT = Path(str(app.__file__)).parent


def test_the_listing_names_every_path(client: TestClient) -> None:
    spec = client.get("/openapi.json").json()
    page = client.get("/docs").text
    for path in spec["paths"]:
        assert f">{path}</code>" in page
    assert "/settings/tokens" not in spec["paths"], "pages do not belong into the API's description"
    assert not re.search(r'(?:src|href)="(?:https?:)?//', page)


def test_the_listing_says_what_to_send() -> None:
    spec = {
        "components": {
            "schemas": {"In": {"required": ["n"], "properties": {"n": {"type": "integer", "minimum": 1}}}}
        },
        "paths": {
            "/api/v1/things": {
                "post": {
                    "operationId": "make",
                    "security": [{"token": []}],
                    "parameters": [{"name": "dry", "in": "query", "schema": {"type": "boolean"}}],
                    "requestBody": {
                        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/In"}}}
                    },
                    "responses": {"201": {"description": "Made"}},
                }
            }
        },
    }
    (endpoint,) = listing(spec)["Things"]
    assert [(i.name, i.place, i.kind, i.required) for i in endpoint.inputs] == [
        ("dry", "query", "true or false", False),
        ("n", "body", "whole number, from 1", True),
    ]
    assert endpoint.needs_token
    assert endpoint.answers == [("201", "Made")]


def test_kinds_in_words() -> None:
    assert kind_of({}, {"anyOf": [{"type": "string"}, {"type": "null"}]}) == "text or null"
    assert kind_of({}, {"type": "array", "items": {"enum": ["a", "b"]}}) == "list of a | b"
    assert kind_of({}, {"type": "number", "minimum": 0, "maximum": 1}) == "number, 0 to 1"


def codes_in_the_source() -> set[str]:
    """Every code of an error class and every `code="…"` given to one."""
    found = {kind.code for kind in _subclasses(AppError)}
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and _is_error(node.func):
                values = [k.value for k in node.keywords if k.arg == "code"]
                found |= {v.value for v in values if isinstance(v, ast.Constant) and isinstance(v.value, str)}
    return found


def _is_error(func: ast.expr) -> bool:
    name = func.id if isinstance(func, ast.Name) else func.attr if isinstance(func, ast.Attribute) else ""
    return name in {kind.__name__ for kind in _subclasses(AppError)}


def _subclasses(kind: type[AppError]) -> set[type[AppError]]:
    below = set(kind.__subclasses__())
    return {kind} | {c for sub in below for c in _subclasses(sub) if not c.__name__.startswith("_")}


def test_every_code_is_explained(client: TestClient) -> None:
    page = client.get("/docs/errors").text
    missing = codes_in_the_source() - set(CODES)
    assert not missing, f"explain in app/web/error_codes.py: {sorted(missing)}"
    for code in CODES:
        assert f'id="{code}"' in page


def test_a_problem_leads_to_its_explanation(client: TestClient) -> None:
    kind = client.get("/api/v1/me").json()["type"]
    assert kind == "http://testserver/docs/errors#unauthorized"
