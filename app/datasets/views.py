"""Rows as REST and pages show them. A file's address never changes, so browsers keep it for ever."""

from typing import Any

from app.contract.clips import resampled_length, unused, windows
from app.datasets.adding import Report
from app.datasets.media import clip_families
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
    WindowOut,
    WindowQuery,
    WindowsOut,
)
from worker.families import catalog


def dataset_out(dataset: Dataset, facts: Facts) -> DatasetOut:
    return DatasetOut(
        id=dataset.id, name=dataset.name, media=dataset.media, label_type=dataset.label_type,
        counts=Counts(items=facts.items, labelled=facts.labelled), size_bytes=facts.size_bytes,
        created_at=dataset.created_at, tags=[Tag(tag=tag, count=count) for tag, count in facts.tags],
    )  # fmt: skip


def item_out(item: DatasetItem) -> ItemOut:
    address = f"/api/v1/datasets/{item.dataset_id}/items/{item.id}"
    clip = item.clip or {}
    return ItemOut(
        id=item.id, name=item.name, folder=item.folder, sha256=item.source_sha256, width=item.width,
        height=item.height, label=item.label, label_source=item.label_source, warnings=item.warnings,
        media="video" if item.strip_sha256 else "image", duration=clip.get("duration") or None,
        fps=clip.get("fps"), frames=clip.get("frames", 1),
        url=f"{address}/file", thumb_url=f"{address}/thumb",
        strip_url=f"{address}/strip" if item.strip_sha256 else None, etag=item_etag(item),
    )  # fmt: skip


def windows_out(item: DatasetItem, query: WindowQuery) -> WindowsOut:
    """What a training would cut of this clip."""
    clip, facts = item.clip or {}, clip_families()[query.family]
    rule = facts.rule
    total = resampled_length(clip.get("frames", 1), clip.get("fps"), rule)
    cut = windows(
        total, rule, mode=query.mode, length=query.length, stride=query.stride, count=query.count,
        longest=facts.max_window,
    )  # fmt: skip
    shown = [
        WindowOut(
            start=w.start, length=w.length, start_seconds=w.start / rule.fps, end_seconds=w.end / rule.fps
        )
        for w in cut
    ]
    return WindowsOut(fps=rule.fps, frames=total, windows=shown, unused=unused(total, cut))


def clip_families_out() -> list[dict[str, Any]]:
    """Families that train on clips, for the editor: rate and lengths in frames."""
    titles = {name: spec.title for name, spec in catalog.specs().items()}
    return [
        {"name": name, "title": titles[name], "fps": facts.rule.fps, "step": facts.rule.step,
         "window": facts.window, "longest": facts.max_window}
        for name, facts in clip_families().items()
    ]  # fmt: skip


def added_out(report: Report, items: list[DatasetItem]) -> AddedOut:
    return AddedOut(
        accepted=[item_out(item) for item in items],
        rejected=[RejectedOut(**rejected) for rejected in report.rejected],
        duplicates=[DuplicateOut(name=d.name, duplicate_of=d.duplicate_of) for d in report.duplicates],
        labels=[LabelOut(name=o.name, item=o.item, detail=o.detail) for o in report.labels],
        notes=report.notes,
    )
