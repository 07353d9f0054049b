"""Which rows the parameters of Civitai's lists choose, how lists are paged, and what caches may keep."""

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRouter
from fastapi.testclient import TestClient
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from app.compat.answers import OVERLOADED, CivitaiRoute
from app.core.config import get_settings
from app.images.models import tag_number
from app.main import create_app
from app.web.rendered import add_rendered_handler
from tests.app.compat.catalogue import Catalogue, make_catalogue
from tests.app.conftest import Script
from tests.app.gallery.things import published
from tests.factories import make_user


@pytest.fixture
def things(db: Session) -> Catalogue:
    return make_catalogue(db)


SAFE = {"bare", "many", "archived", "long", "fetched"}
MODELS: dict[str, set[str]] = {
    "": SAFE, "nsfw=true": SAFE | {"adult"}, "nsfw=1": SAFE | {"adult"}, "nsfw=false": SAFE,
    "browsingLevel=8": {"adult"}, "browsingLevel=63&nsfw=false": SAFE | {"adult"},
    "types=Checkpoint": {"bare", "many"}, "types=LORA&types=Checkpoint": SAFE,
    "types[]=LORA": {"archived", "long", "fetched"}, "checkpointType=Merge": {"archived", "long", "fetched"},
    "checkpointType=Trained": SAFE, "baseModels=SDXL 1.0": {"bare", "many"},
    "fileFormats=PickleTensor": {"many"}, "fileFormats=GGUF": set(), "fileFormats=Core ML": set(),
    "allowNoCredit=false": {"bare"}, "allowDerivatives=false": set(), "allowDifferentLicense=true": SAFE,
    "allowDifferentLicenses=false": set(),
    "allowCommercialUse=None": {"bare"}, "allowCommercialUse=None&allowCommercialUse=Sell": SAFE,
    "availability=Public": SAFE, "availability=Unsearchable": set(), "availability=EarlyAccess": set(),
    "archived=true": {"archived"}, "archived=false": SAFE,
    "fromPlatform=true": {"archived", "long", "fetched"},
    "earlyAccess=true": set(), "followed=true": set(), "earlyAccess=false": SAFE, "status=Draft": SAFE,
    "username=LORENZO": SAFE, "username=nobody": set(), "tag=A B": {"long"}, "tagname=中文": {"long"},
    "query=": SAFE, "query=many files": {"many"}, "period=Day&periodMode=published": SAFE,
    "periodMode=stats&period=Day": SAFE, "supportsGeneration=true": {"archived", "long", "fetched"},
    "rating=4": SAFE, "whatever=1": SAFE,
}  # fmt: skip


def test_filters_of_models(client: TestClient, things: Catalogue) -> None:
    names = {model.id: name for name, model in things.shown.items()}
    for query, wanted in MODELS.items():
        items = client.get(f"/api/v1/models?{query}").json()["items"]
        assert {names[item["id"]] for item in items} == wanted, query


def test_filters_by_number(client: TestClient, things: Catalogue) -> None:
    ids = [things.shown[name].id for name in ("bare", "long")]
    assert _ids(client, f"models?ids={ids[0]},{ids[1]}&ids={ids[0]}") == set(ids)
    assert _ids(client, f"models?modelVersionIds={things.shown['many'].versions[0].id}") == {
        things.shown["many"].id
    }


def _ids(client: TestClient, path: str) -> set[int]:
    answer = client.get(f"/api/v1/{path}")
    assert answer.status_code == 200, (path, answer.text)
    return {item["id"] for item in answer.json()["items"]}


def test_sorts_of_models(client: TestClient, things: Catalogue) -> None:
    ids = {name: model.id for name, model in things.shown.items() if name != "adult"}
    by_id = sorted(ids.values(), reverse=True)
    by_downloads = [ids["fetched"], *(i for i in by_id if i != ids["fetched"])]
    by_pictures = [ids["long"], *(i for i in by_id if i != ids["long"])]
    wanted = {
        "Highest Rated": by_downloads, "Most Downloaded": by_downloads, "Most Liked": by_downloads,
        "Most Discussed": by_id, "Most Collected": by_id, "Most Images": by_pictures,
    }  # fmt: skip
    for sort, order in wanted.items():
        items = client.get("/api/v1/models", params={"sort": sort}).json()["items"]
        assert [item["id"] for item in items] == order, sort
    newest = [i["id"] for i in client.get("/api/v1/models?sort=Newest").json()["items"]]
    oldest = [i["id"] for i in client.get("/api/v1/models?sort=Oldest").json()["items"]]
    assert newest == oldest[::-1]


