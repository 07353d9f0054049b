"""Resumable uploads, shaped like S3's multipart: parts in any order, each as often as needed, then complete.

Parts lie in storage under `uploads/<id>/<n>`, so any web process may take the next one. Completing
streams them once, through all hashes, into one object that becomes a blob.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import timedelta
from math import ceil
from pathlib import Path
from typing import Any

from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.accounts.models import User
from app.accounts.quotas import check_quota
from app.contract.jobs import FilesJob
from app.contract.states import TERMINAL, JobState
from app.core.blobs import adopt_object, blob_key, check_space, put_blob, release_blobs
from app.core.db import after_commit, unit_of_work, utcnow
from app.core.errors import Conflict, FieldError, Invalid, NotFound, Unauthorized
from app.core.hashing import FileHasher
from app.core.ids import new_id
from app.core.storage import Storage, get_storage
from app.jobs.models import Job
from app.jobs.reaper import every_sweep, every_tick
from app.jobs.service import change_state, enqueue
from app.recognition.foreign import PICKLE
from app.uploads.identify import identify, is_pickle_name, refuse_start
from app.uploads.models import Upload, UploadPart

PART_SIZE = 16 << 20
LARGE_PART_SIZE = 64 << 20
USUAL_PARTS = 100
"""Larger files have larger parts, up to LARGE_PART_SIZE: so many requests are enough."""
MAX_PARTS = 10_000
MAX_SIZE = 1 << 43
MAX_PART_SIZE = ceil(MAX_SIZE / MAX_PARTS)
LIFETIME = timedelta(days=7)
AT_ONCE_BYTES = 64 << 20
"""Up to this size an upload is put together before the answer; larger ones by a worker."""
OPEN = ("open", "completing")


def can_use_upload(viewer: User | None, upload: Upload) -> bool:
    return viewer is not None and viewer.id == upload.user_id


def get_upload(db: Session, viewer: User | None, upload_id: str, *, lock: str = "") -> Upload:
    """One's own upload; `lock` is `share` for writers of parts, `update` for who changes its state.

    Errors: Unauthorized, NotFound.
    """
    if viewer is None:
        raise Unauthorized("Log in to upload.")
    query = select(Upload).where(Upload.id == upload_id).execution_options(populate_existing=bool(lock))
    if lock:
        query = query.with_for_update(read=lock == "share")
    upload = db.scalar(query)
    if upload is None or not can_use_upload(viewer, upload):
        raise NotFound("There is no such upload, or it is not yours. Start a new one.")
    return upload


def create_upload(
    db: Session, storage: Storage, user: User, *, name: str, size: int, sha256: str | None = None
) -> Upload:
    """Open a session for a file of `size` bytes, with its room. Errors: Invalid, QuotaExceeded, DiskFull."""
    name = name.replace("\\", "/").rsplit("/", 1)[-1].strip()[-255:]
    errors = [] if name and name.isprintable() else [FieldError("#/name", "name the file")]
    if size < 1:
        errors.append(FieldError("#/size", "an empty file cannot be uploaded"))
    if sha256 is not None and not _is_sha256(sha256):
        errors.append(FieldError("#/sha256", "64 hex digits"))
    if is_pickle_name(name):
        raise Invalid(PICKLE, [FieldError("#/name", PICKLE, "pickle")], code="pickle")
    if errors:
        raise Invalid("; ".join(f"{e.pointer[2:]}: {e.detail}" for e in errors) + ".", errors)
    check_quota(db, user, size + reserved_bytes(db, user))
    # Twice, because parts and whole lie side by side while they are put together.
    check_space(storage, 2 * size)
    upload = Upload(
        id=new_id("up"), user_id=user.id, name=name, size=size,
        part_size=part_size_for(size),
        declared_sha256=sha256.lower() if sha256 else None, state="open", expires_at=utcnow() + LIFETIME,
    )  # fmt: skip
    db.add(upload)
    db.flush()
    return upload


def part_size_for(size: int) -> int:
    """Bytes of a part of a file of `size` bytes."""
    usual = min(LARGE_PART_SIZE, ceil(size / USUAL_PARTS))
    return max(PART_SIZE, usual, ceil(size / MAX_PARTS))


def _is_sha256(text: str) -> bool:
    return len(text) == 64 and all(c in "0123456789abcdefABCDEF" for c in text)


def reserved_bytes(db: Session, user: User) -> int:
    """Bytes of sessions that are not complete; complete ones count as stored files."""
    total = select(func.coalesce(func.sum(Upload.size), 0)).where(
        Upload.user_id == user.id, Upload.state.in_(OPEN)
    )
    return int(db.scalar(total) or 0)


def part_count(upload: Upload) -> int:
    return ceil(upload.size / upload.part_size)


def part_bytes(upload: Upload, number: int) -> int:
    """Exact length of part `number`, from 1; only the last one is shorter. Errors: NotFound."""
    parts = part_count(upload)
    if not 1 <= number <= parts:
        raise NotFound(f"This upload has the parts 1 to {parts}.")
    return upload.size - (parts - 1) * upload.part_size if number == parts else upload.part_size


def missing_parts(db: Session, upload: Upload) -> list[int]:
    return _missing(upload, _have(db, [upload])[upload.id])


def _missing(upload: Upload, have: set[int]) -> list[int]:
    numbers = range(1, part_count(upload) + 1) if upload.state == "open" else ()
    return [number for number in numbers if number not in have]


def _have(db: Session, uploads: Sequence[Upload]) -> dict[str, set[int]]:
    """Numbers of the parts that have come, by upload."""
    ids = [upload.id for upload in uploads]
    rows = db.execute(select(UploadPart.upload_id, UploadPart.number).where(UploadPart.upload_id.in_(ids)))
    found: dict[str, set[int]] = defaultdict(set)
    for upload_id, number in rows:
        found[upload_id].add(number)
    return found


def arrived_bytes(upload: Upload, missing: Sequence[int]) -> int:
    """How much of the file is there, when the parts with these numbers are not."""
    return upload.size - sum(part_bytes(upload, number) for number in missing)


def list_uploads(
    db: Session, user: User, *, endings: tuple[str, ...] = ("",), limit: int = 100
) -> list[tuple[Upload, list[int]]]:
    """One's own sessions whose names end so, newest first, each with the numbers of its missing parts."""
    query = select(Upload).where(Upload.user_id == user.id).order_by(Upload.id.desc()).limit(limit)
    uploads = [upload for upload in db.scalars(query) if upload.name.lower().endswith(endings)]
    have = _have(db, uploads)
    return [(upload, _missing(upload, have[upload.id])) for upload in uploads]


