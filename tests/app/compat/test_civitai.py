"""Civitai's reads in Civitai's shapes: what its clients look at, and what they must not see."""

from urllib.parse import parse_qs, urlsplit

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, event
from sqlalchemy.orm import Session

from app.gallery import service
from app.gallery.files import sidecar
from app.gallery.models import Model, ModelFile
from app.gallery.summary import recount
from app.images.models import Image, ImageResource
from app.images.service import create_sample
from tests.app.conftest import Script
from tests.app.gallery.things import published, safetensors, trained
from tests.factories import make_blob, make_image, make_user


@pytest.fixture
def model(db: Session) -> Model:
    user = make_user(db, "lorenzo")
    version = trained(db, user, description="Stone *towns*")
    sample = create_sample(
        db, user, blob=make_blob(db, b"picture", "image/png"), prompt="a house", seed=3, width=128, height=104
    )
    service.add_picture(db, version, sample, 0)
    return service.publish_version(db, user, version, "public")


def test_model_in_a_list(client: TestClient, model: Model) -> None:
    answer = client.get("/api/v1/models", params={"limit": 5, "whatever": 1})
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == "*"
    body = answer.json()
    assert body["metadata"] == {}
    item = body["items"][0]
    assert (item["id"], item["name"], item["type"], item["nsfw"]) == (model.id, "Tuscany", "LORA", False)
    assert item["description"] == "<p>Stone <em>towns</em></p>\n"
    assert item["allowCommercialUse"] == ["Image", "RentCivit", "Rent", "Sell"]
    assert item["creator"] == {"username": "lorenzo", "image": None}
    assert item["tags"] == ["architecture", "italy"]
    for counter in (
        "downloadCount",
        "thumbsUpCount",
        "favoriteCount",
        "ratingCount",
        "rating",
        "commentCount",
    ):
        assert item["stats"][counter] == 0
    version = item["modelVersions"][0]
    assert (version["baseModel"], version["trainedWords"]) == ("Starter 1", ["tuscany"])
    assert version["earlyAccessConfig"] == {}
    assert version["description"] == ""
    assert not {"createdAt", "status", "covered"} & set(version)
    assert version["publishedAt"].endswith("Z")
    assert version["downloadUrl"] == version["files"][0]["downloadUrl"]


def test_file_units_and_hashes(client: TestClient, model: Model) -> None:
    file = client.get(f"/api/v1/models/{model.id}").json()["modelVersions"][0]["files"][0]
    row = model.versions[0].files[0]
    assert file["sizeKB"] == row.size / 1024
    assert file["primary"] is True
    assert file["metadata"] == {"format": "SafeTensor", "fp": "fp16"}
    assert set(file["hashes"]) == {"SHA256", "AutoV2", "AutoV3", "BLAKE3", "CRC32"}
    assert all(value == value.upper() for value in file["hashes"].values())
    assert (len(file["hashes"]["AutoV2"]), len(file["hashes"]["AutoV3"])) == (10, 12)
    assert file["downloadUrl"] == f"http://testserver/api/download/models/{model.versions[0].id}"


def test_only_one_file_is_primary(client: TestClient, db: Session, model: Model) -> None:
    version = model.versions[0]
    row = {"name": "b.safetensors", "type": "VAE", "fp": "fp32", "size": 4, "is_primary": False}
    version.files.append(ModelFile(blob_sha256=make_blob(db, b"more").sha256, **row))
    db.flush()
    files = client.get(f"/api/v1/model-versions/{version.id}").json()["files"]
    assert [f["primary"] for f in files] == [True, False]
    assert files[1]["hashes"] == {}
    assert "type=VAE" in files[1]["downloadUrl"]
    answer = client.get(urlsplit(files[1]["downloadUrl"]).path + "?type=VAE")
    assert urlsplit(answer.headers["location"]).path.endswith("/b.safetensors")


def test_version_and_its_pictures(client: TestClient, model: Model) -> None:
    version = client.get(f"/api/v1/model-versions/{model.versions[0].id}").json()
    assert version["modelId"] == model.id
    assert version["model"]["name"] == "Tuscany"
    assert version["model"]["type"] == "LORA"
    assert version["trainingStatus"] == "Approved"
    assert version["air"] == f"urn:air:starter1:lora:civitai:{model.id}@{version['id']}"
    image = version["images"][0]
    assert (image["width"], image["height"], image["nsfwLevel"], image["type"]) == (128, 104, 1, "image")
    assert image["meta"]["prompt"] == "a house"
    assert image["metadata"]["size"] == 7
    picture = client.get(urlsplit(image["url"]).path)
    assert picture.content == b"picture"
    assert picture.headers["content-type"] == "image/png"


