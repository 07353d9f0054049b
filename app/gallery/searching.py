"""A search of models: the best known of what fits are ranked by how well they fit, the others follow.

Ranking all would take seconds where words are in half of all models. What is found is found as in a list.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

from sqlalchemy import ColumnElement, String, bindparam, func, literal_column, select, union
from sqlalchemy.orm import Session

from app.accounts.models import User
from app.core.db import within
from app.core.paging import Page, encode_cursor
from app.core.prepared import AnyRow, Prepared
from app.gallery.listing import (
    POPULAR,
    RANKED,
    SECONDS,
    ModelFilters,
    Shape,
    by_downloads,
    estimate_of,
    filtered,
    is_name,
    numbers_of,
    of_that_name,
    page_of,
    shape_of,
    values_of,
    ways_of,
    words_asked,
)
from app.gallery.models import Model

FETCHED = 100
OFTEN = range(400, 12_000)
"""So many models with two words are looked for among those first that were fetched FETCHED times."""


def search_ids(
    db: Session, viewer: User | None, filters: ModelFilters, *, cursor: str | None = None, limit: int = 30
) -> Page[int]:
    """What fits `filters.query`: the RANKED most downloaded by how well they fit, then others by downloads.

    Those of that very name are ranked in any case. The cursor is how many came before, and that of a list
    among the others. Errors: Invalid for one that is neither, TookTooLong.
    """
    estimate, values = estimate_of(db, filters.query.strip()), values_of(viewer, filters)
    shape = shape_of(filters, viewer, estimate)
    if cursor and not re.fullmatch(r"\d{1,4}", cursor, re.ASCII):
        others = replace(shape, sort="downloads", behind=True, others=True)
        return page_of(db, others, values, cursor, limit)
    begin, end = int(cursor or 0), int(cursor or 0) + limit
    with within(db, SECONDS):
        rows, popular = _ranked(db, shape, values, estimate)
    following = str(end) if len(rows) > end else None
    if following is None and len(popular) == RANKED:
        following = encode_cursor(min(popular))
    return Page([row[0] for row in rows[begin:end]], following)


def _ranked(
    db: Session, shape: Shape, values: dict[str, Any], estimate: int
) -> tuple[Sequence[AnyRow], list[tuple[int, int]]]:
    """Rows of `_search`, and (downloads, number) of the most downloaded among them.

    Where many models have the words, they are looked for among those that were fetched often: if enough have
    them, nobody else can be among the most downloaded.
    """
    ways = [replace(shape, few=True, fetched=True), shape] if estimate in OFTEN else [shape]
    for way in ways:
        rows = _search(way).rows(db, **values)
        popular = [(downloads, number) for number, downloads, is_popular in rows if is_popular]
        if len(popular) == RANKED:
            break
    return rows, popular


@lru_cache(maxsize=512)
def _search(shape: Shape) -> Prepared:
    """The ranked ones, best first, each with its downloads and whether it is among the most downloaded."""
    models = filtered(select(Model.id), shape)
    often = Model.download_count >= literal_column(str(FETCHED))  # in the text, for the sake of its index
    models = models.where(often) if shape.fetched else models
    found = numbers_of(models, ways_of(shape), POPULAR, by_downloads(), RANKED)
    popular = select(Model.id).where(Model.id.in_(select(found))).order_by(*POPULAR).limit(RANKED).cte()
    numbers = union(select(popular.c.id), of_that_name(shape).subquery().select()).subquery()
    query = select(Model.id, Model.download_count, popular.c.id.is_not(None))
    ranked = query.join(numbers, numbers.c.id == Model.id).outerjoin(popular, popular.c.id == Model.id)
    return Prepared(ranked.order_by(*_rank(), *POPULAR))


def _rank() -> list[ColumnElement[Any]]:
    return [
        is_name().desc(),
        func.lower(Model.name).like(bindparam("beginning", type_=String)).desc(),
        func.ts_rank(Model.search, words_asked()).desc(),
    ]
