"""The command line against the application: words on stderr, JSON alone on stdout, exit codes that differ."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from PIL import Image
from sqlalchemy import select
from sqlalchemy.orm import Session
from typer.testing import CliRunner, Result

from app.accounts import tokens
from app.accounts.models import User
from app.cli import client as cli_client
from app.cli.main import app
from app.cli.remote import file_name
from app.contract.states import JobState
from app.datasets.models import Dataset, DatasetItem
from app.jobs import service
from app.uploads.models import Upload
from tests.app.conftest import Visitor
from tests.app.gallery.test_matching import page
from tests.app.gallery.things import published
from tests.app.training.factories import make_base
from tests.factories import make_job, make_user

Run = Callable[..., Result]


@pytest.fixture
def owner(db: Session) -> User:
    return make_user(db, "anna")


@pytest.fixture
def run(
    db: Session, application: FastAPI, owner: User, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Run:
    """`bottega` with a login; its requests go to the application in the test's transaction."""

    def connect(server: str, headers: dict[str, str]) -> Visitor:
        visitor = Visitor(application, db)
        visitor.headers.update(headers)
        return visitor

    _, secret = tokens.create_token(db, owner, name="cli", scopes=tokens.MEMBER_SCOPES)
    monkeypatch.setattr(cli_client, "connect", connect)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("BOTTEGA_TOKEN", secret)

    def call(*args: str) -> Result:
        return CliRunner().invoke(app, list(args))

    return call


def photos(folder: Path, count: int = 3) -> Path:
    folder.mkdir()
    for n in range(count):
        Image.new("RGB", (96 + n, 96), (40 * n, 90, 20)).save(folder / f"{n}.png")
        (folder / f"{n}.txt").write_text("olive tree, noon")
    return folder