MISSING = (
    "models/999999",
    "model-versions/999999",
    "model-versions/by-hash/ABCDEF0123",
    "model-versions/by-hash/zz",
)
WRONG = (
    "models/x", "models/0", "models/9999999999", "models?types=Nonsense", "models?limit=101",
    "models?sort=Best", "models?cursor=zzz", "models?query=a&page=1", "models?ids=1,b",
    "images?limit=201", "images?nsfw=maybe", "model-versions/abc",
)  # fmt: skip


def test_what_is_missing_or_wrong_answers_with_an_error(client: TestClient) -> None:
    for path in MISSING:
        answer = client.get(f"/api/v1/{path}")
        assert (answer.status_code, set(answer.json())) == (404, {"error"}), path
    for path in WRONG:
        answer = client.get(f"/api/v1/{path}")
        assert (answer.status_code, set(answer.json())) == (400, {"error"}), path


def test_too_many_pages(client: TestClient) -> None:
    answer = client.get("/api/v1/models?page=11&limit=100")
    assert answer.status_code == 429
    assert "cursors" in answer.json()["error"]


def test_private_things_are_the_owners(client: TestClient, db: Session, script: Script) -> None:
    owner = make_user(db, "owner")
    version = trained(db, owner)
    sha = version.files[0].blob_sha256
    paths = [f"models/{version.model_id}", f"model-versions/{version.id}", f"model-versions/by-hash/{sha}"]
    for path in paths:
        assert client.get(f"/api/v1/{path}").status_code == 404
        assert script(make_user(db), "read").get(f"/api/v1/{path}").status_code == 404
        assert script(owner, "read").get(f"/api/v1/{path}").status_code == 200
        assert client.get(f"/api/v1/{path}?token=nonsense").status_code == 404
    assert client.get("/api/v1/models").json()["items"] == []
    assert len(script(owner, "read").get("/api/v1/models").json()["items"]) == 1
    assert client.post("/api/v1/model-versions/by-hash", json=[sha]).json() == []
    assert client.get(f"/api/download/models/{version.id}").json() == {"error": "File not found"}


def test_a_public_version_is_readable_at_once(client: TestClient, db: Session, script: Script) -> None:
    owner = make_user(db)
    version = trained(db, owner)
    publisher = script(owner, "publish")
    assert publisher.post(f"/api/v1/models/{version.model_id}/publish").status_code == 200
    hashes = {h.kind: h.value for h in version.files[0].hashes}
    for kind in ("SHA256", "AutoV2", "AutoV3"):
        for digits in (hashes[kind], hashes[kind].lower()):
            assert client.get(f"/api/v1/model-versions/by-hash/{digits}").json()["id"] == version.id
    found = client.post("/api/v1/model-versions/by-hash", json=[hashes["SHA256"], "F" * 64]).json()
    assert [v["id"] for v in found] == [version.id]
    assert client.post("/api/v1/model-versions/by-hash", json=["short"]).status_code == 400
    assert publisher.post(f"/api/v1/models/{version.model_id}/unpublish").status_code == 200
    assert client.get(f"/api/v1/models/{version.model_id}").status_code == 404


def test_unlisted_by_key_only(client: TestClient, db: Session) -> None:
    model = published(db, make_user(db), "unlisted")
    assert client.get("/api/v1/models").json()["items"] == []
    assert client.get(f"/api/v1/models/{model.id}").status_code == 404
    assert client.get(f"/api/v1/models/{model.id}?key={model.share_key}").status_code == 200
    download = client.get(f"/api/download/models/{model.versions[0].id}?key={model.share_key}")
    assert download.status_code == 307
    assert client.get(download.headers["location"]).status_code == 200
    assert client.get(download.headers["location"].split("?")[0]).status_code == 404


def test_pages_by_cursor_lose_nothing(client: TestClient, db: Session) -> None:
    user = make_user(db)
    wanted = {published(db, user, tensors=f"{n}".encode(), name=f"Model {n}").id for n in range(5)}
    seen: list[int] = []
    address = "/api/v1/models?limit=2&sort=Newest"
    while address:
        body = client.get(address).json()
        seen += [item["id"] for item in body["items"]]
        address = body["metadata"].get("nextPage", "").removeprefix("http://testserver")
    assert len(seen) == 5
    assert set(seen) == wanted
    assert seen == sorted(seen, reverse=True)
    second = client.get("/api/v1/models?limit=2&sort=Newest&page=2").json()
    assert [i["id"] for i in second["items"]] == seen[2:4]
    assert second["metadata"]["currentPage"] == 2
    assert second["metadata"]["pageSize"] == 2


