"""POST /datasets/{id}/items: what is taken, what is refused, and that one bad file never fails the rest."""

import io
import zipfile
from typing import Any

import pytest
from PIL import Image
from sqlalchemy import select
from sqlalchemy.orm import Session
from starlette.testclient import TestClient

from app.accounts.models import User
from app.accounts.quotas import used_bytes
from app.core.blobs import Blob
from app.core.config import get_settings
from app.datasets import adding, receive
from app.datasets.models import Dataset, DatasetItem
from tests.app.conftest import Script
from tests.app.datasets.pictures import (
    draw,
    encoded,
    encrypted,
    huge_png,
    jpeg_with_place,
    png,
    zip_with_link,
    zipped,
)
from tests.factories import make_dataset, make_user


@pytest.fixture
def owner(db: Session) -> User:
    return make_user(db)


@pytest.fixture
def dataset(db: Session, owner: User) -> Dataset:
    return make_dataset(db, owner)


@pytest.fixture
def api(owner: User, script: Script) -> TestClient:
    return script(owner, "read", "train")


def send(api: TestClient, dataset: Dataset, *files: tuple[str, bytes]) -> dict[str, Any]:
    answer = api.post(f"/api/v1/datasets/{dataset.id}/items", files=[("files", f) for f in files])
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def codes(body: dict[str, Any]) -> dict[str, str]:
    return {r["name"]: r["code"] for r in body["rejected"]}


def labels(api: TestClient, dataset: Dataset) -> dict[str, str]:
    items = api.get(f"/api/v1/datasets/{dataset.id}/items").json()["items"]
    return {item["name"]: item["label"] for item in items}


def test_pictures_and_their_labels(api: TestClient, dataset: Dataset) -> None:
    body = send(
        api,
        dataset,
        ("b.png", png(1)),
        ("b.txt", b" olive tree ,noon,, Olive  Tree,\n hill "),
        ("a.jpg", encoded(draw(2), "JPEG")),
    )
    assert (body["rejected"], body["duplicates"], body["labels"]) == ([], [], [])
    first, second = body["accepted"]
    assert (first["name"], first["label"], first["label_source"]) == (
        "b.png",
        "olive tree, noon, hill",
        "file",
    )
    assert (second["label"], second["width"], second["height"]) == ("", 96, 80)
    shown = api.get(f"/api/v1/datasets/{dataset.id}").json()
    assert shown["counts"] == {"items": 2, "labelled": 1}
    assert shown["tags"][0] == {"tag": "hill", "count": 1}
    assert shown["size_bytes"] > 1000


def test_what_is_stored_is_normal_and_private(
    api: TestClient, dataset: Dataset, script: Script, db: Session
) -> None:
    item = send(api, dataset, ("phone.jpg", jpeg_with_place()))["accepted"][0]
    picture, thumb = api.get(item["url"]), api.get(item["thumb_url"])
    assert picture.headers["content-type"] == "image/png"
    assert thumb.headers["content-type"] == "image/webp"
    assert b"Secret" not in picture.content + thumb.content
    assert Image.open(io.BytesIO(picture.content)).size == (item["width"], item["height"]) == (80, 120)
    stranger = script(make_user(db), "read")
    assert stranger.get(item["url"]).status_code == stranger.get(item["thumb_url"]).status_code == 404


def test_each_bad_file_has_its_own_error_and_the_rest_is_taken(api: TestClient, dataset: Dataset) -> None:
    body = send(
        api, dataset,
        ("good.png", png(1)),
        ("cut.png", png(2)[:300]),
        ("page.png", b"<!DOCTYPE html><html></html>"),
        ("nothing.jpg", b""),
        ("bomb.png", huge_png()),
        ("tiny.png", encoded(draw(1, (20, 20)))),
        ("binary.txt", bytes(range(256)) * 4),
        ("latin.txt", "città, caffè".encode("latin-1")),
        ("latin.png", png(3)),
    )  # fmt: skip
    assert [item["name"] for item in body["accepted"]] == ["good.png", "latin.png"]
    assert codes(body) == {
        "cut.png": "image-unreadable", "page.png": "unsupported-format", "nothing.jpg": "empty-file",
        "bomb.png": "image-too-large", "tiny.png": "image-too-small", "binary.txt": "label-unreadable",
    }  # fmt: skip
    assert all(r["detail"].startswith(r["name"]) for r in body["rejected"])
    latin = body["accepted"][1]
    assert latin["label"] == "città, caffè"
    assert "label-encoding" in latin["warnings"]


