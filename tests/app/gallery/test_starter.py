"""The shipped checkpoint as a model page: installed once, renewed with new weights, never in the way."""

import io
import json
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image as Pillow
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.core.blobs import Blob, blob_key
from app.core.storage import get_storage
from app.gallery.models import Model, ModelVersion
from app.gallery.picker import list_choices
from app.gallery.service import checkpoint_ref
from app.gallery.starter import CLIPS, PICTURES, install_starters, write_zip
from tests.factories import make_user


def install(db: Session, weights: Path | None = None) -> ModelVersion | None:
    """The starter for pictures alone, with its own weights or others."""
    starter = replace(PICTURES, weights=weights) if weights else PICTURES
    return install_starters(db, get_storage(), (starter,))[0]


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    folder = tmp_path / "weights"
    (folder / "unet").mkdir(parents=True)
    (folder / "model_index.json").write_text("{}")
    (folder / "unet" / "model.safetensors").write_bytes(b"weights of the first hour")
    return folder


def _count(db: Session) -> int:
    return db.scalar(select(func.count()).select_from(ModelVersion)) or 0


def test_installing_twice_is_installing_once(db: Session, weights: Path) -> None:
    first = install(db, weights)
    again = install(db, weights)
    assert first is again
    assert _count(db) == 1
    assert first is not None
    assert first.model.visibility == "public"
    assert first.model.licence == "CC0-1.0"
    assert first.model.username == "bottega"
    assert first.base_model == "Starter 1"
    ref = checkpoint_ref(db, make_user(db), first.id)
    assert (ref.family, ref.format, ref.base_model, ref.name) == (
        "starter",
        "Diffusers",
        "Starter 1",
        "Starter 1",
    )


def test_new_weights_make_a_new_version(db: Session, weights: Path) -> None:
    first = install(db, weights)
    (weights / "unet" / "model.safetensors").write_bytes(b"weights of the second hour")
    second = install(db, weights)
    assert first is not None
    assert second is not None
    assert (first.name, second.name) == ("1.0", "1.1")
    assert first.files[0].blob_sha256 != second.files[0].blob_sha256
    model = db.scalars(select(Model)).unique().one()
    assert [v.name for v in model.versions] == ["1.1", "1.0"]
    assert install(db, weights) is second


def test_without_weights_nothing_fails(db: Session, tmp_path: Path) -> None:
    assert install(db, tmp_path / "nothing") is None
    assert _count(db) == 0


def test_a_lost_object_comes_back(db: Session, weights: Path) -> None:
    version = install(db, weights)
    assert version is not None
    key = blob_key(version.files[0].blob_sha256)
    before = get_storage().get(key)
    get_storage().delete([key])
    install(db, weights)
    assert get_storage().get(key) == before


def test_the_zip_depends_on_the_files_only(weights: Path, tmp_path: Path) -> None:
    write_zip(weights, tmp_path / "a.zip")
    (weights / "unet" / "model.safetensors").touch()
    (weights / "grid.png").write_bytes(b"not part of the model")
    write_zip(weights, tmp_path / "b.zip")
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert archive.namelist() == ["model_index.json", "unet/model.safetensors"]


def test_covers_are_cut_out_of_the_grid(db: Session, weights: Path) -> None:
    sheet = Pillow.new("RGB", (256, 128), "red")
    sheet.paste("blue", (128, 0, 256, 128))
    sheet.save(weights / "grid.png")
    listed = [
        {"tile": 1, "prompt": "blue house"},
        {"tile": 0, "prompt": "red house"},
        {"tile": 9, "prompt": ""},
    ]
    (weights / "covers.json").write_text(json.dumps(listed))
    version = install(db, weights)
    assert version is not None
    pictures = [p.image for p in version.pictures]
    assert [(i.prompt, i.width, i.visibility) for i in pictures] == [
        ("blue house", 128, "public"), ("red house", 128, "public"),
    ]  # fmt: skip
    assert db.get(Blob, pictures[0].blob_sha256) is not None
    assert pictures[0].thumb_sha256 == pictures[0].blob_sha256


def test_of_two_new_pages_the_first_starter_leads_every_list(
    db: Session, weights: Path, tmp_path: Path
) -> None:
    other = tmp_path / "clips"
    shutil.copytree(weights, other / "weights")
    (other / "weights" / "unet" / "model.safetensors").write_bytes(b"weights that move")
    covers = other / "covers"
    covers.mkdir()
    (covers / "00.mp4").write_bytes(b"a clip")
    picture = io.BytesIO()
    Pillow.new("RGB", (64, 64), "red").save(picture, "JPEG")
    (covers / "00.jpg").write_bytes(picture.getvalue())
    facts = {"file": "00", "prompt": "red boat", "seed": 3, "width": 64, "height": 64, "frames": 17, "fps": 8}
    (covers / "covers.json").write_text(json.dumps([facts]))
    starters = (replace(PICTURES, weights=weights), replace(CLIPS, weights=other / "weights"))
    pictures, clips = install_starters(db, get_storage(), starters)
    assert pictures is not None
    assert clips is not None
    assert pictures.id < clips.id
    assert pictures.model.id > clips.model.id
    assert pictures.model.published_at == clips.model.published_at
    assert clips.family == "video_starter"
    (cover,) = [picture.image for picture in clips.pictures]
    assert (cover.media_type, cover.frames, cover.fps) == ("video/mp4", 17, 8)
    assert (cover.prompt, cover.poster_sha256 is not None) == ("red boat", True)
    assert install_starters(db, get_storage(), starters) == [pictures, clips]
    chosen = list_choices(db, make_user(db), "Checkpoint")
    assert [choice.version_id for choice in chosen] == [pictures.id, clips.id]


def test_the_shipped_weights_install(db: Session) -> None:
    version = install(db)
    assert version is not None
    assert version.files[0].size < 32 << 20
    assert len(version.pictures) == 10
    assert all(p.image.prompt for p in version.pictures)
