"""Nothing outlives the supervisor, and what dies comes back. Real servers, real signals."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from app.cli.supervisor import Child, describe
from tests.ops.helpers import ROOT, is_alive, wait_for

PROGRAM = """
import json, os, sys
from pathlib import Path
from app.cli.embedded import Postgres
from app.cli.supervisor import Child, Supervisor, command
from app.cli.up import start_postgres, start_valkey

home = Path(sys.argv[1])
(home / "logs").mkdir()
supervisor = Supervisor(home / "logs")
supervisor.catch_signals()
url = start_postgres(supervisor, home)
start_valkey(supervisor, home)
sleeper = "import signal, subprocess, sys, time; print('up', flush=True); time.sleep(600)"
stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
env = dict(os.environ)
supervisor.start(
    Child("sleeper", command(sys.executable, "-c", sleeper, env=env)),
    Child("stubborn", command(sys.executable, "-c", stubborn, env=env), stop_seconds=0.5),
)
def note():
    pids = {c.name: c.process.pid for c in supervisor.children if c.process}
    part = home / "pids.part"
    part.write_text(json.dumps({"url": url, "pids": pids}))
    part.replace(home / "pids.json")
while not supervisor.stopping:
    note()
    supervisor.check()
    __import__("time").sleep(0.05)
supervisor.stop()
"""


class Family:
    """The program above and its children."""

    def __init__(self, home: Path) -> None:
        self.notes = home / "pids.json"
        self.process = subprocess.Popen([sys.executable, "-c", PROGRAM, str(home)], cwd=ROOT)
        wait_for(self.notes.exists)
        wait_for(lambda: len(self.pids) == 4)

    @property
    def pids(self) -> dict[str, int]:
        found: dict[str, int] = json.loads(self.notes.read_text())["pids"]
        return found

    @property
    def url(self) -> str:
        return str(json.loads(self.notes.read_text())["url"])


@pytest.fixture
def family(home: Path) -> Iterator[Family]:
    started = Family(home)
    yield started
    if started.process.poll() is None:
        started.process.kill()
    started.process.wait()
    wait_for(lambda: not any(is_alive(pid) for pid in started.pids.values()))


def test_nothing_is_left_when_the_parent_is_killed(family: Family) -> None:
    pids = list(family.pids.values())
    assert all(is_alive(pid) for pid in pids)
    family.process.kill()
    wait_for(lambda: not any(is_alive(pid) for pid in pids))


def test_a_polite_end_stops_everything_even_the_stubborn(family: Family) -> None:
    pids = list(family.pids.values())
    family.process.send_signal(signal.SIGINT)
    assert family.process.wait(180) == 0
    assert not any(is_alive(pid) for pid in pids)


def test_a_killed_child_comes_back(family: Family) -> None:
    before = family.pids
    os.kill(before["sleeper"], signal.SIGKILL)
    wait_for(lambda: family.pids.get("sleeper") not in (None, before["sleeper"]))
    assert family.pids["postgres"] == before["postgres"]


def test_a_killed_postgres_comes_back_with_its_rows(family: Family) -> None:
    with psycopg.connect(family.url, autocommit=True) as connection:
        connection.execute("create table kept (n int)")
        connection.execute("insert into kept select generate_series(1, 1000)")
    old = family.pids["postgres"]
    os.kill(old, signal.SIGKILL)
    wait_for(lambda: family.pids.get("postgres") not in (None, old))

    def count() -> int:
        try:
            with psycopg.connect(family.url) as connection:
                row = connection.execute("select count(*) from kept").fetchone()
                return row[0] if row else 0
        except psycopg.OperationalError:
            return -1

    wait_for(lambda: count() == 1000)


def test_pauses_grow_to_half_a_minute() -> None:
    child = Child("x", lambda output: subprocess.Popen(["true"], stdout=output))
    pauses = []
    for restarts in range(9):
        child.restarts = restarts
        pauses.append(child.pause())
    assert pauses == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]


def test_exit_codes_in_words() -> None:
    assert describe(3) == "exit code 3"
    assert describe(-9) == "killed by SIGKILL"
    assert describe(-200) == "killed by signal 200"
