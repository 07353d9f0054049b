"""Who may do what with a set of pictures, and the rows themselves. Other people's sets do not exist."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.accounts.models import User
from app.core.errors import NotFound, Unauthorized
from app.datasets.models import Dataset, DatasetItem


def can_see_dataset(viewer: User | None, dataset: Dataset) -> bool:
    """The owner; an admin too, because reports and take-downs need it."""
    return viewer is not None and (viewer.id == dataset.user_id or viewer.is_admin)


def can_edit_dataset(viewer: User | None, dataset: Dataset) -> bool:
    return viewer is not None and viewer.id == dataset.user_id


def get_dataset(
    db: Session, viewer: User | None, dataset_id: str, *, edit: bool = False, lock: bool = False
) -> Dataset:
    """One set; `edit` needs its owner, `lock` keeps others from changing it meanwhile.

    Errors: Unauthorized without a viewer, NotFound also for what is not the viewer's.
    """
    if viewer is None:
        raise Unauthorized("Log in to see your data sets.")
    query = select(Dataset).where(Dataset.id == dataset_id).execution_options(populate_existing=lock)
    dataset = db.scalar(query.with_for_update() if lock else query)
    allowed = can_edit_dataset if edit else can_see_dataset
    if dataset is None or not allowed(viewer, dataset):
        raise NotFound("There is no such data set, or it is not yours.")
    return dataset


def get_item(
    db: Session, viewer: User | None, dataset_id: str, item_id: str, *, edit: bool = False
) -> tuple[Dataset, DatasetItem]:
    """A picture and its set; with `edit` the set is locked. Errors as get_dataset."""
    dataset = get_dataset(db, viewer, dataset_id, edit=edit, lock=edit)
    item = db.get(DatasetItem, item_id, populate_existing=edit)
    if item is None or item.dataset_id != dataset.id:
        raise NotFound("This picture is no longer in the set.")
    return dataset, item
