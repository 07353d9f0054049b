"""Keyset pages: an opaque cursor holds the sort key of the last row, so deep pages cost the same."""

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar

from sqlalchemy import BindParameter, ColumnElement, Select, SQLColumnExpression, bindparam, tuple_
from sqlalchemy.orm import Session

from app.core.errors import AppError, FieldError, Invalid
from app.core.prepared import AnyRow

T = TypeVar("T")


@dataclass(frozen=True)
class Page(Generic[T]):
    items: list[T]
    next_cursor: str | None


def encode_cursor(key: Sequence[Any]) -> str:
    raw = json.dumps([str(part) for part in key], separators=(",", ":"))
    return base64.urlsafe_b64encode(raw.encode()).decode().rstrip("=")


def decode_cursor(cursor: str, width: int) -> list[str]:
    """The sort key of a cursor. Errors: Invalid when it is not one of ours."""
    try:
        key = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        if isinstance(key, list) and len(key) == width and all(isinstance(p, str) for p in key):
            return key
    except (ValueError, UnicodeDecodeError):
        pass
    raise Invalid(
        "The cursor is not valid. Start again without it.", [FieldError("#/cursor", "not a cursor")]
    )


def after(keys: Sequence[SQLColumnExpression[Any]], *, ascending: bool = False) -> ColumnElement[bool]:
    """For a statement that is compiled once: rows behind the cursor whose `edge_values` are given to it."""
    edge = tuple_(*(_parameter(f"edge_{n}", key) for n, key in enumerate(keys)))
    return tuple_(*keys) > edge if ascending else tuple_(*keys) < edge


def _parameter(name: str, key: Any) -> BindParameter[Any]:
    return bindparam(name, type_=key.type)


def edge_values(keys: Sequence[SQLColumnExpression[Any]], cursor: str | None) -> dict[str, Any]:
    """What `after` needs of a cursor; nothing without one. Errors: Invalid."""
    if not cursor:
        return {}
    parts = decode_cursor(cursor, len(keys))
    try:
        return {f"edge_{n}": _typed(key, part) for n, (key, part) in enumerate(zip(keys, parts, strict=True))}
    except ValueError as error:
        raise Invalid("The cursor is not valid. Start again without it.") from error


def page_of_rows(rows: Sequence[AnyRow], limit: int, width: int) -> Page[AnyRow]:
    """A page of `limit` out of up to one more; the last `width` columns are the sort key."""
    kept = list(rows[:limit])
    return Page(kept, encode_cursor(kept[-1][-width:]) if len(rows) > limit else None)


def keyset_page(
    db: Session,
    query: Select[Any],
    keys: Sequence[SQLColumnExpression[Any]],
    *,
    cursor: str | None,
    limit: int,
    ascending: bool = False,
) -> Page[Any]:
    """One page of ORM rows, ordered by `keys` (descending unless `ascending`); the last key is unique."""
    if cursor:
        query = query.where(after(keys, ascending=ascending)).params(edge_values(keys, cursor))
    order = [k.asc() if ascending else k.desc() for k in keys]
    rows = list(db.scalars(query.order_by(*order).limit(limit + 1)).unique())
    more = len(rows) > limit
    rows = rows[:limit]
    next_cursor = encode_cursor([_value(rows[-1], k) for k in keys]) if more and rows else None
    return Page(rows, next_cursor)


def _typed(column: Any, part: str) -> Any:
    kind = column.type.python_type
    return datetime.fromisoformat(part) if kind is datetime else kind(part)


def _value(row: Any, column: SQLColumnExpression[Any]) -> Any:
    name = getattr(column, "key", None)
    if name is None:
        raise AppError("This list cannot be paged by that order.")
    return getattr(row, name)
