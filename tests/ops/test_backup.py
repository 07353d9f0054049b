"""A backup brings everything back into an empty installation, and refuses anything else."""

import json
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from app.accounts.models import User
from app.cli.backup import backup, restore
from app.cli.embedded import create_database, drop_database
from app.cli.process import SetupError
from app.core.db import unit_of_work
from app.core.storage import get_storage
from app.datasets.models import DatasetItem
from tests.conftest import database_url, forget_settings
from tests.factories import make_dataset, make_user


@pytest.fixture
def empty_database() -> Iterator[str]:
    server, name = os.environ["TEST_DATABASE_URL"], f"empty_{uuid.uuid4().hex[:12]}"
    create_database(server, name)
    yield database_url(server, name)
    drop_database(server, name)


def fill() -> dict[str, bytes]:
    """Some rows and files; returns what lies in storage."""
    with unit_of_work() as db:
        make_dataset(db, make_user(db, "maria"), items=3)
    storage = get_storage()
    storage.put("jobs/job_1/1/resume.safetensors", b"half way")
    return {key: storage.get(key) for key, _ in storage.list("")}


def test_everything_comes_back(
    real_db: str, empty_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BOTTEGA_REGISTRATION", "open")
    files = fill()
    said: list[str] = []
    backup(real_db, tmp_path / "backup", said.append)
    assert said[1].startswith("Files: 4 new")
    backup(real_db, tmp_path / "backup", said.append)
    assert said[4].startswith("Files: 0 new")

    monkeypatch.setenv("DATABASE_URL", empty_database)
    monkeypatch.setenv("STORAGE_URL", f"file://{tmp_path / 'elsewhere'}")
    monkeypatch.delenv("BOTTEGA_REGISTRATION")
    forget_settings()
    restore(empty_database, tmp_path / "backup", said.append)
    storage = get_storage()
    assert {key: storage.get(key) for key, _ in storage.list("")} == files
    with unit_of_work() as db:
        assert db.scalars(select(User.username)).all() == ["maria"]
        for item in db.scalars(select(DatasetItem)):
            assert storage.size(f"blobs/{item.blob_sha256}")
    assert any("BOTTEGA_REGISTRATION=open" in line for line in said)

    with pytest.raises(SetupError, match="already holds data"):
        restore(empty_database, tmp_path / "backup", said.append)


def test_a_backup_that_did_not_finish_is_refused(real_db: str, empty_database: str, tmp_path: Path) -> None:
    folder = tmp_path / "backup"
    backup(real_db, folder, lambda line: None)
    facts = json.loads((folder / "bottega.json").read_text())
    (folder / "bottega.json").unlink()
    with pytest.raises(SetupError, match="no complete backup"):
        restore(empty_database, folder, lambda line: None)
    (folder / "bottega.json").write_text(json.dumps(facts | {"format": 99}))
    with pytest.raises(SetupError, match="newer Bottega"):
        restore(empty_database, folder, lambda line: None)


def test_a_database_that_does_not_answer_is_one_sentence(real_db: str, tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="pg_dump failed"):
        backup("postgresql://nobody@127.0.0.1:1/none", tmp_path / "backup", lambda line: None)
    assert not (tmp_path / "backup" / "database.dump").exists()