def part_key(upload_id: str, number: int) -> str:
    return f"uploads/{upload_id}/{number}"


def put_part(db: Session, storage: Storage, user: User, upload_id: str, number: int, *, path: Path) -> None:
    """Keep one part, taking the file at `path` away; sent again it replaces the first.

    Errors: NotFound, Conflict, DiskFull; Invalid for its length, and for a first part of what is no model.
    """
    upload = get_upload(db, user, upload_id, lock="share")
    if upload.state != "open":
        raise Conflict(
            "This upload is complete already; no part of it can be changed.", code="upload-complete"
        )
    expected, size = part_bytes(upload, number), path.stat().st_size
    if size != expected:
        words = f"Part {number} must have {expected} bytes, and {size} came. Send it again."
        raise Invalid(words, [FieldError("#/body", words)], code="part-size")
    if number == 1:
        refuse_start(upload.name, path, upload.size)
    check_space(storage, size)
    storage.take(part_key(upload_id, number), path)
    row = insert(UploadPart).values(upload_id=upload_id, number=number, size=size)
    db.execute(row.on_conflict_do_update(index_elements=["upload_id", "number"], set_={"size": size}))


def complete_upload(db: Session, storage: Storage, user: User, upload_id: str) -> Job:
    """All parts are there: put them together, at once or by the job that is answered. Safe to call again.

    Errors: Conflict that names the missing parts; Invalid when the announced SHA256 is another.
    """
    upload = get_upload(db, user, upload_id, lock="update")
    job = db.get(Job, upload.job_id) if upload.job_id else None
    if upload.state in ("completing", "complete") and job is not None and not _has_ended_badly(job):
        return job
    if upload.state not in ("open", "completing"):
        raise Conflict("This upload has failed. Start a new one.", code="upload-failed")
    if missing := missing_parts(db, upload):
        words = f"{len(missing)} of {part_count(upload)} parts are missing. Send them, then complete again."
        raise Conflict(words, code="parts-missing", missing=missing)
    upload.state = "completing"
    payload = FilesJob(task="finalize_upload", upload=upload.id)
    job = enqueue(
        db, user, type="files", queue="files", title=f"Check {upload.name}", input={"upload": upload.id},
        payload=payload.model_dump(mode="json"),
    )  # fmt: skip
    upload.job_id = job.id
    db.flush()
    if upload.size <= AT_ONCE_BYTES:
        for state in (JobState.STARTING, JobState.RUNNING):
            change_state(db, job, state)
        job.output = _finalize(db, storage, upload)
        change_state(db, job, JobState.SUCCEEDED)
    return job


