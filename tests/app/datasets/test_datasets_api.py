"""Data sets by REST: making, listing, editing labels with undo, entity tags, export."""

import io
import zipfile
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.orm import Session
from starlette.testclient import TestClient

from app.accounts.models import User
from app.core.errors import NotFound, Unauthorized
from app.datasets import service
from app.datasets.models import Dataset, DatasetItem, LabelUndo
from tests.app.conftest import Script
from tests.app.datasets.pictures import png
from tests.factories import make_admin, make_dataset, make_item, make_user


@pytest.fixture
def dataset(db: Session, owner: User) -> Dataset:
    made = make_dataset(db, owner)
    for position, label in enumerate(["hill, noon", "hill, olive tree", ""]):
        make_item(db, made, position, label=label)
    return made


def items(api: TestClient, dataset: Dataset, **query: Any) -> list[dict[str, Any]]:
    answer = api.get(f"/api/v1/datasets/{dataset.id}/items", params=query)
    assert answer.status_code == 200, answer.text
    return list(answer.json()["items"])


def change(api: TestClient, dataset: Dataset, **body: Any) -> dict[str, Any]:
    answer = api.post(f"/api/v1/datasets/{dataset.id}/labels", json=body)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def test_make_list_and_rename(api: TestClient) -> None:
    answer = api.post(
        "/api/v1/datasets", json={"name": " Old   towns ", "media": "image", "label_type": "tag"}
    )
    assert answer.status_code == 201
    made = answer.json()
    assert answer.headers["location"] == f"/api/v1/datasets/{made['id']}"
    assert made["name"] == "Old towns"
    assert made["counts"] == {"items": 0, "labelled": 0}
    assert made["tags"] == []
    api.post("/api/v1/datasets", json={"name": "Second"})
    first = api.get("/api/v1/datasets", params={"limit": 1})
    assert [d["name"] for d in first.json()["items"]] == ["Second"]
    assert 'rel="next"' in first.headers["link"]
    rest = api.get("/api/v1/datasets", params={"cursor": first.json()["next_cursor"]}).json()
    assert [d["name"] for d in rest["items"]] == ["Old towns"]
    assert rest["next_cursor"] is None
    patched = api.patch(f"/api/v1/datasets/{made['id']}", json={"name": "Towns"})
    assert patched.json()["name"] == "Towns"
    assert patched.headers["etag"] != answer.headers["etag"]


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "#/name"),
        ({"name": ""}, "#/name"),
        ({"name": "x" * 101}, "#/name"),
        ({"name": "x", "label_type": "essay"}, "#/label_type"),
        ({"name": "x", "media": "sound"}, "#/media"),
        ({"name": "x", "colour": "red"}, "#/colour"),
    ],
)
def test_wrong_fields_are_named(api: TestClient, body: dict[str, Any], pointer: str) -> None:
    answer = api.post("/api/v1/datasets", json=body)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == pointer


def test_unknown_query_parameters_are_refused(api: TestClient, dataset: Dataset) -> None:
    assert api.get("/api/v1/datasets", params={"page": 2}).status_code == 422
    assert api.get(f"/api/v1/datasets/{dataset.id}/items", params={"sort": "x"}).status_code == 422


def test_filters_and_pages_of_pictures(api: TestClient, dataset: Dataset, db: Session) -> None:
    assert [i["label"] for i in items(api, dataset)] == ["hill, noon", "hill, olive tree", ""]
    assert len(items(api, dataset, tag="hill")) == 2
    assert len(items(api, dataset, tag="olive")) == 0
    assert [i["label"] for i in items(api, dataset, unlabelled=True)] == [""]
    assert len(items(api, dataset, unlabelled=False)) == 2
    make_item(db, dataset, 3, warnings=["small"])
    assert [i["warnings"] for i in items(api, dataset, warning="small")] == [["small"]]
    url = f"/api/v1/datasets/{dataset.id}/items"
    first = api.get(url, params={"limit": 3}).json()
    rest = api.get(url, params={"limit": 3, "cursor": first["next_cursor"]}).json()
    assert len(first["items"]) == 3
    assert len(rest["items"]) == 1
    assert rest["next_cursor"] is None