def test_login_keeps_what_works(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    kept = tmp_path / "config" / "bottega" / "login.json"
    assert run("login", "http://box:8000", "--token", "wrong").exit_code == 3
    assert not kept.exists()
    token = cli_client.load_login()[1]
    said = run("login", "http://box:8000/", "--token", token, "--json")
    assert said.exit_code == 0
    assert json.loads(said.stdout)["username"] == "anna"
    assert json.loads(kept.read_text()) == {"server": "http://box:8000", "token": token}
    kept.write_text("{broken")
    monkeypatch.delenv("BOTTEGA_TOKEN")
    broken = run("jobs")
    assert broken.exit_code == 3
    assert "Log in again" in broken.stderr


def test_pictures_of_two_folders_keep_their_own_labels(
    db: Session, run: Run, owner: User, tmp_path: Path
) -> None:
    base = make_base(db, owner)
    for n, folder in enumerate(("2_tower", "1_church")):
        photos(tmp_path / folder, 2)
        Image.new("RGB", (96, 120), (10, 90 * n, 200)).save(tmp_path / folder / "0.png")
        (tmp_path / folder / "0.txt").write_text(folder[2:])
    args = ("--name", "Two folders", "--base", str(base.id), "--max-steps", "4")
    said = run("train", str(tmp_path), *args)
    assert said.exit_code == 0, said.stderr
    items = db.scalars(select(DatasetItem).where(DatasetItem.name == "0.png"))
    assert {(item.folder, item.label) for item in items} == {("2_tower", "tower"), ("1_church", "church")}


def test_a_dry_run_leaves_nothing_behind(db: Session, run: Run, owner: User, tmp_path: Path) -> None:
    base = make_base(db, owner)
    folder = str(photos(tmp_path / "photos"))
    said = run("train", folder, "--name", "Tuscany", "--base", str(base.id), "--max-steps", "4", "--dry-run")
    assert said.exit_code == 0, said.stderr
    assert json.loads(said.stdout)["steps"] == 4
    assert db.query(Dataset).count() == 0


def test_without_a_base_it_is_the_starter_and_a_vae_can_be_named(
    db: Session, run: Run, owner: User, tmp_path: Path
) -> None:
    folder = str(photos(tmp_path / "photos"))
    page(db, owner, "Checkpoint", "SDXL 1.0", architecture="sdxl", name="Other")
    missing = run("train", folder, "--name", "Tuscany", "--dry-run")
    assert missing.exit_code == 2
    assert "no base model “Starter 1” here. Installed: Other" in missing.stderr
    base = make_base(db, owner)
    page(db, owner, "Checkpoint", "SDXL 1.0", architecture="sdxl", name="Newer")
    vae = page(db, owner, "VAE", "Starter 1", architecture="starter", name="Clear")
    said = run("train", folder, "--name", "Tuscany", "--vae", str(vae.id), "--json")
    assert said.exit_code == 0, said.stderr
    asked = json.loads(said.stdout)["input"]["base"]
    assert (asked["model_version_id"], asked["vae_version_id"]) == (base.id, vae.id)


def test_train_queues_and_says_so_in_json(db: Session, run: Run, owner: User, tmp_path: Path) -> None:
    base = make_base(db, owner)
    folder = str(photos(tmp_path / "photos"))
    said = run("train", folder, "--name", "Tuscany", "--base", base.model.name, "--json")
    assert said.exit_code == 0, said.stderr
    assert (json.loads(said.stdout)["status"], json.loads(said.stdout)["input"]["images"]) == ("queued", 3)


def test_what_the_server_refuses_is_told_by_field(db: Session, run: Run, owner: User, tmp_path: Path) -> None:
    base = make_base(db, owner)
    said = run("train", str(photos(tmp_path / "p")), "--name", "x", "--base", str(base.id), "--type", "dog")
    assert said.exit_code == 2
    assert "type:" in said.stderr


@pytest.mark.parametrize("size", ["big", "1x2x3", "128x", "-1x3"])
def test_a_size_that_is_none(run: Run, size: str) -> None:
    said = run("generate", "a tower", f"--size={size}")
    assert said.exit_code == 2
    assert "WIDTHxHEIGHT" in said.stderr


def test_a_drawing_may_start_from_a_file(db: Session, run: Run, owner: User, tmp_path: Path) -> None:
    base = make_base(db, owner).id
    photo = next(photos(tmp_path / "p", 1).iterdir())
    told = run("generate", "a tower", f"--base={base}", f"--start={photo}", "--denoise=7")
    assert (told.exit_code, "denoise: must be at most 1" in told.stderr) == (2, True)
    sent = db.scalars(select(Upload)).one()
    assert (sent.name, sent.state, sent.user_id) == ("0.png", "complete", owner.id)
    refused = run("generate", "a tower", f"--base={base}", "--start=nowhere.png")
    assert (refused.exit_code, "there is no file" in refused.stderr) == (2, True)


@pytest.mark.parametrize("option", ["--frames=9", "--fps=12", "--shift=5"])
def test_clips_are_asked_of_models_that_draw_them(db: Session, run: Run, owner: User, option: str) -> None:
    said = run("generate", "a tower", f"--base={make_base(db, owner).id}", option)
    assert said.exit_code == 2
    assert "draws pictures; choose a model that draws clips" in said.stderr


def test_clips_and_pictures_are_saved_under_their_ending() -> None:
    facts = {"id": 7, "seed": 11}
    assert file_name(facts | {"media_type": "video/mp4"}) == "bottega-7-11.mp4"
    assert file_name(facts | {"media_type": "image/png"}) == "bottega-7-11.png"


def test_jobs_are_steered_and_waited_for(db: Session, run: Run, owner: User) -> None:
    job_id = make_job(db, owner).id
    assert json.loads(run("jobs", "--json").stdout)["items"][0]["id"] == job_id
    said = run("jobs", "cancel", job_id, "--json")
    assert json.loads(said.stdout)["status"] == "canceled"
    waited = run("jobs", "wait", job_id, "--json")
    assert (waited.exit_code, json.loads(waited.stdout)["status"]) == (1, "canceled")
    assert run("jobs", "pause", job_id).exit_code == 2
    assert run("jobs", "show", "none").exit_code == 2
    assert run("jobs", "delete", job_id).exit_code == 0
    assert service.find_job(db, job_id) is None


def test_a_failed_job_is_exit_code_one_with_its_words(db: Session, run: Run, owner: User) -> None:
    job = make_job(db, owner)
    for state in (JobState.STARTING, JobState.RUNNING):
        service.change_state(db, job, state)
    service.change_state(db, job, JobState.FAILED, error=("adapter-empty", "It learned nothing."))
    said = run("jobs", "wait", job.id)
    assert (said.exit_code, said.stdout) == (1, "")
    assert "It learned nothing." in said.stderr


def test_download_checks_the_hash(db: Session, run: Run, owner: User, tmp_path: Path) -> None:
    version = published(db, owner).versions[0]
    said: Any = json.loads(run("download", str(version.id), "--out", str(tmp_path), "--json").stdout)
    assert Path(said["path"]).stat().st_size == version.files[0].size
    assert said["sha256"].lower() == version.files[0].blob_sha256
    assert run("download", "999999").exit_code == 2


def test_nobody_there_is_an_exit_code_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOTTEGA_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("BOTTEGA_TOKEN", "bottega_x")
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    said = CliRunner().invoke(app, ["jobs"])
    assert said.exit_code == 4
    assert "cannot be reached" in said.stderr
