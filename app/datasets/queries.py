"""Reads that answer a page in a few statements: counts, tags, filters, entity tags."""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, func, literal, select
from sqlalchemy.orm import Session

from app.core.blobs import Blob
from app.datasets.models import Dataset, DatasetItem

TagCount = tuple[str, int]
TAGS_IN_LISTS = 50


@dataclass(frozen=True)
class Facts:
    """Figures of one set: files, labelled ones, bytes with thumbnails and strips, tags by how often."""

    items: int = 0
    labelled: int = 0
    size_bytes: int = 0
    tags: tuple[TagCount, ...] = ()


def dataset_etag(dataset: Dataset) -> str:
    return f'"{dataset.version}"'


def item_etag(item: DatasetItem) -> str:
    """Of the label alone: the picture never changes."""
    return f'"{hashlib.sha256(f"{item.label_source}:{item.label}".encode()).hexdigest()[:16]}"'


def facts(db: Session, datasets: Sequence[Dataset], *, tags: int | None = None) -> dict[str, Facts]:
    """Facts by data set id, in two statements; `tags` limits how many of the most frequent are named."""
    ids = [dataset.id for dataset in datasets]
    if not ids:
        return {}
    picture, thumb = select(Blob).subquery("picture"), select(Blob).subquery("thumb")
    strip = select(Blob).subquery("strip")
    counts = db.execute(
        select(
            DatasetItem.dataset_id,
            func.count(),
            func.count().filter(DatasetItem.label != ""),
            func.sum(picture.c.size + thumb.c.size + func.coalesce(strip.c.size, 0)),
        )
        .join(picture, picture.c.sha256 == DatasetItem.blob_sha256)
        .join(thumb, thumb.c.sha256 == DatasetItem.thumb_sha256)
        .outerjoin(strip, strip.c.sha256 == DatasetItem.strip_sha256)
        .where(DatasetItem.dataset_id.in_(ids))
        .group_by(DatasetItem.dataset_id)
    )
    named = _tags(db, [d.id for d in datasets if d.label_type == "tag"], tags)
    found = {
        key: Facts(items, labelled, int(size), tuple(named[key])) for key, items, labelled, size in counts
    }
    return {key: found.get(key, Facts()) for key in ids}


def _tags(db: Session, ids: Sequence[str], limit: int | None) -> dict[str, list[TagCount]]:
    named: dict[str, list[TagCount]] = defaultdict(list)
    if not ids:
        return named
    each = (
        select(
            DatasetItem.dataset_id, func.unnest(func.string_to_array(DatasetItem.label, ", ")).label("tag")
        )
        .where(DatasetItem.dataset_id.in_(ids))
        .subquery()
    )
    counted = (
        select(each.c.dataset_id, each.c.tag, func.count().label("count"))
        .group_by(each.c.dataset_id, each.c.tag)
        .subquery()
    )
    place = func.row_number().over(
        partition_by=counted.c.dataset_id, order_by=(counted.c["count"].desc(), counted.c.tag)
    )
    ranked = select(counted, place.label("place")).subquery()
    query = select(ranked.c.dataset_id, ranked.c.tag, ranked.c["count"]).order_by(ranked.c.place)
    for dataset_id, name, count in db.execute(query.where(ranked.c.place <= limit) if limit else query):
        named[dataset_id].append((name, count))
    return named


def filter_items(
    query: Select[Any], *, tag: str | None, unlabelled: bool | None, warning: str | None
) -> Select[Any]:
    """Narrow a select of pictures: with this tag, without (or with) a label, with this warning."""
    if tag:
        query = query.where(literal(tag) == func.any(func.string_to_array(DatasetItem.label, ", ")))
    if unlabelled is not None:
        query = query.where(DatasetItem.label == "" if unlabelled else DatasetItem.label != "")
    if warning:
        query = query.where(DatasetItem.warnings.contains([warning]))
    return query


def covers(db: Session, ids: Sequence[str], each: int) -> dict[str, list[str]]:
    """The first few picture ids of several sets, in one statement."""
    place = func.row_number().over(partition_by=DatasetItem.dataset_id, order_by=DatasetItem.position)
    ranked = select(DatasetItem.dataset_id, DatasetItem.id, place.label("place")).where(
        DatasetItem.dataset_id.in_(ids)
    )
    rows = ranked.subquery()
    found: dict[str, list[str]] = {key: [] for key in ids}
    for dataset_id, item_id in db.execute(
        select(rows.c.dataset_id, rows.c.id).where(rows.c.place <= each).order_by(rows.c.place)
    ):
        found[dataset_id].append(item_id)
    return found
