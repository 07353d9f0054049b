"""Files sent in parts, as a program does it."""

from random import Random
from typing import Any

from fastapi.testclient import TestClient

URL = "/api/v1/uploads"


def content(size: int = 2500) -> bytes:
    return Random(size).randbytes(size)


def begin(api: TestClient, data: bytes, name: str = "photos.zip", **more: Any) -> dict[str, Any]:
    answer = api.post(URL, json={"name": name, "size": len(data), **more})
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def put(api: TestClient, upload: dict[str, Any], number: int, data: bytes, **headers: str) -> Any:
    part = data[(number - 1) * upload["part_size"] : number * upload["part_size"]]
    return api.put(f"{URL}/{upload['id']}/parts/{number}", content=part, headers=headers)


def send(api: TestClient, data: bytes, name: str = "photos.zip", **more: Any) -> str:
    upload = begin(api, data, name, **more)
    for number in range(1, upload["parts"] + 1):
        assert put(api, upload, number, data).status_code == 204
    return str(upload["id"])
