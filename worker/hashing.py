"""Hashes of files and folders on this machine, for jobs that no storage knows."""

import hashlib
from pathlib import Path

from app.contract.jobs import BlobRef
from worker.training.checkpoint import file_sha256


def blob_of(path: Path, files: dict[str, Path]) -> BlobRef:
    """A file or a checkpoint's folder; its path goes into `files`."""
    digest = folder_sha256(path) if path.is_dir() else file_sha256(path)
    files[digest] = path
    return BlobRef(sha256=digest, size=0 if path.is_dir() else path.stat().st_size, name=path.name)


def folder_sha256(folder: Path) -> str:
    """One hash for a checkpoint folder: names and bytes of all its files."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(f"{path.relative_to(folder).as_posix()} {file_sha256(path)}\n".encode())
    return digest.hexdigest()
