"""Rows as REST and pages show them. A picture's address never changes, so browsers keep it for ever."""

from app.datasets.adding import Report
from app.datasets.models import Dataset, DatasetItem
from app.datasets.queries import Facts, item_etag
from app.datasets.schemas import (
    AddedOut,
    Counts,
    DatasetOut,
    DuplicateOut,
    ItemOut,
    LabelOut,
    RejectedOut,
    Tag,
)


def dataset_out(dataset: Dataset, facts: Facts) -> DatasetOut:
    return DatasetOut(
        id=dataset.id, name=dataset.name, media=dataset.media, label_type=dataset.label_type,
        counts=Counts(items=facts.items, labelled=facts.labelled), size_bytes=facts.size_bytes,
        created_at=dataset.created_at, tags=[Tag(tag=tag, count=count) for tag, count in facts.tags],
    )  # fmt: skip


def item_out(item: DatasetItem) -> ItemOut:
    address = f"/api/v1/datasets/{item.dataset_id}/items/{item.id}"
    return ItemOut(
        id=item.id, name=item.name, folder=item.folder, sha256=item.source_sha256, width=item.width,
        height=item.height, label=item.label, label_source=item.label_source, warnings=item.warnings,
        url=f"{address}/file", thumb_url=f"{address}/thumb", etag=item_etag(item),
    )  # fmt: skip


def added_out(report: Report, items: list[DatasetItem]) -> AddedOut:
    return AddedOut(
        accepted=[item_out(item) for item in items],
        rejected=[RejectedOut(**rejected) for rejected in report.rejected],
        duplicates=[DuplicateOut(name=d.name, duplicate_of=d.duplicate_of) for d in report.duplicates],
        labels=[LabelOut(name=o.name, item=o.item, detail=o.detail) for o in report.labels],
        notes=report.notes,
    )