@pytest.mark.parametrize(
    "data",
    ["caffè, città".encode("utf-8-sig"), "caffè, città".encode("utf-16"), "caffè, città".encode("utf-16-le")],
)
def test_label_files_of_other_editors(api: TestClient, dataset: Dataset, data: bytes) -> None:
    send(api, dataset, ("a.png", png(1)), ("a.txt", data))
    assert labels(api, dataset) == {"a.png": "caffè, città"}


def test_a_label_finds_its_picture_whichever_comes_first(api: TestClient, dataset: Dataset) -> None:
    waits = send(api, dataset, ("early.txt", b"first"))
    assert waits["labels"][0]["item"] is None
    assert waits["accepted"] == []
    item = send(api, dataset, ("Early.PNG", png(1)))["accepted"][0]
    assert item["label"] == "first"
    late = send(api, dataset, ("early.txt", b"second"))
    assert late["labels"][0]["item"] == item["id"]
    assert labels(api, dataset) == {"Early.PNG": "second"}


def test_a_label_file_never_overwrites_what_a_person_wrote(api: TestClient, dataset: Dataset) -> None:
    item = send(api, dataset, ("a.png", png(1)))["accepted"][0]
    api.patch(f"/api/v1/datasets/{dataset.id}/items/{item['id']}", json={"label": "mine"})
    body = send(api, dataset, ("a.txt", b"theirs"))
    assert "keeps" in body["labels"][0]["detail"]
    assert labels(api, dataset) == {"a.png": "mine"}


def test_exact_duplicates_are_refused_and_near_ones_flagged(api: TestClient, dataset: Dataset) -> None:
    image = draw(7, (300, 240))
    first = send(api, dataset, ("a.png", encoded(image)))["accepted"][0]
    again = send(api, dataset, ("b.png", encoded(image)), ("c.png", encoded(image, compress_level=1)))
    assert again["accepted"] == []
    assert again["duplicates"] == [
        {"name": "b.png", "duplicate_of": first["id"]}, {"name": "c.png", "duplicate_of": first["id"]}
    ]  # fmt: skip
    near = send(api, dataset, ("d.jpg", encoded(image, "JPEG", quality=70)))["accepted"][0]
    assert "near-duplicate" in near["warnings"]
    assert "near-duplicate" not in first["warnings"]
    api.delete(f"/api/v1/datasets/{dataset.id}/items/{first['id']}")
    left = api.get(f"/api/v1/datasets/{dataset.id}/items/{near['id']}").json()
    assert "near-duplicate" not in left["warnings"]


def test_the_same_picture_twice_in_one_request(api: TestClient, dataset: Dataset) -> None:
    body = send(api, dataset, ("a.png", png(1)), ("b.png", png(1)), ("b.txt", b"from b"))
    assert len(body["accepted"]) == 1
    assert body["duplicates"][0]["name"] == "b.png"
    assert labels(api, dataset) == {"a.png": "from b"}


def test_a_zip_with_folders(api: TestClient, dataset: Dataset) -> None:
    data = zipped([
        ("set/1_red toy/01.png", png(1)), ("set/1_red toy/01.txt", b"red ball"),
        ("set/20_hou toy/01.png", png(2)), ("set/20_hou toy/extra/02.png", png(3)),
        ("img\\20_hud toy\\05.png", png(5)),
        ("reg/1_toy/04.png", png(4)),
        ("__MACOSX/._01.png", b"chaff"), (".DS_Store", b"chaff"), ("set/Thumbs.db", b"chaff"),
        ("readme.md", b"# about"),
    ])  # fmt: skip
    body = send(api, dataset, ("photos.zip", data))
    found = {(item["folder"], item["name"]): item["label"] for item in body["accepted"]}
    assert found == {
        ("set/1_red toy", "01.png"): "red ball", ("set/20_hou toy", "01.png"): "hou toy",
        ("set/20_hou toy/extra", "02.png"): "", ("img/20_hud toy", "05.png"): "hud toy",
    }  # fmt: skip
    assert codes(body) == {"reg/1_toy/04.png": "regularisation-picture", "readme.md": "not-a-picture"}


def test_folders_dropped_into_the_browser(api: TestClient, dataset: Dataset) -> None:
    body = send(
        api,
        dataset,
        ("set/1_a/x.png", png(1)),
        ("set/1_b/x.png", png(2)),
        ("set/1_a/x.txt", b"A"),
        ("set/1_b/x.txt", b"B"),
    )
    assert sorted(item["label"] for item in body["accepted"]) == ["A", "B"]


