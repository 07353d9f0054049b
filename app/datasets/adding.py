"""Adding what people send: decoded first, with no transaction open, then stored in short ones.

Pictures go in batches, clips one by one; each batch locks its set, so that two requests with the
same picture at the same moment store it once. Labels find their pictures whichever comes first.
"""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from app.accounts.models import User
from app.accounts.quotas import check_quota
from app.core.blobs import check_space, hash_file, put_blob
from app.core.config import get_settings
from app.core.db import unit_of_work
from app.core.errors import AppError, DiskFull, QuotaExceeded
from app.core.ids import new_id
from app.core.storage import Storage
from app.datasets.access import get_dataset
from app.datasets.archives import BadArchive
from app.datasets.decode import Decoded, Undecodable, get_decoder
from app.datasets.intake import Candidate, Intake, LabelText, Received, batches, collect, hash_source
from app.datasets.labels import normalise_label
from app.datasets.models import Dataset, DatasetItem, WaitingLabel

BATCH = 16
CLIP_BATCH = 1
"""Reading a clip takes seconds: each is stored as soon as it is ready."""
NEAR = 6
"""Bits in which the difference hashes of two pictures may differ that look alike."""
MAX_WAITING = 2000
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Duplicate:
    name: str
    duplicate_of: str


@dataclass(frozen=True)
class LabelOutcome:
    """A label file that came without its picture: `item` is the picture it went to, None while it waits."""

    name: str
    item: str | None
    detail: str


@dataclass
class Report:
    """What became of each file. `accepted` holds item ids."""

    accepted: list[str] = field(default_factory=list)
    rejected: list[dict[str, str]] = field(default_factory=list)
    duplicates: list[Duplicate] = field(default_factory=list)
    labels: list[LabelOutcome] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """Sentences about what came, not about one file."""


@dataclass(frozen=True)
class Ready:
    """A decoded picture that waits to be stored."""

    candidate: Candidate
    sha256: str
    decoded: Decoded
    blob_sha256: str


def add_files(
    storage: Storage, viewer: User, dataset_id: str, files: list[Received], progress: Progress | None = None
) -> Report:
    """Add pictures, labels and zips to one's own set. One bad file never fails the rest.

    Opens its own units of work. Errors: NotFound; QuotaExceeded and DiskFull as long as nothing was added:
    where the room ends later, the pictures that are left are refused one by one.
    """
    report = Report()
    size = sum(file.path.stat().st_size for file in files)
    check_space(storage, size)
    with unit_of_work() as db:
        media = get_dataset(db, viewer, dataset_id, edit=True).media
        check_quota(db, viewer, size)
    with collect(files, media) as intake:
        _add_pictures(storage, viewer, dataset_id, intake=intake, report=report, progress=progress)
        report.notes += intake.notes
        report.rejected += [vars(rejected) for rejected in intake.rejected]
        with unit_of_work() as db:
            _add_labels(db, get_dataset(db, viewer, dataset_id, edit=True, lock=True), intake, report)
    return report


def _add_pictures(
    storage: Storage, viewer: User, dataset_id: str, *, intake: Intake, report: Report,
    progress: Progress | None,
) -> None:  # fmt: skip
    done = 0
    for batch in batches(intake.candidates, CLIP_BATCH if intake.media == "video" else BATCH):
        try:
            _add_batch(storage, viewer, dataset_id, batch, intake=intake, report=report)
        except (DiskFull, QuotaExceeded) as error:
            if not report.accepted:
                raise
            _leave_out(intake, intake.candidates[done:], error)
            return
        done += len(batch)
        if progress:
            progress(done, len(intake.candidates))


def _leave_out(intake: Intake, candidates: list[Candidate], error: AppError) -> None:
    told = {rejected.name for rejected in intake.rejected}
    for candidate in candidates:
        if candidate.path not in told:
            intake.reject(candidate.path, error.code, f"was left out. {error.detail}")


def _check_room(
    db: Session, storage: Storage, viewer: User, ready: list["Ready | tuple[Candidate, str]"]
) -> None:
    """What pictures need once decoded: a zip holds more than its size, and a PNG is larger than a JPEG."""
    decoded = [one.decoded for one in ready if isinstance(one, Ready)]
    size = sum(path.stat().st_size for each in decoded for path, _ in each.files)
    check_space(storage, size)
    check_quota(db, viewer, size)


