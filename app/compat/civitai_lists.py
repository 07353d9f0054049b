"""Civitai's small lists: tags, creators, people, words, and what may be generated with."""

from typing import Any
from urllib.parse import quote

from fastapi import APIRouter, Request

from app.accounts.deps import CompatUser
from app.compat.answers import CivitaiRoute, issue
from app.compat.query import Query, path_id
from app.core.errors import NotFound
from app.gallery import queries
from app.gallery.schemas import MODEL_TYPES
from app.gallery.shapes import FILE_TYPES
from app.recognition.bases import base_model_names
from app.web.deps import Db
from app.web.kept import for_everybody
from app.web.links import origin
from worker.families.catalog import specs

router = APIRouter(tags=["civitai"], route_class=CivitaiRoute)
BASE_MODEL_TYPES = ["Standard", "Inpainting", "Refiner", "Pix2Pix"]
MOST_PEOPLE, SOME_PEOPLE = 100, 5


def _page(request: Request) -> tuple[Query, int, int]:
    query = Query(request)
    return query, query.integer("page", 1) or 1, query.integer("limit", 20, most=200) or 20


@router.get("/api/v1/tags")
@for_everybody
def list_tags(request: Request, db: Db) -> dict[str, Any]:
    """Tags of public models, commonest first."""
    query, page, limit = _page(request)
    rows, total = queries.list_tags(db, query.text("query"), offset=(page - 1) * limit, limit=limit)
    link = f"{origin(request)}/api/v1/models?tag="
    items = [{"name": name, "modelCount": count, "link": link + quote(name)} for name, count in rows]
    return {"items": items, "metadata": query.numbered(total, page, limit)}


@router.get("/api/v1/creators")
@for_everybody
def list_creators(request: Request, db: Db) -> dict[str, Any]:
    """People who have published models."""
    query, page, limit = _page(request)
    rows, total = queries.list_creators(db, query.text("query"), offset=(page - 1) * limit, limit=limit)
    link = f"{origin(request)}/api/v1/models?username="
    items = [{"username": name, "modelCount": count, "link": link + quote(name)} for name, count in rows]
    return {"items": items, "metadata": query.numbered(total, page, limit)}


def _person(number: int, name: str) -> dict[str, Any]:
    return {"id": number, "username": name, "avatarNsfw": 0}


@router.get("/api/v1/users")
def list_users(request: Request, db: Db) -> dict[str, Any]:
    """People who have published models, by `ids` or by the start of their name (`query`)."""
    query = Query(request)
    ids, prefix = query.integers("ids"), query.text("query")
    if len(ids) > MOST_PEOPLE:
        raise issue("ids", f"At most {MOST_PEOPLE}")
    if not ids and not prefix:
        return {"items": []}
    people = queries.list_people(db, ids=ids, prefix=prefix, limit=len(ids) or SOME_PEOPLE)
    return {"items": [_person(*person) for person in people]}


@router.get("/api/v1/users/{user_id}")
def get_user(db: Db, user_id: str) -> dict[str, Any]:
    """One of these people."""
    number = path_id(user_id)
    people = queries.list_people(db, ids=[number], limit=1)
    if not people:
        raise NotFound(f"No user with id {number}")
    return _person(*people[0])


@router.get("/api/v1/enums")
def list_words() -> dict[str, list[str]]:
    """The words that models, files and filters may use. Active are the bases that can run here."""
    active = {spec.base_model for spec in specs().values()}
    return {
        "ModelType": list(MODEL_TYPES),
        "ModelFileType": list(FILE_TYPES),
        "ActiveBaseModel": [name for name in base_model_names() if name in active],
        "BaseModel": base_model_names(),
        "BaseModelType": BASE_MODEL_TYPES,
    }


@router.get("/api/v1/permissions/check")
def check_permissions(request: Request, db: Db, viewer: CompatUser) -> dict[str, bool] | list[Any]:
    """Which of these versions (`entityIds`) can be generated with here: number → true or false."""
    query = Query(request)
    ids = query.integers("entityIds")
    if not ids:
        return []
    runs = queries.list_runnable(db, viewer, ids)
    return {str(number): number in runs for number in ids}
