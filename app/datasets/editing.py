"""Changing labels: one picture's, or a tag in many, with what is needed to take the change back."""

from collections.abc import Sequence
from typing import cast

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from app.accounts.models import User
from app.core.conditional import require_match
from app.core.errors import FieldError, Invalid, NotFound
from app.core.ids import new_id
from app.datasets.access import get_dataset, get_item
from app.datasets.labels import MAX_LABEL, OPS, change_label, normalise_label, split_tags
from app.datasets.models import Dataset, DatasetItem, LabelUndo
from app.datasets.queries import dataset_etag, item_etag

UNDO_STEPS = 50


def set_label(
    db: Session, user: User, dataset_id: str, item_id: str, *, label: str, if_match: str | None = None
) -> tuple[Dataset, DatasetItem]:
    """Write one picture's label in its normal form. Errors: NotFound, PreconditionFailed, Invalid."""
    dataset, item = get_item(db, user, dataset_id, item_id, edit=True)
    require_match(if_match, dataset_etag(dataset), item_etag(item))
    if len(label) > MAX_LABEL:
        words = f"A label has at most {MAX_LABEL} characters; this one has {len(label)}."
        raise Invalid(words, [FieldError("#/label", words)])
    new = normalise_label(label, dataset.label_type)
    if new != item.label or item.label_source != "user":
        item.label, item.label_source = new, "user"
        dataset.version += 1
    db.flush()
    return dataset, item


def change_labels(
    db: Session,
    user: User,
    dataset_id: str,
    *,
    op: str,
    tag: str,
    to: str = "",
    items: Sequence[str] | None = None,
) -> tuple[int, str]:
    """(pictures changed, token that undoes it). Without `items` all pictures of the set.

    Errors: Invalid for a wrong op, an empty tag or a `to` out of place; NotFound for foreign pictures.
    """
    _check(op, tag, to)
    dataset = get_dataset(db, user, dataset_id, edit=True, lock=True)
    rows = _chosen(db, dataset, items)
    before: dict[str, object] = {}
    for item in rows:
        new = change_label(item.label, op, tag, to, label_type=dataset.label_type)
        if new != item.label:
            before[item.id] = [item.label, item.label_source, new]
            item.label, item.label_source = new, "user"
    undo = LabelUndo(id=new_id("undo"), dataset_id=dataset.id, before=before)
    db.add(undo)
    if before:
        dataset.version += 1
    db.flush()
    _forget_old(db, dataset)
    return len(before), undo.id


def _check(op: str, tag: str, to: str) -> None:
    errors = []
    if op not in OPS:
        errors.append(FieldError("#/op", f"one of {', '.join(OPS)}"))
    if not split_tags(tag) and op != "set":
        errors.append(FieldError("#/tag", "name a tag"))
    if op == "rename" and not split_tags(to):
        errors.append(FieldError("#/to", "name the new tag"))
    if op != "rename" and to:
        errors.append(FieldError("#/to", "only for rename"))
    errors += [FieldError(f"#/{n}", "too long") for n, v in (("tag", tag), ("to", to)) if len(v) > MAX_LABEL]
    if errors:
        raise Invalid("; ".join(f"{e.pointer[2:]}: {e.detail}" for e in errors) + ".", errors)


def _chosen(db: Session, dataset: Dataset, items: Sequence[str] | None) -> list[DatasetItem]:
    query = select(DatasetItem).where(DatasetItem.dataset_id == dataset.id).order_by(DatasetItem.position)
    if items is not None:
        query = query.where(DatasetItem.id.in_(items))
    rows = list(db.scalars(query.execution_options(populate_existing=True)))
    if items is not None and len(rows) != len(set(items)):
        raise NotFound("Some of these pictures are no longer in the set. Load it again.")
    return rows


def _forget_old(db: Session, dataset: Dataset) -> None:
    kept = (
        select(LabelUndo.id)
        .where(LabelUndo.dataset_id == dataset.id)
        .order_by(LabelUndo.id.desc())
        .limit(UNDO_STEPS)
    )
    db.execute(
        delete(LabelUndo)
        .where(LabelUndo.dataset_id == dataset.id, LabelUndo.id.not_in(kept))
        .execution_options(synchronize_session=False)
    )


def undo_labels(db: Session, user: User, dataset_id: str, *, undo: str) -> int:
    """Give pictures the labels that they had before one change_labels; answers how many.

    What somebody has written into a label since then stays. Errors: NotFound.
    """
    dataset = get_dataset(db, user, dataset_id, edit=True, lock=True)
    step = db.get(LabelUndo, undo)
    if step is None or step.dataset_id != dataset.id:
        raise NotFound("This change can no longer be undone.")
    rows = db.scalars(
        select(DatasetItem)
        .where(DatasetItem.dataset_id == dataset.id, DatasetItem.id.in_(list(step.before)))
        .execution_options(populate_existing=True)
    )
    before = cast("dict[str, list[str]]", step.before)
    count = 0
    for item in rows:
        label, source, *changed_to = before[item.id]
        if changed_to in ([], [item.label]):
            item.label, item.label_source = label, source
            count += 1
    db.delete(step)
    if count:
        dataset.version += 1
    db.flush()
    return count