def _has_ended_badly(job: Job) -> bool:
    """Cancelled, or its workers were lost too often: the parts are still there to be checked again."""
    return JobState(job.status) in TERMINAL and job.status != JobState.SUCCEEDED.value


def finalize_upload(db: Session, storage: Storage, upload_id: str | None) -> dict[str, Any]:
    """The worker's side of complete_upload; answers its output. Safe to run again after a crash.

    Errors: NotFound when it was aborted meanwhile; Invalid for another SHA256: then the upload has failed.
    """
    upload = db.get(Upload, upload_id) if upload_id else None
    if upload is None:
        raise _aborted()
    if upload.state == "complete":
        return _output(storage, upload)
    try:
        return _finalize(db, storage, upload)
    except Invalid:
        with unit_of_work() as own:  # the caller's transaction is about to be rolled back
            if failed := own.get(Upload, upload_id):
                failed.state = "failed"
                _drop_objects(own, storage, failed.id)
        raise


def _aborted() -> NotFound:
    return NotFound("This upload was aborted meanwhile.")


def _finalize(db: Session, storage: Storage, upload: Upload) -> dict[str, Any]:
    hasher = FileHasher()
    whole = f"uploads/{upload.id}/whole"
    storage.put(whole, hasher.passing(_parts(storage, upload)))
    hashes = hasher.hashes()
    sha256 = hashes["SHA256"].lower()
    # Whoever aborts from now on waits; one who did so while the parts were read has left a whole behind.
    lock = select(Upload.id).where(Upload.id == upload.id).with_for_update()
    if db.scalar(lock) is None:
        _delete_objects(storage, upload.id)
        raise _aborted()
    if hasher.size != upload.size or (upload.declared_sha256 or sha256) != sha256:
        words = "What arrived is not the file that was announced: its SHA256 differs. Upload it again."
        raise Invalid(words, code="digest-mismatch")
    adopt_object(db, storage, whole, sha256, upload.size, "application/octet-stream")
    upload.blob_sha256, upload.hashes, upload.state = sha256, dict(hashes), "complete"
    db.execute(delete(UploadPart).where(UploadPart.upload_id == upload.id))
    db.flush()
    _drop_objects(db, storage, upload.id)
    return _output(storage, upload)


def _parts(storage: Storage, upload: Upload) -> Iterator[bytes]:
    for number in range(1, part_count(upload) + 1):
        yield from storage.stream(part_key(upload.id, number))


