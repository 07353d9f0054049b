"""Stored files as local paths: `<home>/cache/models`, bounded in size, least recently used out.

A local storage costs no copy: its files are linked into the cache. A zipped Diffusers folder
is unpacked once. Everything appears under its name only when complete and of the right hash, so
several processes may fetch the same file at the same time.
"""

import contextlib
import fcntl
import hashlib
import logging
import os
import shutil
import time
import uuid
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from app.contract.jobs import BlobRef, GenerateJob, TrainJob
from app.core.blobs import blob_key
from app.core.errors import is_disk_full
from app.core.storage import Storage

log = logging.getLogger("bottega.cache")
DEFAULT_BYTES = 60 << 30
ZIP_MEMBERS = 2000
ZIP_RATIO, ZIP_FREE = 4, 256 << 20
"""Weights hardly shrink: what unpacks to more than so many times its size, beyond some bytes, is a bomb."""
SPARE_BYTES = 64 << 20
SWEEP_SECONDS = 600.0
UNUSED_SECONDS = 900.0
"""What was taken so lately may be about to be opened."""
DISK_FULL = "The disk of the machine that works on this is full. Free some space, then try again."


class CacheError(Exception):
    """A file that a job needs cannot be had. `code` and the words go to the user."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code, self.detail = code, detail


class ModelsCache:
    """Local files of one storage. Errors of all verbs: CacheError."""

    def __init__(self, storage: Storage, folder: Path, limit: int = DEFAULT_BYTES) -> None:
        self._storage, self._folder, self._limit = storage, folder, limit
        self._next_sweep = 0.0
        folder.mkdir(parents=True, exist_ok=True)

    def job_files(self, job: TrainJob | GenerateJob) -> dict[str, Path]:
        """Every file that the job names, by sha256. A `Diffusers` base is a folder, and so is a
        text encoder; all else are files."""
        base = job.base.file
        found = {base.sha256: self.folder(base) if job.base.format == "Diffusers" else self.file(base)}
        others = _generate_files(job) if isinstance(job, GenerateJob) else _train_files(job)
        others += [ref for ref in (job.base.vae, job.base.low_noise) if ref]
        if text := job.base.text_encoder:
            found.setdefault(text.sha256, self.folder(text))
        for ref in others:
            found.setdefault(ref.sha256, self.file(ref))
        return found

    def file(self, ref: BlobRef) -> Path:
        """One file, with the ending of its name."""
        path = self._folder / f"{ref.sha256}{PurePosixPath(ref.name).suffix.lower()[:16]}"
        with self._claim(path):
            if not path.exists():
                self._make_room(ref.size)
                self._fetch(ref, path)
        os.utime(path)
        return path

    def folder(self, ref: BlobRef) -> Path:
        """The unpacked content of a zip."""
        path = self._folder / f"{ref.sha256}.d"
        with self._claim(path):
            if not path.exists():
                self._unpack(self.file(ref), path, ref)
        os.utime(path)
        return path

    def forget_deleted(self, *, unused: float = UNUSED_SECONDS) -> int:
        """Remove copies of files that the storage has no more, so that deleting frees their space here too.

        `unused`: seconds for which nobody has asked for them. Answers how many.
        """
        gone = 0
        for path in list(self._folder.iterdir()):
            if path.name.endswith((".lock", ".part")):
                continue
            with contextlib.suppress(FileNotFoundError):
                old = time.time() - path.stat().st_mtime >= unused
                if old and self._storage.size(blob_key(path.name[:64])) is None:
                    _remove(path)
                    (self._folder / f"{path.name}.lock").unlink(missing_ok=True)
                    gone += 1
        return gone

    def tidy(self) -> None:
        """forget_deleted, but only now and then: for whoever has nothing else to do. Never fails."""
        if time.monotonic() < self._next_sweep:
            return
        self._next_sweep = time.monotonic() + SWEEP_SECONDS
        try:
            self.forget_deleted()
        except Exception:  # the storage is away: next time
            log.exception("the cache could not be compared with the storage")

    @contextmanager
    def _claim(self, path: Path) -> Iterator[None]:
        """One process at a time makes a file; the others wait and find it."""
        with (self._folder / f"{path.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _fetch(self, ref: BlobRef, path: Path) -> None:
        local = self._storage.local_path(blob_key(ref.sha256))
        part = path.with_name(f"{path.name}.{uuid.uuid4().hex}.part")
        try:
            if local is None or not _link(local, part):
                _check_room(self._folder, ref.size)
                self._storage.fetch(blob_key(ref.sha256), part)
                _check(part, ref)
            part.replace(path)
        except FileNotFoundError as error:
            raise CacheError("file-missing", f"The file {ref.name} is no longer on this server.") from error
        except OSError as error:
            raise _told(error) from error
        finally:
            part.unlink(missing_ok=True)

    def _unpack(self, archive: Path, path: Path, ref: BlobRef) -> None:
        part = path.with_name(f"{path.name}.{uuid.uuid4().hex}.part")
        try:
            _check_room(self._folder, ref.size)
            unzip(archive, part, ZIP_RATIO * ref.size + ZIP_FREE)
            part.rename(path)
        except OSError as error:
            raise _told(error) from error
        except (zipfile.BadZipFile, ValueError, EOFError) as error:
            raise CacheError("base-model-broken", f"{ref.name} is not a readable model archive.") from error
        finally:
            shutil.rmtree(part, ignore_errors=True)

    def _make_room(self, needed: int) -> None:
        """Remove what was not used for longest, until `needed` bytes more stay below the limit."""
        entries = sorted(self._entries(), key=lambda entry: entry[1])
        total = sum(size for _, _, size in entries)
        for path, _, size in entries:
            if total + needed <= self._limit:
                return
            _remove(path)
            total -= size

    def _entries(self) -> Iterator[tuple[Path, float, int]]:
        """(path, last use, bytes) of what takes space here; links to the storage's own files take none."""
        for path in self._folder.iterdir():
            with contextlib.suppress(FileNotFoundError):
                if path.name.endswith((".lock", ".part")):
                    continue
                if path.is_dir():
                    yield path, path.stat().st_mtime, _tree_size(path)
                elif path.stat().st_nlink == 1:
                    yield path, path.stat().st_mtime, path.stat().st_size


