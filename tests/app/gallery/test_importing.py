"""Diffusers folders from the server's disk: packed, made a page, and refused in words."""

import json
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path
from tempfile import gettempdir

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session
from typer.testing import CliRunner

from app.cli.main import app
from app.core.db import unit_of_work
from app.core.errors import AppError
from app.core.storage import get_storage
from app.gallery.importing import folder_files, import_folder, packed
from app.gallery.models import ModelVersion
from app.uploads.models import Upload
from tests.app.recognition.listings import diffusers, whole
from tests.factories import make_admin, make_user

LAYERS = {f"down_blocks.1.attentions.{n}": 1 for n in range(7)}
NAMED = {part: ["library", "Class"] for part in ("unet", "vae", "text_encoder")}
INDEX = NAMED | {"_class_name": "Starter", "image_encoder": [None, None]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of the starter's kind, as people have them: with a picture, a pickle and hidden files."""
    files = {
        "model_index.json": json.dumps(INDEX).encode(), "README.md": b"x", ".git": b"x",
        "unet/diffusion_pytorch_model.safetensors": whole(diffusers(LAYERS, 128, channels=12, width=64)),
        "unet/diffusion_pytorch_model.bin": b"a pickle", "unet/config.json": b"{}",
        "unet/.hidden.json": b"{}", "text_encoder/model.safetensors": whole({"x": [1]}),
        "vae/diffusion_pytorch_model.safetensors": whole({"decoder.conv_in.weight": [1]}),
        "other/x.safetensors": b"not named by the index",
    }  # fmt: skip
    root = tmp_path / "my-model"
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root


def refusal(folder: Path) -> str:
    with pytest.raises(AppError) as refused:
        folder_files(folder)
    return refused.value.detail


def test_a_folder_becomes_a_page(db: Session, folder: Path) -> None:
    user = make_user(db)
    version = import_folder(db, get_storage(), user, folder)
    assert (version.model.name, version.model.type, version.base_model) == (
        "my-model",
        "Checkpoint",
        "Starter 1",
    )
    assert (version.model.visibility, version.family) == ("private", "starter")
    [file] = version.files
    assert (file.name, file.format, file.is_primary) == ("my-model.zip", "Diffusers", True)
    assert list(db.scalars(select(Upload))) == []


def test_only_what_belongs_to_it_is_packed(folder: Path) -> None:
    with packed(folder, folder_files(folder)) as archive, zipfile.ZipFile(archive) as opened:
        assert opened.namelist() == [
            "model_index.json", "text_encoder/model.safetensors", "unet/config.json",
            "unet/diffusion_pytorch_model.safetensors", "vae/diffusion_pytorch_model.safetensors",
        ]  # fmt: skip
        first = archive.read_bytes()
    os.utime(folder / "unet/config.json", (1, 1))
    with packed(folder, folder_files(folder)) as archive:
        assert archive.read_bytes() == first
    assert not archive.exists()


def test_the_same_folder_twice_is_told(db: Session, folder: Path) -> None:
    user = make_user(db)
    first = import_folder(db, get_storage(), user, folder, name="First")
    with pytest.raises(AppError, match="here already, as First") as refused:
        import_folder(db, get_storage(), user, folder)
    assert refused.value.code == "duplicate-file"
    assert f"/models/{first.model_id}/first" in refused.value.detail


def test_what_is_no_such_folder_says_what_to_do(folder: Path) -> None:
    assert "There is no folder" in refusal(folder / "nowhere")
    assert "no model_index.json" in refusal(folder / "unet")
    assert "bottega upload" in refusal(folder / "README.md")
    (folder / "vae/diffusion_pytorch_model.safetensors").unlink()
    (folder / "vae/diffusion_pytorch_model.safetensors").symlink_to(folder / "gone")
    assert "cannot be read (No such file or directory)" in refusal(folder)
    (folder / "vae").rename(folder / "vae-away")
    assert "lacks vae" in refusal(folder)
    (folder / "model_index.json").write_text("[")
    assert "is damaged" in refusal(folder)
    (folder / "model_index.json").write_text('{"../x": ["a", "b"], "other2": null}')
    assert "no .safetensors weights" in refusal(folder)
    assert "There is no folder" in refusal(Path("x" * 200))


@contextmanager
def nobody() -> Iterator[None]:
    """As a person who may not read what others keep to themselves."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_what_may_not_be_read_is_told(folder: Path) -> None:
    for path in takewhile(lambda path: path != Path(gettempdir()), folder.parents):
        path.chmod(0o755)
    (folder / "unet").chmod(0)
    try:
        with nobody():
            assert "unet cannot be read (Permission denied). Mend that" in refusal(folder)
    finally:
        (folder / "unet").chmod(0o755)


def test_from_the_command_line(real_db: str, folder: Path) -> None:
    with unit_of_work() as db:
        make_user(db, "lorenzo")
        make_admin(db, "giulia")
    asked = ["import", str(folder), "--name", "Mine", "--publish", "public"]
    done = CliRunner().invoke(app, asked)
    assert done.exit_code == 0, done.output
    assert "Mine (Starter 1, public, by giulia) can be used here: /models/" in done.stdout
    with unit_of_work() as db:
        assert [v.status for v in db.scalars(select(ModelVersion)).unique()] == ["Published"]
    again = CliRunner().invoke(app, asked)
    assert (again.exit_code, "here already, as Mine" in again.stderr) == (1, True)
    for options, words in (
        (["--user", "nobody"], "There is no account nobody"),
        (["--publish", "all"], "--publish is private"),
        (["--base-model", "SDXL 1.0", "--user", "lorenzo"], "here already"),
    ):
        refused = CliRunner().invoke(app, ["import", str(folder), *options])
        assert (refused.exit_code, words in refused.stderr) == (1, True), refused.stderr