def test_bad_zips(api: TestClient, dataset: Dataset) -> None:
    inner = zipped([("x.png", png(1))])
    mixed = zipped([
        ("../../etc/up.png", png(2)), ("/abs.png", png(3)), ("C:/drive.png", png(4)), ("nested.zip", inner),
        ("bomb.png", bytes(30 << 20)), ("good.png", png(5)), ("good.txt", b"fine"),
    ])  # fmt: skip
    body = send(
        api, dataset, ("mixed.zip", mixed), ("link.zip", zip_with_link("l.png", "/etc/passwd")),
        ("locked.zip", encrypted(zipped([("s.png", png(6))]))), ("half.zip", mixed[:5000]),
        ("photo.png", inner),
    )  # fmt: skip
    assert {item["name"]: item["label"] for item in body["accepted"]} == {"good.png": "fine", "x.png": ""}
    assert codes(body) == {
        "../../etc/up.png": "unsafe-name", "/abs.png": "unsafe-name", "C:/drive.png": "unsafe-name",
        "nested.zip": "zip-nested", "bomb.png": "zip-bomb", "l.png": "zip-link", "s.png": "zip-encrypted",
        "half.zip": "zip-unreadable",
    }  # fmt: skip


def test_a_zip_that_lies_about_its_sizes(api: TestClient, dataset: Dataset) -> None:
    data = bytearray(zipped([("a.png", bytes(20 << 20)), ("b.png", png(1))]))
    for signature, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        at = data.find(signature)
        data[at + offset : at + offset + 4] = (1000).to_bytes(4, "little")
    body = send(api, dataset, ("lies.zip", bytes(data)))
    assert [item["name"] for item in body["accepted"]] == ["b.png"]
    assert list(codes(body)) == ["a.png"]