def _output(storage: Storage, upload: Upload) -> dict[str, Any]:
    told = identify(storage, blob_key(upload.blob_sha256 or ""), size=upload.size, name=upload.name)
    facts = {"sha256": upload.blob_sha256, "size": upload.size, "hashes": upload.hashes}
    return {"upload": upload.id, **facts, **told}


def _drop_objects(db: Session, storage: Storage, upload_id: str) -> None:
    after_commit(db, lambda: _delete_objects(storage, upload_id))


def _delete_objects(storage: Storage, upload_id: str) -> None:
    storage.delete([key for key, _ in storage.list(f"uploads/{upload_id}")])


def create_complete(db: Session, storage: Storage, user: User, *, name: str, path: Path) -> Upload:
    """A session for a file that came whole, so that a job can use it. Errors: QuotaExceeded, DiskFull."""
    upload = create_upload(db, storage, user, name=name, size=path.stat().st_size)
    upload.blob_sha256 = put_blob(db, storage, path).sha256
    upload.state = "complete"
    db.flush()
    return upload


def get_complete(db: Session, user: User, upload_id: str) -> Upload:
    """An upload whose file may be used, with `blob_sha256` and `hashes`. Errors: NotFound, Conflict."""
    upload = get_upload(db, user, upload_id)
    if upload.state == "complete":
        return upload
    words = {
        "open": "This upload is not complete yet. Send the missing parts, then complete it.",
        "completing": "This upload is still being checked. Try again in a moment.",
    }.get(upload.state, "This upload has failed. Start a new one.")
    raise Conflict(words, code="upload-incomplete")


def copy_upload(db: Session, user: User, upload_id: str) -> Upload:
    """Another session of a complete one's bytes, for a job that ends the one it is given.

    Errors: NotFound, Conflict.
    """
    whole = get_complete(db, user, upload_id)
    kept = "user_id name size part_size state blob_sha256 hashes".split()
    values = {name: getattr(whole, name) for name in kept}
    copy = Upload(id=new_id("up"), expires_at=utcnow() + LIFETIME, **values)
    db.add(copy)
    db.flush()
    return copy


def renew_upload(db: Session, user: User, upload_id: str) -> Upload:
    """Keep a complete session for another LIFETIME. Errors: NotFound, Conflict."""
    upload = get_complete(db, user, upload_id)
    upload.expires_at = utcnow() + LIFETIME
    db.flush()
    return upload


def delete_upload(db: Session, storage: Storage, user: User, upload_id: str) -> None:
    """Abort a session, or end one whose file was used; what nothing else names is freed. Errors: NotFound."""
    _remove(db, storage, get_upload(db, user, upload_id, lock="update"))


def _remove(db: Session, storage: Storage, upload: Upload) -> None:
    db.delete(upload)
    release_blobs(db, [upload.blob_sha256], storage)
    _drop_objects(db, storage, upload.id)


def expire_uploads(db: Session, storage: Storage, *, limit: int = 50) -> int:
    """Remove sessions whose time is up; for a clean-up that runs now and then. Answers how many."""
    rows = db.scalars(
        select(Upload).where(Upload.expires_at < func.now()).limit(limit).with_for_update(skip_locked=True)
    ).all()
    for upload in rows:
        _remove(db, storage, upload)
    return len(rows)


def sweep_uploads(db: Session, storage: Storage) -> int:
    """Remove what a killed worker left of sessions that are no more; gives how many files.

    A session's row is committed before anything of it is stored, so what has no row has no future.
    """
    keys = [(key, key.split("/")[1]) for key, _ in storage.list("uploads")]
    live = set(db.scalars(select(Upload.id).where(Upload.id.in_({upload_id for _, upload_id in keys}))))
    dead = [key for key, upload_id in keys if upload_id not in live]
    storage.delete(dead)
    return len(dead)


def _expire(db: Session) -> int:
    return expire_uploads(db, get_storage())


def _sweep(db: Session) -> int:
    return sweep_uploads(db, get_storage())


every_tick(_expire)
every_sweep(_sweep)