def test_words_are_found_best_first(client: TestClient, db: Session) -> None:
    user = make_user(db)
    names = ("A house by the sea", "House", "House of olives", "Sea")
    made = {name: published(db, user, tensors=name.encode(), name=name).id for name in names}
    published(db, user, tensors=b"x", name="Elsewhere", description="a house and a house").download_count = 9
    db.flush()
    wanted = ["House", "House of olives", "A house by the sea", "Elsewhere"]
    body = client.get("/api/v1/models?query=house").json()
    found = [m["name"] for m in body["items"]]
    assert (found[:2], set(found)) == (wanted[:2], set(wanted))
    first = client.get("/api/v1/models?query=house&limit=3").json()
    assert first["metadata"]["nextCursor"] == "3"
    rest = client.get(first["metadata"]["nextPage"]).json()
    assert [m["name"] for m in [*first["items"], *rest["items"]]] == found
    assert rest["metadata"] == {}
    newest = client.get("/api/v1/models?query=house&sort=Oldest").json()["items"]
    assert newest[0]["id"] == made["A house by the sea"]
    assert client.get("/api/v1/models?query=house&cursor=x").status_code == 400


def test_newest_is_the_same_for_somebody_known(
    client: TestClient, things: Catalogue, db: Session, script: Script
) -> None:
    first = client.get("/api/v1/models?sort=Newest").json()["items"]
    client.get(f"/api/download/models/{first[-1]['modelVersions'][0]['id']}")
    known = script(make_user(db), "read").get("/api/v1/models?sort=Newest").json()["items"]
    assert [m["id"] for m in known] == [m["id"] for m in first]


def test_pictures_of_a_model_have_the_level_of_the_list(client: TestClient, things: Catalogue) -> None:
    many = things.shown["many"].id
    for query, wanted in {"": {1}, "nsfw=true": {1, 2, 4, 8, 16}, "browsingLevel=3": {1, 2}}.items():
        item = client.get(f"/api/v1/models?ids={many}&{query}").json()["items"][0]
        assert {i["nsfwLevel"] for i in item["modelVersions"][0]["images"]} == wanted, query
        assert item["nsfwLevel"] == 31
    alone = client.get(f"/api/v1/models/{many}").json()
    assert {i["nsfwLevel"] for i in alone["modelVersions"][0]["images"]} == {1, 2, 4, 8, 16}


def test_primary_files_only(client: TestClient, things: Catalogue) -> None:
    item = client.get(f"/api/v1/models?ids={things.shown['many'].id}&primaryFileOnly=true").json()["items"][0]
    assert [f["type"] for f in item["modelVersions"][0]["files"]] == ["Model"]


IMAGES: dict[str, set[str]] = {
    "": {"plain", "made"}, "nsfw=None": {"plain", "made"}, "nsfw=Soft": {"plain", "made", "video"},
    "nsfw=Mature": {"plain", "made", "mature", "video"}, "nsfw=X": {"plain", "made", "mature", "video"},
    "nsfw=Blocked": {"blocked"}, "nsfw=true": {"mature", "blocked"}, "nsfw=false": {"plain", "made"},
    "browsingLevel=2&nsfw=true": {"video"}, "browsingLevel=8": set(),
    "browsingLevel=63": {"plain", "made", "mature", "blocked", "video"},
    "type=video&browsingLevel=63": {"video"}, "type=image": {"plain", "made"}, "type=audio": set(),
    f"tags={tag_number('日本')}": {"made"}, f"tags=1,{tag_number('olive')}": {"made"}, "tags=1": set(),
    "baseModels=SD 1.5": {"made"}, "baseModels=SD 1.5,Pony": {"made"}, "baseModels=Pony": set(),
    "requiringMeta=true": {"made"}, "postId=1": set(), "username=Lorenzo": {"plain", "made"},
    "username=nobody": set(), "userId=2147483647": set(), "period=Day": {"plain", "made"},
    "sort=Random": {"plain", "made"}, "sort=Most Comments": {"plain", "made"},
}  # fmt: skip


def test_filters_of_pictures(client: TestClient, things: Catalogue) -> None:
    names = {image.id: name for name, image in things.pictures.items()}
    for query, wanted in IMAGES.items():
        found = {names[number] for number in _ids(client, f"images?{query}") if number in names}
        assert found == wanted, query
    version = things.shown["long"].versions[0]
    assert _ids(client, f"images?modelId={version.model_id}") == {things.pictures["made"].id}
    assert _ids(client, f"images?modelVersionId={version.id}") == {things.pictures["made"].id}
    assert _ids(client, f"images?modelId={things.hidden['private'].id}") == set()
    assert _ids(client, f"images?imageId={things.pictures['plain'].id}") == {things.pictures["plain"].id}


