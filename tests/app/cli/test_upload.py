"""`bottega upload` against a real server: parts side by side, broken off and resumed, a page at the end."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from app.accounts import tokens
from app.accounts.models import User
from app.cli import client as cli_client
from app.cli.main import app
from app.core.db import unit_of_work
from app.gallery.matching import expert_files
from app.gallery.models import Model, ModelVersion
from app.uploads import service as uploads
from app.uploads.models import Upload
from tests.app.gallery.test_further import A14B, wan
from tests.app.gallery.test_recognised import PICKLE, SD1, SDXL
from tests.app.site import serving
from tests.factories import make_user

Run = Callable[..., Result]


@pytest.fixture
def run(real_db: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Run]:
    monkeypatch.setattr(uploads, "PART_SIZE", 2000)
    with serving() as address:
        with unit_of_work() as db:
            user = make_user(db, "lorenzo")
            _, secret = tokens.create_token(db, user, name="cli", scopes=tokens.MEMBER_SCOPES)
        monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
        monkeypatch.setenv("BOTTEGA_URL", address)
        monkeypatch.setenv("BOTTEGA_TOKEN", secret)
        yield lambda *args: CliRunner().invoke(app, ["upload", *map(str, args)])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "tuscan_gold.safetensors"
    path.write_bytes(SD1)
    return path


def break_off_after(parts: int, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Ctrl-C while a later part is on its way; the addresses of those that were let through."""
    sent: list[str] = []

    def count(request: httpx.Request) -> None:
        if request.method == "PUT":
            if len(sent) >= parts:
                raise KeyboardInterrupt
            sent.append(request.url.path)

    def connect(server: str, headers: dict[str, str]) -> httpx.Client:
        return httpx.Client(base_url=server, headers=headers, event_hooks={"request": [count]})

    monkeypatch.setattr(cli_client, "connect", connect)
    return sent


def test_broken_off_and_resumed(run: Run, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = -(-len(SD1) // 2000)
    with monkeypatch.context() as patched:
        break_off_after(6, patched)  # four at once, so that some have arrived by then
        said = run(file)
    assert said.exit_code == 130
    assert "What has arrived is kept" in said.stderr
    with unit_of_work() as db:
        [(upload, missing)] = uploads.list_uploads(db, db.query(User).one())
        assert 0 < len(missing) < parts
        assert upload.declared_sha256 is not None
    again = break_off_after(parts, monkeypatch)
    said = run(file)
    assert said.exit_code == 0, said.stderr
    assert "a LoRA for SD 1.5" in said.stderr
    assert "Tuscan gold (private): http" in said.stdout
    assert len(again) == len(missing)
    with unit_of_work() as db:
        version = db.query(ModelVersion).one()
        assert (version.trained_words, version.status) == (["tuscany", "gold"], "Draft")
        assert db.query(Upload).count() == 0


def test_all_that_can_be_said(run: Run, file: Path, tmp_path: Path) -> None:
    cover = tmp_path / "cover.png"
    Image.new("RGB", (96, 128), (180, 120, 60)).save(cover)
    said = run(file, "--name", "Gold", "--base-model", "SD 1.4", "--trained-words", "hill, light",
               "--description", "*soft*", "--picture", cover, "--publish", "public", "--json")  # fmt: skip
    assert said.exit_code == 0, said.stderr
    told = json.loads(said.stdout)
    assert (told["recognised"]["adapter"]["rank"], told["model"]["name"]) == (8, "Gold")
    [version] = told["model"]["modelVersions"]
    assert (version["baseModel"], version["trainedWords"]) == ("SD 1.4", ["hill", "light"])
    assert (version["status"], len(version["images"])) == ("Published", 1)
    assert version["files"][0]["hashes"]["SHA256"].lower() == told["sha256"]

    other = tmp_path / "second.safetensors"
    other.write_bytes(SD1[:-1] + b"\1")
    more = run(other, "--model", told["model"]["id"], "--version-name", "v2", "--json")
    assert [v["name"] for v in json.loads(more.stdout)["model"]["modelVersions"]] == ["v2", "v1"]


def test_a_further_file_of_a_version(run: Run, file: Path) -> None:
    file.write_bytes(wan())
    first = run(file, "--base-model", A14B, "--json")
    assert first.exit_code == 0, first.stderr
    version = json.loads(first.stdout)["version"]
    file.write_bytes(wan(note="2"))
    unsaid = run(file, "--beside", version)
    assert (unsaid.exit_code, "Say it of this file" in unsaid.stderr) == (2, True), unsaid.stderr
    second = run(file, "--beside", version, "--noise", "low", "--json")
    assert second.exit_code == 0, second.stderr
    [listed] = json.loads(second.stdout)["model"]["modelVersions"]
    assert [each["primary"] for each in listed["files"]] == [True, False]
    with unit_of_work() as db:
        _, low = expert_files(db.get_one(ModelVersion, version))
        assert low is not None
        assert low.id == listed["files"][1]["id"]


def test_what_is_refused(run: Run, file: Path, tmp_path: Path) -> None:
    pickle = tmp_path / "model.safetensors"
    pickle.write_bytes(PICKLE)
    assert (run(pickle).exit_code, "This is a pickle" in run(pickle).stderr) == (2, True)
    file.write_bytes(SDXL)
    wrong = run(file, "--base-model", "SD 1.5")
    assert wrong.exit_code == 2
    assert "it cannot be one for SD 1.5" in wrong.stderr
    assert run(file, "--publish", "everybody").exit_code == 2
    with unit_of_work() as db:
        assert db.query(Model).count() == 0
        assert db.query(Upload).one().state == "complete"
    right = run(file, "--base-model", "Pony")
    assert right.exit_code == 0, right.stderr