def test_tags_are_counted_for_tags_and_not_for_captions(api: TestClient, dataset: Dataset) -> None:
    shown = api.get(f"/api/v1/datasets/{dataset.id}").json()
    assert shown["tags"] == [
        {"tag": "hill", "count": 2},
        {"tag": "noon", "count": 1},
        {"tag": "olive tree", "count": 1},
    ]
    assert shown["counts"] == {"items": 3, "labelled": 2}
    api.patch(f"/api/v1/datasets/{dataset.id}", json={"label_type": "caption"})
    assert api.get(f"/api/v1/datasets/{dataset.id}").json()["tags"] == []


def test_one_label_and_entity_tags(api: TestClient, dataset: Dataset) -> None:
    item = items(api, dataset)[2]
    url = f"/api/v1/datasets/{dataset.id}/items/{item['id']}"
    before = api.get(f"/api/v1/datasets/{dataset.id}").headers["etag"]
    changed = api.patch(url, json={"label": "a,b ,a"}, headers={"If-Match": before})
    assert (changed.json()["label"], changed.json()["label_source"]) == ("a, b", "user")
    late = api.patch(url, json={"label": "c"}, headers={"If-Match": before})
    assert (late.status_code, late.json()["code"]) == (412, "changed-meanwhile")
    assert api.patch(url, json={"label": "c"}, headers={"If-Match": item["etag"]}).status_code == 412
    again = api.patch(url, json={"label": "c"}, headers={"If-Match": changed.json()["etag"]})
    assert again.json()["label"] == "c"
    assert api.get(url).headers["etag"] == again.json()["etag"]
    assert api.patch(url, json={"label": "d"}, headers={"If-Match": again.headers["etag"]}).status_code == 200
    assert api.patch(url, json={"label": "x" * 5001}).status_code == 422
    assert api.patch(url, json={"label": "x", "name": "y"}).status_code == 422


def test_bulk_changes_and_undo(api: TestClient, dataset: Dataset) -> None:
    first = change(api, dataset, op="rename", tag="hill", to="mountain")
    assert first["changed"] == 2
    chosen = items(api, dataset)[2]["id"]
    second = change(api, dataset, op="add", tag="evening", items=[chosen])
    third = change(api, dataset, op="remove", tag="noon")
    assert [i["label"] for i in items(api, dataset)] == ["mountain", "mountain, olive tree", "evening"]
    url = f"/api/v1/datasets/{dataset.id}/labels/undo"
    for step in (third, second, first):
        assert api.post(url, json={"undo": step["undo"]}).json()["changed"] == step["changed"]
    assert [i["label"] for i in items(api, dataset)] == ["hill, noon", "hill, olive tree", ""]
    assert api.post(url, json={"undo": first["undo"]}).status_code == 404


@pytest.mark.parametrize(
    "body",
    [
        {"op": "explode", "tag": "x"},
        {"op": "add", "tag": " , "},
        {"op": "rename", "tag": "x"},
        {"op": "rename", "tag": "x", "to": ","},
        {"op": "add", "tag": "x", "to": "y"},
        {"op": "add"},
        {"op": "add", "tag": "x" * 6000},
    ],
)
def test_bulk_changes_that_make_no_sense(api: TestClient, dataset: Dataset, body: dict[str, Any]) -> None:
    assert api.post(f"/api/v1/datasets/{dataset.id}/labels", json=body).status_code == 422


def test_foreign_pictures_are_not_changed(api: TestClient, dataset: Dataset, db: Session) -> None:
    theirs = make_dataset(db, make_user(db), items=1)
    foreign = service.snapshot(db, make_admin(db), theirs.id)
    mine = items(api, dataset)[0]["id"]
    row = db.query(DatasetItem).filter_by(dataset_id=theirs.id).one()
    answer = api.post(
        f"/api/v1/datasets/{dataset.id}/labels", json={"op": "add", "tag": "x", "items": [mine, row.id]}
    )
    assert answer.status_code == 404
    assert items(api, dataset)[0]["label"] == "hill, noon"
    assert api.patch(f"/api/v1/datasets/{dataset.id}/items/{row.id}", json={"label": "x"}).status_code == 404
    assert foreign[0].label == "olive tree, noon"