def test_generation_data_of_pictures(client: TestClient, things: Catalogue) -> None:
    made = things.pictures["made"].id
    meta = {
        query: client.get(f"/api/v1/images?imageId={made}&{query}").json()["items"][0]["meta"]
        for query in ("", "withMeta=true", "withMeta=true&flatMeta=true", "withMeta=true&flatMeta=false")
    }
    flat = meta["withMeta=true"]
    assert meta[""] is None
    assert (flat["prompt"], flat["seed"]) == ("x", 1)
    assert meta["withMeta=true&flatMeta=true"] == flat
    assert meta["withMeta=true&flatMeta=false"] == {"id": made, "meta": flat}
    item = client.get(f"/api/v1/images?imageId={made}&withTags=true").json()["items"][0]
    assert item["tags"] == [
        {"id": tag_number("olive"), "name": "olive"},
        {"id": tag_number("日本"), "name": "日本"},
    ]


def test_next_pages(client: TestClient, things: Catalogue) -> None:
    for path, key in (
        ("models?limit=2&nsfw=true", "cursor"),
        ("images?limit=1&page=1&browsingLevel=63", "page"),
    ):
        seen: list[int] = []
        address = f"/api/v1/{path}"
        while address:
            body = client.get(address).json()
            seen += [item["id"] for item in body["items"]]
            after = body["metadata"].get("nextPage", "")
            assert not after or f"{key}=" in after
            assert after.startswith("http://testserver/api/v1/") or not after
            address = after.removeprefix("http://testserver")
        assert len(seen) == len(set(seen)) > 2
    first = client.get("/api/v1/models?limit=2&page=1&types=LORA&x=y").json()["metadata"]
    assert (first["currentPage"], first["pageSize"]) == (1, 2)
    assert "types=LORA&x=y&cursor=" in first["nextPage"]
    after = client.get(f"/api/v1/models?limit=2&page=9&cursor={first['nextCursor']}").json()["metadata"]
    assert "currentPage" not in after


def test_a_token_in_the_address_stays_in_the_next_one(
    things: Catalogue, client: TestClient, script: Script
) -> None:
    secret = script(things.owner, "read").headers["Authorization"].split()[1]
    body = client.get(f"/api/v1/models?limit=1&nsfw=true&token={secret}").json()
    assert f"token={secret}" in body["metadata"]["nextPage"]


READS = ("models", "models/{model}", "model-versions/{version}", "model-versions/mini/{version}", "images",
         "tags", "creators", "users?query=l", "enums", "permissions/check?entityIds={version}")  # fmt: skip


def test_what_caches_keep(client: TestClient, things: Catalogue, script: Script) -> None:
    long = things.shown["long"]
    numbers = {"model": long.id, "version": long.versions[0].id}
    known = script(make_user(client.db, "somebody"), "read")  # type: ignore[attr-defined]
    for path in [f"/api/v1/{p}".format(**numbers) for p in READS]:
        answer = client.get(path)
        assert answer.headers["cache-control"] == "public, s-maxage=300, stale-while-revalidate=150"
        again = client.get(path, headers={"If-None-Match": answer.headers["etag"]})
        assert (again.status_code, again.content) == (304, b""), path
        assert again.headers["access-control-allow-origin"] == "*"
        assert client.get(path, headers={"If-None-Match": '"else"'}).status_code == 200
        if "/models" in path or "/model-versions" in path:
            assert known.get(path).headers["cache-control"] == "private, no-cache", path
    sha = long.versions[0].files[0].blob_sha256
    by_hash = client.get(f"/api/v1/model-versions/by-hash/{sha}").headers["cache-control"]
    assert by_hash == "public, s-maxage=3600, stale-while-revalidate=1800"
    unlisted = things.hidden["unlisted"]
    with_key = client.get(f"/api/v1/models/{unlisted.id}?key={unlisted.share_key}")
    assert with_key.headers["cache-control"] == "private, no-cache"
    link = with_key.json()["modelVersions"][0]["downloadUrl"]
    assert client.get(link).status_code == 307


