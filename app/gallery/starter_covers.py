"""Covers of the checkpoints that ship: pictures out of the quality gate's grid, clips that it kept.

Neither needs a decoder of clips: each clip lies beside a JPEG of its middle frame.
"""

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image as Pillow
from sqlalchemy.orm import Session

from app.accounts.models import User
from app.core.blobs import put_blob
from app.core.storage import Storage
from app.gallery.models import ModelVersion
from app.images.models import Image
from app.images.service import create_sample

TILE = 128
"""Side of a picture in the grid."""


@dataclass(frozen=True)
class Cover:
    """One picture or, with `poster`, one clip. Sides are pixels."""

    content: bytes
    media_type: str
    prompt: str
    width: int
    height: int
    seed: int | None = None
    poster: bytes | None = None
    """A JPEG."""
    frames: int = 1
    fps: float | None = None


def store_cover(db: Session, storage: Storage, owner: User, version: ModelVersion, cover: Cover) -> Image:
    """The cover as an image of the page, made with this version."""
    moving: dict[str, Any] = {}
    if cover.poster:
        poster = put_blob(db, storage, cover.poster, "image/jpeg")
        moving = {"poster": poster, "frames": cover.frames, "fps": cover.fps}
    return create_sample(
        db,
        owner,
        blob=put_blob(db, storage, cover.content, cover.media_type),
        prompt=cover.prompt,
        seed=cover.seed,
        width=cover.width,
        height=cover.height,
        base_model=version.base_model,
        resources=[{"kind": "checkpoint", "name": version.model.name, "model_version_id": version.id}],
        **moving,
    )


def grid_covers(weights: Path) -> Iterator[Cover]:
    """Pictures out of `grid.png` in the weights' folder or above it.

    `covers.json` beside it names the best tiles, counted row by row; without it the first ones are taken.
    """
    grid = next((p for p in (weights / "grid.png", weights.parent / "grid.png") if p.exists()), None)
    if grid is None:
        return
    with Pillow.open(grid) as sheet:
        pixels = sheet.convert("RGB")
    columns, rows = pixels.width // TILE, pixels.height // TILE
    every = [{"tile": number, "prompt": ""} for number in range(columns * rows)]
    for listed in _listed(grid.with_name("covers.json"), every):
        if listed["tile"] >= columns * rows:
            continue
        left, top = listed["tile"] % columns * TILE, listed["tile"] // columns * TILE
        out = io.BytesIO()
        pixels.crop((left, top, left + TILE, top + TILE)).save(out, "PNG")
        yield Cover(out.getvalue(), "image/png", listed["prompt"], TILE, TILE)


def film_covers(weights: Path) -> Iterator[Cover]:
    """Clips out of the folder `covers` beside the weights: `covers.json` names `<file>.mp4` and `.jpg`."""
    folder = weights.parent / "covers"
    for listed in _listed(folder / "covers.json", []):
        yield Cover(
            (folder / f"{listed['file']}.mp4").read_bytes(),
            "video/mp4",
            listed["prompt"],
            listed["width"],
            listed["height"],
            listed["seed"],
            (folder / f"{listed['file']}.jpg").read_bytes(),
            listed["frames"],
            listed["fps"],
        )


def _listed(path: Path, otherwise: list[dict[str, Any]]) -> list[dict[str, Any]]:
    if not path.exists():
        return otherwise
    found: list[dict[str, Any]] = json.loads(path.read_text())
    return found