def _check_room(folder: Path, needed: int) -> None:
    if shutil.disk_usage(folder).free < needed + SPARE_BYTES:
        raise CacheError("disk-full", DISK_FULL)


def _told(error: OSError) -> Exception:
    """A full disk in words; every other error as it is."""
    return CacheError("disk-full", DISK_FULL) if is_disk_full(error) else error


def _train_files(job: TrainJob) -> list[BlobRef]:
    earlier = [file for file in (job.continue_from, job.continue_low_noise) if file]
    return [item.file for item in job.items] + earlier


def _generate_files(job: GenerateJob) -> list[BlobRef]:
    """LoRAs, those of single cells of a grid included, embeddings, and the picture to start from."""
    of_cells = [lora for cell in (job.grid.cells if job.grid else ()) for lora in cell.loras or ()]
    loras = [*job.loras, *of_cells]
    found = [lora.file for lora in loras] + [lora.low_noise for lora in loras if lora.low_noise]
    found += [each.file for each in job.embeddings]
    if job.start:
        found += [job.start.file, *([job.start.mask] if job.start.mask else [])]
    return found


def _link(source: Path, target: Path) -> bool:
    """A hard link instead of a copy. False on another file system; FileNotFoundError without a source."""
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:
        return False
    return True


def _check(path: Path, ref: BlobRef) -> None:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != ref.sha256:
        raise CacheError("file-damaged", f"The file {ref.name} is damaged on this server. Upload it again.")


def _tree_size(folder: Path) -> int:
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def unzip(archive: Path, target: Path, limit: int) -> None:
    """Unpack plain files only, inside `target`, at most `limit` bytes. Errors: ValueError."""
    left = limit
    with zipfile.ZipFile(archive) as source:
        members = source.infolist()
        if len(members) > ZIP_MEMBERS:
            raise ValueError("too many files")
        for member in members:
            name = PurePosixPath(member.filename)
            is_link = (member.external_attr >> 16) & 0o170000 == 0o120000
            if name.is_absolute() or ".." in name.parts or "\\" in member.filename or is_link:
                raise ValueError(member.filename)
            if member.is_dir():
                continue
            place = target.joinpath(*name.parts)
            place.parent.mkdir(parents=True, exist_ok=True)
            with source.open(member) as data, place.open("wb") as out:
                while chunk := data.read(1 << 20):
                    left -= len(chunk)
                    if left < 0:
                        raise ValueError("unpacks to far more than weights can")
                    out.write(chunk)