def test_other_origins(client: TestClient, things: Catalogue) -> None:
    for path in ("models", "model-versions/by-hash/x", "enums", "images", "me"):
        asked = client.options(f"/api/v1/{path}", headers={"Origin": "https://other.example"})
        assert (asked.status_code, asked.content) == (200, b"")
        assert asked.headers["access-control-allow-origin"] == "*"
    answer = client.get("/api/v1/models")
    assert answer.headers["access-control-allow-methods"] == "GET, OPTIONS"
    assert answer.headers["access-control-allow-headers"] == "*"


def test_another_method_is_told_in_civitai_s_word(client: TestClient) -> None:
    for path in ("models", "model-versions/mini/1", "enums"):
        answer = client.put(f"/api/v1/{path}")
        assert (answer.status_code, answer.json()["error"]) == (405, "Method not allowed"), path


def test_words_and_people(client: TestClient, things: Catalogue) -> None:
    words = client.get("/api/v1/enums").json()
    assert "LORA" in words["ModelType"]
    assert "Starter 1" in words["ActiveBaseModel"]
    assert {"SD 1.5", "SDXL 1.0", "Flux.1 D", "Other"} <= set(words["BaseModel"])
    version, draft = things.shown["long"].versions[0].id, things.draft.id
    path = (
        f"/api/v1/permissions/check?entityIds={version},{draft}&entityType=ModelVersion&permission=Generate"
    )
    assert client.get(path).json() == {str(version): True, str(draft): False}
    assert client.get("/api/v1/permissions/check?entityIds=").json() == []
    assert client.get("/api/v1/users").json() == {"items": []}


def test_a_file_by_its_number(client: TestClient, things: Catalogue) -> None:
    version = things.shown["many"].versions[0]
    vae = next(f for f in version.files if f.type == "VAE")
    path = f"/api/v1/model-versions/mini/{version.id}"
    mini = client.get(f"{path}?modelFileId={vae.id}").json()
    assert (mini["fileName"], mini["fileType"], mini["size"]) == ("more.safetensors", "VAE", 3 / 1024)
    assert client.get(mini["downloadUrls"][0]).headers["location"].split("?")[0].endswith("/more.safetensors")
    missing = client.get(f"{path}?modelFileId=999999")
    assert (missing.status_code, missing.json()) == (404, {"error": "Missing model file"})


def test_a_crash_and_a_database_that_is_away_answer_in_civitai_s_form() -> None:
    router = APIRouter(route_class=CivitaiRoute)

    @router.get("/away")
    def away() -> None:
        raise OperationalError("select", {}, Exception("statement timeout"))

    @router.get("/crash")
    def crash() -> None:
        raise ZeroDivisionError

    app = FastAPI()
    add_rendered_handler(app)
    app.include_router(router)
    client = TestClient(app)
    answer = client.get("/away")
    assert (answer.status_code, answer.json()) == (503, {"error": OVERLOADED})
    assert (answer.headers["retry-after"], answer.headers["cache-control"]) == ("2", "no-store")
    answer = client.get("/crash")
    assert (answer.status_code, answer.json()["message"]) == (500, "An unexpected error occurred")
    assert "ZeroDivision" not in answer.text


def test_too_many_requests_are_told_in_civitai_s_form(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(get_settings().limits, "reads_per_minute", 1)
    client.get("/api/v1/enums")
    for path in ("/api/v1/models", "/api/download/models/1"):
        refused = client.get(path)
        assert refused.status_code == 429
        assert set(refused.json()) == {"error"}
        assert 0 < int(refused.headers["retry-after"]) <= 60


def test_addresses_are_those_of_the_proxy_in_front(
    db: Session, things: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(get_settings().server, "trusted_proxies", "10.0.0.0/8")
    behind = TestClient(create_app(), client=("10.1.2.3", 1))
    headers = {"X-Forwarded-Host": "models.example", "X-Forwarded-Proto": "https"}
    body = behind.get("/api/v1/models?limit=1", headers=headers).json()
    assert body["metadata"]["nextPage"].startswith("https://models.example/api/v1/models?limit=1&cursor=")
    version = body["items"][0]["modelVersions"][0]
    assert version["downloadUrl"].startswith("https://models.example/api/download/models/")
    stranger = TestClient(create_app(), client=("8.8.8.8", 1)).get("/api/v1/models?limit=1", headers=headers)
    assert stranger.json()["metadata"]["nextPage"].startswith("http://testserver/")
    monkeypatch.setattr(get_settings().server, "public_url", "https://bottega.example/")
    body = behind.get("/api/v1/models?limit=1", headers=headers).json()
    assert body["metadata"]["nextPage"].startswith("https://bottega.example/api/v1/models?")
