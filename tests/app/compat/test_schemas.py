"""Every field of every answer, with its type, over a catalogue of odd cases; and nothing hidden in any."""

from typing import Any

import pytest
from fastapi.testclient import TestClient
from pydantic import BaseModel, TypeAdapter
from sqlalchemy.orm import Session

from app.core.hashing import TENSOR
from app.gallery.models import ModelVersion
from tests.app.compat import schemas
from tests.app.compat.catalogue import LONG, Catalogue, make_catalogue
from tests.app.conftest import Script


@pytest.fixture
def things(db: Session) -> Catalogue:
    return make_catalogue(db)


def read(client: TestClient, path: str, schema: Any) -> Any:
    answer = client.get(f"/api/v1/{path}")
    assert answer.status_code == 200, (path, answer.text)
    assert "secret" not in answer.text.lower(), path
    return check(answer.content, schema)


def check(content: bytes, schema: Any) -> Any:
    return TypeAdapter(schema).validate_json(content)


MODELS = (
    "", "nsfw=true", "nsfw=true&limit=2", "nsfw=true&limit=3&page=1", "primaryFileOnly=true&nsfw=true",
    "sort=Newest&period=Day", "sort=Oldest", "baseModels=SDXL 1.0", "query=tuscany&nsfw=true", "query=",
    "types=Checkpoint", "tag=中文", "username=lorenzo&nsfw=true", "browsingLevel=63",
)  # fmt: skip
IMAGES = (
    "", "withMeta=true", "withMeta=true&withTags=true&browsingLevel=63", "nsfw=true", "nsfw=X", "limit=2",
    "limit=1&page=1&browsingLevel=63", "sort=Random&browsingLevel=63", "sort=Oldest",
    "flatMeta=true&withMeta=1",
)  # fmt: skip


def test_lists(client: TestClient, things: Catalogue) -> None:
    for query in MODELS:
        read(client, f"models?{query}", schemas.Models)
    for query in IMAGES:
        read(client, f"images?{query}", schemas.Images)
    everything = read(client, "models?nsfw=true", schemas.Models)
    assert {m.id for m in everything.items} == {m.id for m in things.shown.values()}
    read(client, "tags?limit=1", schemas.Tags)
    read(client, "tags?query=中", schemas.Tags)
    creators = read(client, "creators?limit=1&page=0", schemas.Creators)
    assert [(c.username, c.modelCount) for c in creators.items] == [("lorenzo", len(things.shown))]
    read(client, "enums", schemas.Enums)
    people = read(client, "users?query=lor", schemas.People)
    assert read(client, f"users?ids={things.owner.id},999", schemas.People) == people
    assert read(client, f"users/{things.owner.id}", schemas.Person) == people.items[0]


def test_each_model_and_version(client: TestClient, things: Catalogue) -> None:
    for name, row in things.shown.items():
        shown = read(client, f"models/{row.id}", schemas.Model)
        published = [v for v in row.versions if v.status == "Published"]
        assert [v.id for v in shown.modelVersions] == [v.id for v in published]
        for version in published:
            read(client, f"model-versions/{version.id}", schemas.Version)
            _by_hashes(client, version, found=True)
            if name != "archived":
                read(client, f"model-versions/mini/{version.id}", schemas.Mini)


def _hashes(version: ModelVersion) -> list[str]:
    found = {h.kind: h.value for f in version.files for h in f.hashes}
    starts = [found[TENSOR][:10]] if TENSOR in found else []
    return [*found.values(), *starts]


def _by_hashes(client: TestClient, version: ModelVersion, *, found: bool) -> None:
    for digits in _hashes(version):
        for written in (digits.upper(), digits.lower()):
            if found:
                shown = read(client, f"model-versions/by-hash/{written}", schemas.Version)
                assert shown.id == version.id
            else:
                answer = client.get(f"/api/v1/model-versions/by-hash/{written}")
                assert (answer.status_code, answer.json()) == (404, {"error": "Model not found"})