def _add_batch(
    storage: Storage, viewer: User, dataset_id: str, batch: list[Candidate], *, intake: Intake, report: Report
) -> None:
    with tempfile.TemporaryDirectory(prefix="bottega-pictures-") as folder:
        with unit_of_work() as db:
            known = set(
                db.scalars(select(DatasetItem.source_sha256).where(DatasetItem.dataset_id == dataset_id))
            )
        ready: list[Ready | tuple[Candidate, str]] = []
        for number, candidate in enumerate(batch):
            if found := _prepare(candidate, Path(folder) / str(number), known, intake):
                ready.append(found)
        with unit_of_work() as db:
            dataset = get_dataset(db, viewer, dataset_id, edit=True, lock=True)
            _check_room(db, storage, viewer, ready)
            _Store(db, storage, dataset, intake, report).add(ready)


def _prepare(
    candidate: Candidate, folder: Path, known: set[str], intake: Intake
) -> Ready | tuple[Candidate, str] | None:
    """Decode one picture; only (candidate, sha256) when the set has it already; None when it was refused."""
    folder.mkdir()
    try:
        source = candidate.unpack(folder / "source")
        sha256 = hash_source(source)
        if sha256 in known:
            return candidate, sha256
        decoded = get_decoder(intake.media).decode(source, folder)
    except (BadArchive, Undecodable) as error:
        intake.refuse(candidate, error.code, error.words)
        return None
    if candidate.packed:
        source.unlink()
    return Ready(candidate, sha256, decoded, hash_file(decoded.picture))


def is_near(a: int, b: int) -> bool:
    return ((a ^ b) & (1 << 64) - 1).bit_count() <= NEAR


class _Store:
    """One batch into one locked set."""

    def __init__(
        self, db: Session, storage: Storage, dataset: Dataset, intake: Intake, report: Report
    ) -> None:
        self.db, self.storage, self.dataset = db, storage, dataset
        self.intake, self.report = intake, report
        items = db.scalars(select(DatasetItem).where(DatasetItem.dataset_id == dataset.id)).all()
        self.count = len(items)
        self.hashes = [item.dhash for item in items]
        self.by_sha = {sha: item.id for item in items for sha in (item.source_sha256, item.blob_sha256)}
        self.position = max((item.position for item in items), default=-1) + 1

    def add(self, ready: list[Ready | tuple[Candidate, str]]) -> None:
        new: list[tuple[Ready, DatasetItem]] = []
        twins: list[tuple[Candidate, str]] = []
        for one in ready:
            candidate, shas = self._named(one)
            twin = next((self.by_sha[sha] for sha in shas if sha in self.by_sha), None)
            if twin:
                twins.append((candidate, twin))
            elif isinstance(one, Ready):
                if item := self._item(one):
                    new.append((one, item))
            else:
                self.intake.reject(candidate.path, "changed-meanwhile", "was deleted just now. Add it again.")
        self._put([pair[0] for pair in new])
        self.db.add_all(item for _, item in new)
        self.db.flush()
        for one, item in new:
            self._label(one.candidate, item)
        for candidate, twin in twins:
            self._duplicate(candidate, twin)
        if new:
            self.dataset.version += 1
        self.db.flush()

    @staticmethod
    def _named(one: "Ready | tuple[Candidate, str]") -> tuple[Candidate, tuple[str, ...]]:
        return (
            (one.candidate, (one.sha256, one.blob_sha256)) if isinstance(one, Ready) else (one[0], (one[1],))
        )

    def _duplicate(self, candidate: Candidate, twin: str) -> None:
        self.report.duplicates.append(Duplicate(candidate.path, twin))
        item = self.db.get(DatasetItem, twin)
        if item is not None and (text := self.intake.label_for(candidate)):
            apply_label(self.dataset, item, text)
            self._forget(candidate)

    def _item(self, one: Ready) -> DatasetItem | None:
        limit = get_settings().limits.dataset_items
        if self.count >= limit:
            words = f"was left out: a set holds at most {limit} files. Make a second set."
            self.intake.reject(one.candidate.path, "dataset-full", words)
            return None
        decoded = one.decoded
        near = any(is_near(decoded.dhash, other) for other in self.hashes)
        item = DatasetItem(
            id=new_id("it"), dataset_id=self.dataset.id, position=self.position, name=one.candidate.name,
            folder=one.candidate.folder, source_sha256=one.sha256, blob_sha256=one.blob_sha256,
            thumb_sha256=hash_file(decoded.thumb), width=decoded.width, height=decoded.height,
            strip_sha256=hash_file(decoded.strip) if decoded.strip else None, clip=self._facts(decoded),
            dhash=decoded.dhash,
            label="", label_source="user", warnings=decoded.warnings + (["near-duplicate"] if near else []),
        )  # fmt: skip
        self.hashes.append(decoded.dhash)
        self.by_sha |= {one.sha256: item.id, one.blob_sha256: item.id}
        self.count += 1
        self.position += 1
        self.report.accepted.append(item.id)
        return item

    def _facts(self, decoded: Decoded) -> dict[str, Any] | None:
        """Of a clip; a picture in a set of clips has one frame and no rate."""
        still = {"fps": None, "frames": 1, "duration": 0.0}
        return (decoded.clip or still) if self.dataset.media == "video" else None

    def _put(self, ready: list[Ready]) -> None:
        """In the order of their hashes: each put takes a lock, and no two requests may wait in a ring."""
        files = {hash_file(path): (path, kind) for one in ready for path, kind in one.decoded.files}
        for _, (path, media_type) in sorted(files.items()):
            put_blob(self.db, self.storage, path, media_type)

    def _label(self, candidate: Candidate, item: DatasetItem) -> None:
        text = self.intake.label_for(candidate) or take_waiting(self.db, candidate, item)
        if text:
            apply_label(self.dataset, item, text)
            self._forget(candidate)

    def _forget(self, candidate: Candidate) -> None:
        for key in candidate.keys:
            self.intake.label_names.pop(key, None)


