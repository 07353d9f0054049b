"""The API listing for people, made from the application's own OpenAPI description."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

METHODS = ("get", "post", "put", "patch", "delete")
PLAIN = {
    "string": "text",
    "integer": "whole number",
    "number": "number",
    "boolean": "true or false",
    "null": "null",
}


@dataclass(frozen=True)
class Input:
    name: str
    place: str
    """`path`, `query`, `header` or `body`."""
    kind: str
    required: bool
    words: str


@dataclass(frozen=True)
class Endpoint:
    method: str
    path: str
    summary: str
    words: str
    anchor: str
    needs_token: bool
    inputs: list[Input] = field(default_factory=list)
    answers: list[tuple[str, str]] = field(default_factory=list)


def listing(spec: dict[str, Any]) -> dict[str, list[Endpoint]]:
    """Group title → its endpoints, in the order of the description."""
    groups: dict[str, list[Endpoint]] = {}
    for path, methods in spec["paths"].items():
        for method in METHODS:
            if method in methods:
                groups.setdefault(_group(path, methods[method]), []).append(
                    _endpoint(spec, method, path, methods[method])
                )
    return dict(sorted(groups.items()))


def _group(path: str, operation: dict[str, Any]) -> str:
    parts = [p for p in path.removeprefix("/api/v1").split("/") if p and not p.startswith("{")]
    name = (operation.get("tags") or parts or ["other"])[0]
    return str(name).replace("-", " ").capitalize()


def _endpoint(spec: dict[str, Any], method: str, path: str, operation: dict[str, Any]) -> Endpoint:
    return Endpoint(
        method=method.upper(),
        path=path,
        summary=operation.get("summary", ""),
        words=operation.get("description", ""),
        anchor=operation.get("operationId", f"{method}-{path}"),
        needs_token=bool(operation.get("security")),
        inputs=[*_parameters(spec, operation), *_body(spec, operation)],
        answers=[
            (status, answer.get("description", "")) for status, answer in operation["responses"].items()
        ],
    )


def _parameters(spec: dict[str, Any], operation: dict[str, Any]) -> Iterator[Input]:
    for each in operation.get("parameters", []):
        schema = each.get("schema", {})
        words = each.get("description") or schema.get("description", "")
        yield Input(each["name"], each["in"], kind_of(spec, schema), each.get("required", False), words)


def _body(spec: dict[str, Any], operation: dict[str, Any]) -> Iterator[Input]:
    for media in operation.get("requestBody", {}).get("content", {}).values():
        schema = _resolve(spec, media.get("schema", {}))
        required = schema.get("required", [])
        for name, one in schema.get("properties", {}).items():
            yield Input(name, "body", kind_of(spec, one), name in required, one.get("description", ""))


def _resolve(spec: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """What a reference points at; of several choices the first that has fields."""
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[-1]
        return _resolve(spec, spec["components"]["schemas"][name])
    for choice in schema.get("anyOf", []):
        found = _resolve(spec, choice)
        if "properties" in found:
            return found
    return schema


def kind_of(spec: dict[str, Any], schema: dict[str, Any]) -> str:
    """A JSON schema in a few words."""
    if "$ref" in schema:
        return kind_of(spec, _resolve(spec, schema))
    if "const" in schema:
        return f"“{schema['const']}”"
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    if choices := schema.get("anyOf") or schema.get("oneOf"):
        return " or ".join(dict.fromkeys(kind_of(spec, choice) for choice in choices))
    if schema.get("type") == "array":
        return f"list of {kind_of(spec, schema.get('items', {}))}"
    if schema.get("format") == "binary" or "contentMediaType" in schema:
        return "file"
    if schema.get("type") == "object" or "properties" in schema:
        fields = ", ".join(schema.get("properties", {}))
        return f"object {{{fields}}}" if fields else "object"
    return PLAIN.get(str(schema.get("type")), "anything") + _range(schema)


def _range(schema: dict[str, Any]) -> str:
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    high = schema.get("maximum", schema.get("exclusiveMaximum"))
    if low is not None and high is not None:
        return f", {low} to {high}"
    if low is not None:
        return f", from {low}"
    return f", up to {high}" if high is not None else ""