def test_fifty_changes_can_be_undone(api: TestClient, dataset: Dataset, db: Session) -> None:
    undo = [change(api, dataset, op="set", tag=f"tag {n}")["undo"] for n in range(53)]
    assert db.query(LabelUndo).count() == 50
    url = f"/api/v1/datasets/{dataset.id}/labels/undo"
    assert api.post(url, json={"undo": undo[2]}).status_code == 404
    assert api.post(url, json={"undo": undo[52]}).json() == {"changed": 3}
    assert {i["label"] for i in items(api, dataset)} == {"tag 51"}
    assert api.post(url, json={"undo": undo[3]}).status_code == 200


def test_undo_keeps_what_was_written_since(api: TestClient, dataset: Dataset) -> None:
    step = change(api, dataset, op="remove", tag="hill")
    edited = items(api, dataset)[1]["id"]
    url = f"/api/v1/datasets/{dataset.id}"
    api.patch(f"{url}/items/{edited}", json={"label": "olive tree, ladder"})
    assert api.post(f"{url}/labels/undo", json={"undo": step["undo"]}).json() == {"changed": 1}
    assert [i["label"] for i in items(api, dataset)] == ["hill, noon", "olive tree, ladder", ""]


def test_export_and_bring_back(api: TestClient, script: Script, db: Session) -> None:
    made = api.post("/api/v1/datasets", json={"name": "Città"}).json()
    url = f"/api/v1/datasets/{made['id']}"
    files = [("files", (f"{n}.png", png(n))) for n in range(3)] + [("files", ("1.txt", b"one, uno"))]
    api.post(f"{url}/items", files=files)
    answer = api.get(f"{url}/export")
    assert answer.headers["content-type"] == "application/zip"
    assert "Citt%C3%A0.zip" in answer.headers["content-disposition"]
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["000.png", "001.png", "001.txt", "002.png"]
        assert archive.read("001.txt") == b"one, uno\n"
        assert archive.read("000.png") == api.get(items(api, Dataset(id=made["id"]))[0]["url"]).content
    second = api.post("/api/v1/datasets", json={"name": "Back"}).json()
    back = api.post(
        f"/api/v1/datasets/{second['id']}/items", files={"files": ("set.zip", answer.content)}
    ).json()
    assert [item["label"] for item in back["accepted"]] == ["", "one, uno", ""]


def test_a_snapshot_keeps_what_was_there(db: Session, owner: User, dataset: Dataset) -> None:
    before = service.snapshot(db, owner, dataset.id)
    assert [item.label for item in before] == ["hill, noon", "hill, olive tree", ""]
    service.change_labels(db, owner, dataset.id, op="set", tag="other")
    assert [item.label for item in before] == ["hill, noon", "hill, olive tree", ""]
    assert before[0].file.size > 0
    assert before[0].file.key.startswith("blobs/")
    with pytest.raises(NotFound):
        service.snapshot(db, make_user(db), dataset.id)
    with pytest.raises(Unauthorized):
        service.snapshot(db, None, dataset.id)


def test_an_admin_looks_and_does_not_change(db: Session, dataset: Dataset) -> None:
    admin = make_admin(db)
    assert len(service.snapshot(db, admin, dataset.id)) == 3
    with pytest.raises(NotFound):
        service.delete_dataset(db, admin, dataset.id)


@pytest.mark.parametrize("rows", [1, 3])
def test_lists_need_the_same_statements_for_any_length(
    rows: int, api: TestClient, owner: User, db: Session
) -> None:
    for _ in range(rows):
        made = make_dataset(db, owner, items=rows)
    for url in ("/api/v1/datasets", f"/api/v1/datasets/{made.id}/items"):
        statements: list[str] = []

        def count(conn: Any, cursor: Any, statement: str, *rest: Any, seen: list[str] = statements) -> None:
            if statement.startswith("SELECT") and "dataset" in statement:
                seen.append(statement)

        event.listen(db.get_bind(), "before_cursor_execute", count)
        api.get(url)
        event.remove(db.get_bind(), "before_cursor_execute", count)
        assert len(statements) == (3 if url.endswith("datasets") else 2)