def take_waiting(db: Session, candidate: Candidate, item: DatasetItem) -> LabelText | None:
    """The label that came before this picture, if one did; it waits no longer."""
    for folder, stem in candidate.keys:
        row = db.get(WaitingLabel, (item.dataset_id, folder, stem))
        if row is not None:
            db.delete(row)
            return LabelText(row.label, row.guessed)
    return None


def apply_label(dataset: Dataset, item: DatasetItem, text: LabelText) -> bool:
    """Give a picture the label of a file, unless a person has written one. True when it was taken."""
    if item.label and item.label_source == "user":
        return False
    item.label = normalise_label(text.text, dataset.label_type)
    item.label_source = "file"
    if text.guessed and "label-encoding" not in item.warnings:
        item.warnings = [*item.warnings, "label-encoding"]
    return True


def _add_labels(db: Session, dataset: Dataset, intake: Intake, report: Report) -> None:
    """Label files without their pictures: to pictures that are there, or kept until theirs come."""
    if not intake.label_names:
        return
    items: dict[tuple[str, str], DatasetItem] = {}
    for item in db.scalars(select(DatasetItem).where(DatasetItem.dataset_id == dataset.id)):
        folder, name = item.folder.casefold(), item.name.casefold()
        items |= {(folder, PurePosixPath(name).stem): item, (folder, name): item}
    waiting = db.scalar(select(func.count()).where(WaitingLabel.dataset_id == dataset.id)) or 0
    for key, name in intake.label_names.items():
        found = items.get(key)
        if found is not None:
            taken = apply_label(dataset, found, intake.labels[key])
            words = (
                "Its picture has this label now." if taken else "Its picture keeps the label that you wrote."
            )
            report.labels.append(LabelOutcome(name, found.id, words))
        elif waiting < MAX_WAITING:
            waiting += 1
            _wait(db, dataset, key, intake.labels[key])
            report.labels.append(LabelOutcome(name, None, "It waits for the picture of the same name."))
        else:
            words = f"{name} was left out: too many labels wait for their pictures. Add the pictures first."
            report.rejected.append({"name": name, "code": "too-many-labels", "detail": words})
    dataset.version += 1
    db.flush()


def _wait(db: Session, dataset: Dataset, key: tuple[str, str], text: LabelText) -> None:
    db.execute(
        delete(WaitingLabel).where(
            WaitingLabel.dataset_id == dataset.id, WaitingLabel.folder == key[0], WaitingLabel.stem == key[1]
        )
    )
    db.add(
        WaitingLabel(
            dataset_id=dataset.id, folder=key[0], stem=key[1],
            label=normalise_label(text.text, dataset.label_type), guessed=text.guessed,
        )
    )  # fmt: skip
