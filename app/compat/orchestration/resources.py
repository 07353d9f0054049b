"""Resources by their AIRs: what they are, and whether they can be used here now."""

from collections.abc import Sequence
from typing import Any

from fastapi import Request
from sqlalchemy.orm import Session

from app.accounts.models import User
from app.core.errors import NotFound
from app.gallery.airs import find_air
from app.gallery.matching import runs_here
from app.gallery.models import ModelVersion
from app.gallery.shapes import mini_out
from app.jobs import workers

FORMATS = {"SafeTensor": "safeTensor", "Diffusers": "diffusers", "PickleTensor": "pickleTensor"}
SHARED = (
    "air", "versionName", "hashes", "downloadUrls", "checkPermission", "isFeatured", "publishedAt",
    "payoutEnabled", "fees", "userId",
)  # fmt: skip


def resource_out(request: Request, version: ModelVersion, viewer: User) -> dict[str, Any]:
    """A ResourceInfo; its size is in bytes. Errors: NotFound for a version without a file."""
    told = mini_out(request, version, viewer)
    return {name: told[name] for name in SHARED} | {
        "size": round(told["size"] * 1024),
        "resourceName": told["modelName"],
        "fileFormat": FORMATS.get(told["format"], "unknown"),
        "canGenerate": can_draw(version),
        "requiresAuthorization": told["requireAuth"],
        "popularityRank": None,
        "hasMatureContentRestriction": False,
        "hasNSFWContentRestriction": False,
        "availability": {"status": told["availability"]},
    }


def can_draw(version: ModelVersion) -> bool:
    """A checkpoint that this installation runs, or something to use with one."""
    return runs_here(version) if version.model.type == "Checkpoint" else version.family is not None


def coverage_out(db: Session, viewer: User, airs: Sequence[str], provider: str) -> dict[str, Any]:
    """AIR → provider → whether it can be drawn with now, and by how many workers."""
    count = sum("generate" in worker.queues for worker in workers.list_workers(db, alive=True))
    return {air: {provider: _availability(db, viewer, air, count)} for air in airs}


def _availability(db: Session, viewer: User, air: str, count: int) -> dict[str, Any]:
    try:
        runs = can_draw(find_air(db, viewer, air))
    except NotFound:
        runs = False
    if not runs:
        return {"availability": "Unsupported", "workers": 0}
    return {"availability": "Available" if count else "Unavailable", "workers": count}