def test_a_zip_of_too_many_files(api: TestClient, dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(get_settings().limits, "dataset_items", 2)
    many = zipped([(f"{n}.txt", b"x") for n in range(507)])
    assert codes(send(api, dataset, ("many.zip", many))) == {"many.zip": "zip-too-many-files"}
    body = send(api, dataset, *((f"{n}.png", png(n)) for n in range(3)))
    assert len(body["accepted"]) == 2
    assert codes(body) == {"2.png": "dataset-full"}


def test_names_in_other_alphabets(api: TestClient, dataset: Dataset) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("città.png", png(1))
        archive.writestr("città.txt", "piazza")
    plain = out.getvalue().replace(b"\x00\x08", b"\x00\x00")  # without the flag that says UTF-8
    body = send(api, dataset, ("z.zip", plain), ("写真.png", png(2)), ('a"b\r\nc.png', png(3)))
    names = {item["name"]: item["label"] for item in body["accepted"]}
    assert names["città.png"] == "piazza"
    assert "写真.png" in names
    assert len(names) == 3
    assert all(name.isprintable() for name in names)


def test_quota_and_disk_are_seen_before(
    api: TestClient, dataset: Dataset, owner: User, db: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner.quota_bytes = 100
    db.flush()
    answer = api.post(f"/api/v1/datasets/{dataset.id}/items", files={"files": ("a.png", png(1))})
    assert (answer.status_code, answer.json()["code"]) == (403, "quota-exceeded")
    owner.quota_bytes = None
    db.flush()
    monkeypatch.setattr(get_settings().storage, "reserve_bytes", 1 << 60)
    answer = api.post(f"/api/v1/datasets/{dataset.id}/items", files={"files": ("a.png", png(1))})
    assert (answer.status_code, answer.json()["code"]) == (507, "disk-full")
    assert db.scalars(select(DatasetItem)).all() == []


def test_where_the_room_ends_the_rest_is_left_out(
    api: TestClient, dataset: Dataset, owner: User, db: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A zip of small files may need more room than it has bytes: what fits is kept, the rest is named."""
    monkeypatch.setattr(adding, "BATCH", 2)
    files = [(f"{n}.jpg", encoded(draw(n, (400, 300)), "JPEG", quality=40)) for n in range(4)]
    probe = make_dataset(db, owner)
    send(api, probe, *files[:2])
    owner.quota_bytes = used_bytes(db, owner) * 3 // 2
    assert api.delete(f"/api/v1/datasets/{probe.id}").status_code == 204
    packed = zipped(files)
    assert used_bytes(db, owner) + len(packed) < owner.quota_bytes
    body = send(api, dataset, ("set.zip", packed), ("bad.png", b"x"))
    taken = [item["name"] for item in body["accepted"]]
    assert taken == ["0.jpg", "1.jpg"]
    left = {r["name"]: r for r in body["rejected"]}
    assert {name: r["code"] for name, r in left.items()} == {
        "2.jpg": "quota-exceeded", "3.jpg": "quota-exceeded", "bad.png": "quota-exceeded",
    }  # fmt: skip
    assert left["2.jpg"]["detail"].startswith("2.jpg was left out. You use ")
    assert used_bytes(db, owner) <= owner.quota_bytes
    assert len(db.scalars(select(DatasetItem)).all()) == 2


def test_kohya_repeats_and_lists_are_named(api: TestClient, dataset: Dataset) -> None:
    body = send(
        api, dataset,
        ("img/20_hud toy/a.png", png(1)), ("img/1_squab/a.png", png(2)), ("img/20_hud toy/b.png", png(3)),
        ("img/1_squab/c.png", png(2)), ("caption.csv", b"caption,image_file\nx,a.png\n"),
        ("toys.toml", b"[general]\n"), ("img/1_squab/README.md", b"hello"),
    )  # fmt: skip
    assert [item["label"] for item in body["accepted"]] == ["hud toy", "squab", "hud toy"]
    assert body["notes"] == [
        "The 20 of the folder “20_hud toy” is not used: all pictures are shown equally often. "
        "Repeats for the whole set are an advanced setting of the training."
    ]
    assert [d["name"] for d in body["duplicates"]] == ["img/1_squab/c.png"]
    said = {r["name"]: r["detail"] for r in body["rejected"]}
    assert said["caption.csv"].startswith("caption.csv is a list")
    assert "from a .txt file beside each picture" in said["caption.csv"]
    assert said["toys.toml"].startswith("toys.toml holds settings of another program")
    assert said["img/1_squab/README.md"].startswith("README.md is not a picture that can be read")


def test_forms_that_are_wrong(api: TestClient, dataset: Dataset) -> None:
    url = f"/api/v1/datasets/{dataset.id}/items"
    assert api.post(url, files={"picture": ("a.png", png(1))}).json()["errors"][0]["pointer"] == "#/picture"
    assert api.post(url, data={"x": "y"}).status_code == 400
    assert api.post(url, json={"upload": "x", "more": 1}).json()["errors"][0]["pointer"] == "#/more"
    assert api.post(url, content=b"{", headers={"content-type": "application/json"}).status_code == 400
    long = b'{"upload": "' + b"x" * (2 << 20) + b'"}'
    assert api.post(url, content=long, headers={"content-type": "application/json"}).status_code == 413
    assert api.post(url, json={"upload": "up_nothing"}).status_code == 404
    answer = api.post(url, content=b"x", headers={"content-type": "multipart/form-data"})
    assert answer.status_code == 400, answer.text


def test_deleting_a_set_frees_what_only_it_named(api: TestClient, dataset: Dataset, db: Session) -> None:
    send(api, dataset, ("a.png", png(1)), ("b.png", png(2)))
    other = api.post("/api/v1/datasets", json={"name": "Second"}).json()
    api.post(f"/api/v1/datasets/{other['id']}/items", files={"files": ("a.png", png(1))})
    assert len(db.scalars(select(Blob)).all()) == 4
    assert api.delete(f"/api/v1/datasets/{dataset.id}").status_code == 204
    assert len(db.scalars(select(Blob)).all()) == 2
    item = api.get(f"/api/v1/datasets/{other['id']}/items").json()["items"][0]
    assert api.get(item["url"]).status_code == 200
    assert api.delete(f"/api/v1/datasets/{other['id']}/items/{item['id']}").status_code == 204
    assert db.scalars(select(Blob)).all() == []


@pytest.mark.parametrize("announced", [True, False])
def test_a_form_that_is_too_large_is_not_taken(
    api: TestClient, dataset: Dataset, monkeypatch: pytest.MonkeyPatch, announced: bool
) -> None:
    monkeypatch.setattr(receive, "FORM_BYTES", 5000)
    body = (
        b"--x\r\nContent-Disposition: form-data; name=files; filename=a.png\r\n\r\n"
        + bytes(6000)
        + b"\r\n--x--"
    )
    answer = api.post(
        f"/api/v1/datasets/{dataset.id}/items",
        content=body if announced else iter([body[:3000], body[3000:]]),
        headers={"content-type": "multipart/form-data; boundary=x"},
    )
    assert (answer.status_code, answer.json()["code"]) == (413, "too-large")


def test_the_example_set(api: TestClient, dataset: Dataset) -> None:
    url = f"/api/v1/datasets/{dataset.id}/example"
    first, again = api.post(url).json(), api.post(url).json()
    assert len(first["accepted"]) == 15
    assert first["rejected"] == again["accepted"] == []
    assert all(len(item["label"].split(", ")) == 10 for item in first["accepted"])
    assert len(again["duplicates"]) == 15
    assert api.get(f"/api/v1/datasets/{dataset.id}").json()["counts"] == {"items": 15, "labelled": 15}