FILTERS = {
    "types=LORA": 1, "types=Checkpoint": 0, "types=LORA,Checkpoint": 1, "tag=italy": 1, "tag=rome": 0,
    "query=tusc": 1, "query=towns": 1, "query=xyz": 0, "username=LORENZO": 1, "username=nobody": 0,
    "baseModels=Starter 1": 1, "baseModels=SD 1.5": 0, "period=Day": 1, "supportsGeneration=true": 1,
    "supportsGeneration=false": 0, "query=100%25": 0, "allowCommercialUse=Sell": 1, "ids=999999": 0,
}  # fmt: skip


def test_filters(client: TestClient, model: Model) -> None:
    found = {query: len(client.get(f"/api/v1/models?{query}").json()["items"]) for query in FILTERS}
    assert found == FILTERS
    assert len(client.get(f"/api/v1/models?ids={model.id}").json()["items"]) == 1


def test_ratings_hide_by_default(client: TestClient, db: Session, model: Model) -> None:
    model.rating = 8
    db.flush()
    assert client.get("/api/v1/models").json()["items"] == []
    found = client.get("/api/v1/models?nsfw=true").json()["items"]
    assert [m["nsfw"] for m in found] == [True]


def _queries(engine: Engine, client: TestClient, path: str) -> int:
    seen: list[str] = []
    listen = lambda *args: seen.append(args[2])  # noqa: E731
    event.listen(engine, "before_cursor_execute", listen)
    try:
        assert client.get(path).status_code == 200
    finally:
        event.remove(engine, "before_cursor_execute", listen)
    return len([s for s in seen if s.lstrip().upper().startswith("SELECT")])


@pytest.mark.parametrize(("path", "count"), [("/api/v1/models", 3), ("/api/v1/images", 2)])
def test_the_number_of_queries_is_that_of_one_row(
    client: TestClient, db: Session, engine: Engine, path: str, count: int
) -> None:
    user = make_user(db)

    def add(n: int) -> None:
        version = trained(db, user, tensors=f"{n}".encode())
        sample = create_sample(db, user, blob=make_blob(db), prompt="p", width=8, height=8)
        service.add_picture(db, version, sample, 0)
        service.publish_version(db, user, version, "public")

    for n in range(3):
        add(n)
        db.commit()
        db.expire_all()
        if n != 1:
            assert _queries(engine, client, path) == count


def test_pictures(client: TestClient, db: Session, script: Script, model: Model) -> None:
    user = make_user(db)
    used = ImageResource(
        position=0, kind="lora", name="Tuscany", model_version_id=model.versions[0].id, weight=0.8
    )
    public = make_image(db, user, visibility="public", meta={"prompt": "x", "seed": 1}, resources=[used])
    private = make_image(db, user)
    ids = [i["id"] for i in client.get("/api/v1/images").json()["items"]]
    assert public.id in ids
    assert private.id not in ids
    made = client.get(f"/api/v1/images?modelId={model.id}&withMeta=true").json()["items"]
    assert [i["id"] for i in made] == [public.id]
    assert made[0]["meta"]["civitaiResources"] == [
        {"type": "lora", "modelVersionId": model.versions[0].id, "weight": 0.8}
    ]
    assert (made[0]["nsfwLevel"], made[0]["nsfw"], made[0]["browsingLevel"]) == ("None", False, 1)
    assert client.get(f"/api/v1/images?imageId={public.id}").json()["items"][0]["meta"] is None
    assert client.get("/api/v1/images?mine=true").status_code == 401
    own = script(user, "read").get("/api/v1/images?mine=true").json()["items"]
    assert [(i["id"], i["visibility"]) for i in own] == [(private.id, "private"), (public.id, "public")]
    assert client.get(f"/api/v1/models/{model.id}").status_code == 200
    recount(db)
    assert model.image_count == 1