def test_every_kind_of_hash_is_there(things: Catalogue) -> None:
    files = [f for m in things.shown.values() for v in m.versions for f in v.files]
    kinds = {h.kind for f in files for h in f.hashes}
    assert kinds == {"AutoV1", "AutoV2", "AutoV3", "SHA256", "CRC32", "BLAKE3", TENSOR}


def test_lists_of_hashes(client: TestClient, things: Catalogue) -> None:
    versions = [v for m in things.shown.values() for v in m.versions]
    shas = {f.blob_sha256: v for v in versions for f in v.files if v.status == "Published"}
    hidden = [f.blob_sha256 for v in things.hidden_versions for f in v.files]
    body = [*shas, *hidden, "F" * 64]
    answer = client.post("/api/v1/model-versions/by-hash", json=body)
    whole = check(answer.content, list[schemas.Version])
    assert sorted(v.id for v in whole) == sorted(v.id for v in shas.values())
    answer = client.post("/api/v1/model-versions/by-hash/ids", json=[sha.lower() for sha in body])
    short = check(answer.content, list[schemas.HashIds])
    assert {s.hash.lower(): (s.modelVersionId, s.modelId) for s in short} == {
        sha.lower(): (v.id, v.model_id) for sha, v in shas.items()
    }


def test_what_is_hidden_stays_hidden(client: TestClient, things: Catalogue) -> None:
    for row in things.hidden.values():
        assert client.get(f"/api/v1/models/{row.id}").json() == {"error": f"No model with id {row.id}"}
    for version in things.hidden_versions:
        for path in (f"model-versions/{version.id}", f"model-versions/mini/{version.id}"):
            answer = client.get(f"/api/v1/{path}")
            assert (answer.status_code, answer.json()) == (404, {"error": "Model not found"})
        _by_hashes(client, version, found=False)
        answer = client.get(f"/api/download/models/{version.id}")
        assert (answer.status_code, answer.json()) == (404, {"error": "File not found"})
        assert client.get(f"/files/{version.files[0].id}/x").status_code == 404
        assert read(client, f"models?modelVersionIds={version.id}&nsfw=true", schemas.Models).items == []
    ids = ",".join(str(m.id) for m in things.hidden.values())
    assert read(client, f"models?ids={ids}&nsfw=true", schemas.Models).items == []
    assert read(client, "models?baseModels=Flux.1 D&nsfw=true", schemas.Models).items == []
    listed = {i.id for i in read(client, "images?browsingLevel=63", schemas.Images).items}
    shown = {p.id for name, p in things.pictures.items() if name not in ("private", "unrated", "unlisted")}
    assert shown <= listed
    for name in ("private", "unrated", "unlisted"):
        assert things.pictures[name].id not in listed
        place = f"/images/{things.pictures[name].id}/original=true/x.png"
        assert client.get(place).status_code == 404


def test_the_same_for_its_owner_is_a_model_too(things: Catalogue, script: Script) -> None:
    owner = script(things.owner, "read")
    check(owner.get("/api/v1/me").content, schemas.Me)
    private = things.hidden["private"]
    assert owner.get(f"/api/v1/models/{private.id}").json()["modelVersions"][0]["status"] == "Draft"
    assert owner.get(f"/api/v1/model-versions/{private.versions[0].id}").status_code == 200


def test_odd_values(client: TestClient, things: Catalogue) -> None:
    bare = read(client, f"models/{things.shown['bare'].id}", schemas.Model)
    assert (bare.description, bare.allowCommercialUse, bare.tags) == ("", [], [])
    assert not {"images", "trainedWords"} & bare.modelVersions[0].model_fields_set
    long = read(client, f"models/{things.shown['long'].id}", schemas.Model)
    assert (long.name, len(long.name)) == (LONG, 200)
    assert long.tags == ["a b", "中文"]
    assert "<strong>bold</strong>" in long.description
    assert "<script" not in long.description
    many = read(client, f"model-versions/{things.shown['many'].versions[0].id}", schemas.Version)
    assert len(many.images) == 10
    assert [f.type for f in many.files] == ["Model", "Pruned Model", "VAE", "Config"]
    assert [f.primary for f in many.files] == [True, False, False, False]
    assert many.nsfwLevel == 31
    assert many.files[1].hashes.AutoV1
    assert many.files[1].sizeKB == 2048
    fetched = read(client, f"models/{things.shown['fetched'].id}", schemas.Model)
    assert (fetched.stats.downloadCount, bare.stats.downloadCount) == (7, 0)


