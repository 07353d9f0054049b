"""Postgres and Valkey from wheels, wherever the home lies."""

import os
import shutil
import subprocess
from pathlib import Path

import psycopg
import pytest
import redis

from app.cli.embedded import (
    FAR_ROOT,
    MAX_SOCKET_DIR,
    NOBODY,
    Postgres,
    Valkey,
    create_database,
    drop_database,
    reachable,
    short_name,
    socket_folder,
)
from app.cli.process import stop

UID = NOBODY if os.geteuid() == 0 else None


def test_postgres_runs_below_a_private_folder(tmp_path: Path) -> None:
    """pytest's own folders are 0700, as a home folder is: root's Postgres user cannot enter them."""
    home = tmp_path / "deep" / "home"
    home.mkdir(parents=True)
    server = Postgres(home, durable=False)
    far = UID is not None and not reachable(home)
    assert server.root == (FAR_ROOT / short_name(home) if far else home / "postgres")
    server.prepare()
    process = server.spawn_server(subprocess.DEVNULL)
    try:
        server.wait_ready(process)
        server.ensure_database()
        server.ensure_database()
        with psycopg.connect(server.url()) as connection:
            row = connection.execute("select current_setting('server_encoding'), version()").fetchone()
            connection.execute("create extension pg_trgm")
            connection.execute("create extension unaccent")
        assert row is not None
        assert row[0] == "UTF8"
        create_database(server.url("postgres"), "copy", template="bottega")
        drop_database(server.url("postgres"), "copy")
    finally:
        stop(process, server.stop_signal, 20)
        shutil.rmtree(server.root)
        shutil.rmtree(server.sockets)


def test_parents_keep_their_permissions(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    before = [(p, p.stat().st_mode) for p in (home, *home.parents)]
    server = Postgres(home, durable=False)
    server.prepare()
    assert [(p, p.stat().st_mode) for p, _ in before] == before
    assert server.root.stat().st_mode & 0o777 == 0o700
    shutil.rmtree(server.root)
    shutil.rmtree(server.sockets)


def test_socket_paths_stay_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = tmp_path / ("long" * 20)
    runtime.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    folder = socket_folder(tmp_path / ("deep" * 40), UID)
    assert len(str(folder)) <= MAX_SOCKET_DIR
    assert folder.stat().st_mode & 0o777 == 0o700
    shutil.rmtree(folder)


def test_a_socket_folder_of_somebody_else_is_not_used(tmp_path: Path) -> None:
    folder = socket_folder(tmp_path, UID)
    folder.rmdir()
    folder.symlink_to(tmp_path)
    other = socket_folder(tmp_path, UID)
    assert other != folder
    assert not other.is_symlink()
    folder.unlink()
    other.rmdir()


def test_valkey_keeps_what_was_written(tmp_path: Path) -> None:
    server = Valkey(tmp_path)
    server.prepare()
    assert (tmp_path / "valkey" / "valkey.conf").stat().st_mode & 0o777 == 0o600
    for round_ in range(2):
        process = server.spawn_server(subprocess.DEVNULL)
        server.wait_ready(process)
        with redis.Redis.from_url(server.url()) as client:
            assert client.get("x") == (None if round_ == 0 else b"1")
            client.set("x", "1")
        with (
            redis.Redis.from_url(server.url().replace(server.password, "wrong")) as stranger,
            pytest.raises(redis.AuthenticationError),
        ):
            stranger.ping()
        stop(process, server.stop_signal, 20)