def test_tags_and_creators(client: TestClient, db: Session, model: Model) -> None:
    recount(db)
    tags = client.get("/api/v1/tags?limit=1").json()
    assert tags["items"][0]["name"] == "architecture"
    assert tags["items"][0]["link"] == "http://testserver/api/v1/models?tag=architecture"
    expected = {"totalItems": 2, "currentPage": 1, "pageSize": 1, "totalPages": 2}
    assert {k: tags["metadata"][k] for k in expected} == expected
    assert tags["metadata"]["nextPage"].endswith("page=2")
    assert "prevPage" not in tags["metadata"]
    people = client.get("/api/v1/creators?query=lor").json()
    assert [(p["username"], p["modelCount"]) for p in people["items"]] == [("lorenzo", 1)]


def test_downloading(client: TestClient, db: Session, model: Model) -> None:
    version, file = model.versions[0], model.versions[0].files[0]
    answer = client.get(f"/api/download/models/{version.id}")
    assert answer.status_code == 307
    place = urlsplit(answer.headers["location"])
    assert (place.scheme, place.netloc, place.path) == (
        "http", "testserver", f"/files/{file.id}/tuscany.safetensors"
    )  # fmt: skip
    assert parse_qs(place.query) == {
        "response-content-disposition": ['attachment; filename="tuscany.safetensors"']
    }
    data = safetensors(b"lorenzo")
    whole = client.get(answer.headers["location"])
    etag = f'"{file.blob_sha256}"'
    assert whole.content == data
    assert whole.headers["etag"] == etag
    assert whole.headers["content-length"] == str(len(data))
    assert whole.headers["accept-ranges"] == "bytes"
    assert 'filename="tuscany.safetensors"' in whole.headers["content-disposition"]
    target = answer.headers["location"]
    part = client.get(target, headers={"Range": "bytes=4-9", "If-Range": etag})
    assert (part.status_code, part.content) == (206, data[4:10])
    assert client.get(target, headers={"Range": "bytes=4-9", "If-Range": '"other"'}).content == data
    assert client.get(target, headers={"If-None-Match": etag}).status_code == 304
    head = client.head(target)
    assert head.headers["content-length"] == str(len(data))
    assert head.content == b""
    assert client.head(f"/api/download/models/{version.id}").status_code == 307
    assert client.get(f"/api/download/models/{version.id}?format=PickleTensor").json() == {
        "error": "File not found"
    }


def test_a_download_counts_once_a_person_file_and_day(
    client: TestClient, db: Session, script: Script, model: Model
) -> None:
    path = f"/api/download/models/{model.versions[0].id}"
    for _ in range(2):
        client.get(path)
    someone = script(make_user(db), "read")
    someone.get(path)
    someone.get(path)
    client.head(path)
    db.expire_all()
    assert (model.download_count, model.versions[0].download_count) == (2, 2)


def test_private_file_with_token_in_the_address(client: TestClient, db: Session, script: Script) -> None:
    owner = make_user(db)
    version = trained(db, owner)
    secret = script(owner, "read").headers["Authorization"].split()[1]
    answer = client.get(f"/api/download/models/{version.id}?token={secret}")
    assert answer.status_code == 307
    assert client.get(answer.headers["location"]).content == safetensors(owner.username.encode())


def test_sidecar_and_preview(client: TestClient, model: Model) -> None:
    file = model.versions[0].files[0]
    answer = client.get(f"/files/{file.id}/sidecar/tuscany.json")
    assert answer.json()["activation text"] == "tuscany"
    assert answer.json()["preferred weight"] == 0.8
    assert 'filename="tuscany.json"' in answer.headers["content-disposition"]
    preview = client.get(f"/files/{file.id}/preview/tuscany.preview.png")
    assert preview.content == b"picture"
    assert "tuscany.preview.png" in preview.headers["content-disposition"]


@pytest.mark.parametrize(("base", "word"), [("SD 1.5", "SD1"), ("Pony", "SDXL"), ("Flux.1 D", "Unknown")])
def test_a_sidecar_names_the_base_in_a1111_s_words(base: str, word: str, model: Model) -> None:
    model.versions[0].base_model = base
    assert sidecar(model.versions[0].files[0])["sd version"] == word


def test_a_picture_stays_private_inside_a_public_model(client: TestClient, db: Session, model: Model) -> None:
    own = make_image(db, make_user(db))
    service.add_picture(db, model.versions[0], own, 5)
    shown = client.get("/api/v1/models").json()["items"][0]["modelVersions"][0]["images"]
    assert own.id not in [i["id"] for i in shown]
    assert len(shown) == 1
    assert db.get_one(Image, own.id).visibility == "private"
