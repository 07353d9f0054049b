"""Who may use the routes of data sets."""

from typing import Any

from sqlalchemy import select

from app.datasets.models import DatasetItem
from app.datasets.service import change_labels
from tests.app.datasets.pictures import png
from tests.app.refusals import World, row
from tests.factories import make_blob, make_dataset, make_item

API = "/api/v1/datasets"


def a_set(world: World) -> dict[str, Any]:
    return {"id": make_dataset(world.db, world.owner, items=2).id}


def a_picture(world: World) -> dict[str, Any]:
    ids = a_set(world)
    first = select(DatasetItem.id).where(DatasetItem.dataset_id == ids["id"]).order_by(DatasetItem.position)
    return ids | {"item": world.db.scalars(first).first()}


def a_clip(world: World) -> dict[str, Any]:
    dataset = make_dataset(world.db, world.owner, media="video")
    strip = make_blob(world.db, media_type="image/webp")
    item = make_item(
        world.db, dataset, strip_sha256=strip.sha256, clip={"fps": 12.0, "frames": 24, "duration": 2.0}
    )
    return {"id": dataset.id, "item": item.id}


def a_change(world: World) -> dict[str, Any]:
    """An undo's token is part of the body, so the row asks for one that is gone: 404 for the owner too."""
    ids = a_set(world)
    change_labels(world.db, world.owner, ids["id"], op="add", tag="evening")
    return ids


FILE = [("files", ("a.png", png(1)))]
OWN = {"anonymous": 401, "other": 404}
ROWS = [
    row("POST", API, anonymous=401, other=201, owner=201, json={"name": "Old towns"}),
    row("GET", API, anonymous=401, other=200, owner=200),
    row("GET", API + "/{id}", **OWN, owner=200, make=a_set),
    row("PATCH", API + "/{id}", **OWN, owner=200, make=a_set, json={"name": "New name"}),
    row("DELETE", API + "/{id}", **OWN, owner=204, make=a_set),
    row("POST", API + "/{id}/items", **OWN, owner=200, make=a_set, files=FILE),
    row("GET", API + "/{id}/items", **OWN, owner=200, make=a_set),
    row("GET", API + "/{id}/items/{item}", **OWN, owner=200, make=a_picture),
    row("PATCH", API + "/{id}/items/{item}", **OWN, owner=200, make=a_picture, json={"label": "x"}),
    row("DELETE", API + "/{id}/items/{item}", **OWN, owner=204, make=a_picture),
    row("GET", API + "/{id}/items/{item}/file", **OWN, owner=200, make=a_picture),
    row("GET", API + "/{id}/items/{item}/strip", **OWN, owner=200, make=a_clip),
    row("GET", API + "/{id}/items/{item}/windows", **OWN, owner=200, make=a_clip),
    row("GET", API + "/{id}/items/{item}/thumb", **OWN, owner=200, make=a_picture),
    row("POST", API + "/{id}/labels", **OWN, owner=200, make=a_set, json={"op": "add", "tag": "x"}),
    row("POST", API + "/{id}/labels/undo", **OWN, owner=404, make=a_change, json={"undo": "undo_gone"}),
    row("GET", API + "/{id}/export", **OWN, owner=200, make=a_set),
    row("POST", API + "/{id}/example", **OWN, owner=200, make=a_set),
    row("GET", "/datasets", anonymous=303, other=200, owner=200),
    row("POST", "/datasets", anonymous=401, other=303, owner=303, data={"name": "Old towns"}),
    row("GET", "/datasets/{id}", anonymous=303, other=404, owner=200, make=a_set),
    row("POST", "/datasets/{id}/files", **OWN, owner=303, make=a_set, files=FILE),
    row("POST", "/datasets/{id}/example", **OWN, owner=303, make=a_set),
    row("POST", "/datasets/{id}/rename", **OWN, owner=303, make=a_set, data={"name": "New name"}),
    row("POST", "/datasets/{id}/delete", **OWN, owner=303, make=a_set),
    row("POST", "/datasets/{id}/items/{item}", **OWN, owner=303, make=a_picture, data={"label": "x"}),
    row("POST", "/datasets/{id}/items/{item}/delete", **OWN, owner=303, make=a_picture),
]
