"""`bottega up` for real: two installations beside each other, killed and ended in every way."""

import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import psycopg
import pytest

from app.cli.embedded import free_port
from app.cli.environment import Layout
from tests.ops.helpers import ROOT, clean_environment, running, wait_for

pytestmark = pytest.mark.slow


def status_of(address: str) -> int:
    with urllib.request.urlopen(address, timeout=30) as answer:
        return int(answer.status)


def bottega(home: Path, port: int, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "app.cli.main", *arguments],
        cwd=ROOT,
        env=clean_environment(home, port),
        capture_output=True,
        text=True,
        check=False,
    )


def test_two_installations_beside_each_other(home: Path, second_home: Path) -> None:
    one, two = free_port(), free_port()
    with running(home, one, "--no-workers") as first, running(second_home, two, "--no-workers") as second:
        for installation in (first, second):
            installation.wait_ready()
            assert status_of(f"{installation.address}/healthz") == 200
            assert status_of(installation.setup_link()) == 200
        assert first.setup_link() != second.setup_link()

        # a command of the same home finds the running database; a second `up` is refused
        assert "Running, process" in bottega(home, one, "doctor").stdout
        refused = bottega(home, one, "up")
        assert refused.returncode == 1
        assert "already runs" in refused.stderr

        # killed without warning, nothing of the first is left, and the second does not notice
        first.process.kill()
        first.process.wait()
        wait_for(lambda: not first.pids)
        assert status_of(f"{second.address}/healthz") == 200

        second.process.send_signal(signal.SIGINT)
        assert second.process.wait(180) == 0
        wait_for(lambda: not second.pids)
        assert not Layout(second_home).env_file.exists()

    # after the kill it starts again with the data that it had
    with running(home, one, "--no-workers") as again:
        again.wait_ready()
        assert "Updating the database" not in again.output


def test_workers_come_back_and_go_with_their_parent(home: Path) -> None:
    with running(home, free_port()) as installation:
        installation.wait_ready()
        wait_for(lambda: installation.pid_of("--queue train"))
        worker, web = installation.pid_of("--queue train"), installation.pid_of("uvicorn")
        assert worker is not None
        assert web is not None
        os.kill(worker, signal.SIGKILL)
        os.kill(web, signal.SIGKILL)
        wait_for(lambda: installation.pid_of("--queue train") not in (None, worker))
        wait_for(lambda: installation.pid_of("uvicorn") not in (None, web))
        wait_for(lambda: "[web] ended (killed by SIGKILL)" in installation.output)
        installation.process.kill()
        installation.process.wait()
        wait_for(lambda: not installation.pids)


def test_a_taken_port_is_said_before_anything_starts(home: Path) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        refused = bottega(home, port, "up")
    assert refused.returncode == 1
    assert "BOTTEGA_PORT" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not (home / "postgres").exists()


def test_the_database_is_saved_before_an_update(home: Path) -> None:
    """A database one migration behind is dumped, then brought up to date."""
    assert bottega(home, 1, "migrate").returncode == 0
    assert list(Layout(home).backups.iterdir()) == []
    from app.cli.embedded import Postgres
    from app.cli.process import stop

    server = Postgres(home)
    process = server.spawn_server(subprocess.DEVNULL)
    server.wait_ready(process)
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute("drop schema public cascade")
        connection.execute("create schema public")
        connection.execute("create table alembic_version (version_num varchar(32) primary key)")
        connection.execute("insert into alembic_version values ('0000')")
        connection.execute("create table precious (words text)")
    stop(process, server.stop_signal, 30)
    failed = bottega(home, 1, "migrate")
    assert "Saving the database" in failed.stdout
    dumps = list(Layout(home).backups.iterdir())
    assert len(dumps) == 1
    listing = subprocess.run(
        [server.binaries / "pg_restore", "--list", dumps[0]], capture_output=True, text=True, check=True
    )
    assert "precious" in listing.stdout