ERRORS: dict[str, tuple[int, type[BaseModel]]] = {
    "models/x": (400, schemas.Error), "models/0": (400, schemas.Error), "models/٣": (400, schemas.Error),
    "models/999999": (404, schemas.Error), "models?types=Nope": (400, schemas.Error),
    "models?page=2&query=a": (400, schemas.Error), "models?page=0": (400, schemas.Error),
    "models?cursor=%00": (400, schemas.Error), "models?favorites=true": (401, schemas.Error),
    "models?page=11": (429, schemas.Error), "images?page=6&limit=200": (429, schemas.Error),
    "images?baseModels=Nope": (400, schemas.Error), "images?sort=Best": (400, schemas.Error),
    "images?nsfw=perhaps": (400, schemas.Error), "images?type=text": (400, schemas.Error),
    "images?tags=olive": (400, schemas.Error), "images?browsingLevel=64": (400, schemas.Error),
    "models?fileFormats=zip": (400, schemas.Error), "models?availability=Open": (400, schemas.Error),
    "models?status=Lost": (400, schemas.Error), "models?period=Decade": (400, schemas.Error),
    "models?periodMode=x": (400, schemas.Error), "models?checkpointType=x": (400, schemas.Error),
    "model-versions/by-hash/zz": (404, schemas.Error), "model-versions/mini/999": (404, schemas.Error),
    "model-versions/mini/x": (400, schemas.Error), "users/999": (404, schemas.Error),
    "users/x": (400, schemas.Error), "creators?limit=201": (400, schemas.Error),
}  # fmt: skip


def test_errors(client: TestClient) -> None:
    for path, (status, schema) in ERRORS.items():
        answer = client.get(f"/api/v1/{path}")
        assert answer.status_code == status, (path, answer.text)
        check(answer.content, schema)
        assert answer.headers["access-control-allow-origin"] == "*", path
        assert answer.headers["cache-control"] == "no-store", path
    bodies: tuple[Any, ...] = ({}, ["x"], ["F" * 63], [1], ["F" * 64] * 101)
    for body in bodies:
        answer = client.post("/api/v1/model-versions/by-hash", json=body)
        assert answer.status_code == 400
        assert answer.json()["error"].startswith("Request must include an array of SHA256 Hashes. ")


NAMES = {
    "models": (
        "limit page cursor query tag username types status baseModels checkpointType sort period periodMode "
        "rating favorites nsfw primaryFileOnly ids modelVersionIds supportsGeneration archived allowNoCredit "
        "allowCommercialUse fileFormats availability browsingLevel token"
    ),
    "images": (
        "limit page cursor postId modelId modelVersionId imageId userId username period sort nsfw "
        "browsingLevel tags type baseModels withMeta requiringMeta flatMeta withTags mine"
    ),
    "creators": "limit page query",
    "tags": "limit page query",
    "users": "ids query",
    "permissions/check": "entityIds",
    "model-versions/mini/1": "modelFileId key",
}
ODD = ("%00", "9999999999999999999", "WyJhIl0", "((", "%22a%20-%F0%9F%98%80")


def test_odd_parameters_are_answered(client: TestClient) -> None:
    for path, names in NAMES.items():
        for name in names.split():
            for value in ODD:
                answer = client.get(f"/api/v1/{path}?{name}={value}")
                assert answer.status_code < 500, (path, name, value, answer.text)
                if answer.status_code != 200:
                    check(answer.content, schemas.Error)
