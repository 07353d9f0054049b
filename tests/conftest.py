"""What all tests share: one real Postgres and one Valkey per run, a migrated database per test process.

`db` is a session inside a transaction that is rolled back after the test; the application's own
`unit_of_work()` joins it, so services, routes and the test see the same rows. What several
processes must see (claims, workers) takes `real_db`: a database of its own, dropped afterwards.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import Engine
from sqlalchemy.engine import make_url
from sqlalchemy.orm import Session

if TYPE_CHECKING:
    from fastapi.testclient import TestClient

# Before torch loads its threads: tests of several processes share the cores.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OMP_NUM_THREADS", "1")

for name in ("BOTTEGA_HOST", "BOTTEGA_PORT", "PUBLIC_URL", "BOTTEGA_TRUSTED_PROXIES"):
    os.environ.pop(name, None)  # what an installation here is told decides no test

LOOPBACK = ("127.", "::1", "localhost", "0.0.0.0")
SERVERS: list[tuple["subprocess.Popen[bytes]", int]] = []
HOMES: list[Path] = []


def _no_network(event: str, args: tuple[object, ...]) -> None:
    """Tests talk to this machine only."""
    if event != "socket.connect":
        return
    address = args[1]
    if isinstance(address, tuple) and not str(address[0]).startswith(LOOPBACK):
        raise ConnectionRefusedError(f"tests must not reach {address[0]}")


def make_home() -> Path:
    """A folder for one installation, reachable for Postgres' own user when the tests run as root."""
    home = Path(tempfile.mkdtemp(prefix="bottega-test-", dir="/tmp"))
    home.chmod(0o711)
    return home


def pytest_sessionstart(session: pytest.Session) -> None:
    """Start the servers once, in the process that starts the others; those inherit the addresses."""
    sys.addaudithook(_no_network)
    if hasattr(session.config, "workerinput") or session.config.option.collectonly:
        return
    from app.cli.embedded import Postgres, Valkey

    home = make_home()
    HOMES.append(home)
    os.environ["BOTTEGA_TEST_RUN"] = uuid.uuid4().hex[:8]
    os.environ["BOTTEGA_TEST_HOME"] = str(home)
    if "TEST_DATABASE_URL" not in os.environ:
        postgres = Postgres(home, durable=False)
        postgres.prepare()
        process = postgres.spawn_server(subprocess.DEVNULL)
        SERVERS.append((process, postgres.stop_signal))
        postgres.wait_ready(process)
        os.environ["TEST_DATABASE_URL"] = postgres.url("postgres")
        HOMES.append(postgres.sockets)
    valkey = Valkey(home, durable=False)
    valkey.prepare()
    process = valkey.spawn_server(subprocess.DEVNULL)
    SERVERS.append((process, valkey.stop_signal))
    valkey.wait_ready(process)
    os.environ["TEST_REDIS_URL"] = valkey.url().removesuffix("/0")


def pytest_sessionfinish(session: pytest.Session) -> None:
    from app.cli.process import stop

    for process, signum in SERVERS:
        stop(process, signum, 10)
    for home in HOMES:
        shutil.rmtree(home, ignore_errors=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest module first, or one process would be at it when the other has nothing left to do."""
    items.sort(key=lambda item: item.path.parent.name != "e2e")


def _template(server: str) -> str:
    """Name of the migrated database that all others are copied from; made once per run."""
    import fcntl

    from app.cli.embedded import create_database
    from app.cli.migrate import migrate

    name = f"template_{os.environ['BOTTEGA_TEST_RUN']}"
    ready = Path(os.environ["BOTTEGA_TEST_HOME"]) / "template.ready"
    with ready.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not ready.exists():
            create_database(server, name)
            migrate(database_url(server, name))
            ready.touch()
    return name


def database_url(server: str, name: str) -> str:
    return make_url(server).set(database=name).render_as_string(hide_password=False)


def forget_settings() -> None:
    """Let everything that is made once per process be made anew from the environment."""
    from app.core import config, db, storage

    for made in (db.get_engine, db.get_reader):
        if made.cache_info().currsize:
            made().dispose()
    makers = (db.get_engine, db.get_reader, db.get_sessionmaker, storage.get_storage)
    for cached in (config.get_settings, *makers):
        cached.cache_clear()


@pytest.fixture
def real_db(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """URL of a database of its own; the settings of this process and of its children point at it."""
    from app.cli.embedded import create_database, drop_database

    server = os.environ["TEST_DATABASE_URL"]
    name = f"real_{uuid.uuid4().hex[:12]}"
    create_database(server, name, template=_template(server))
    url = database_url(server, name)
    monkeypatch.setenv("DATABASE_URL", url)
    monkeypatch.setenv("REDIS_URL", redis_url())
    monkeypatch.setenv("STORAGE_URL", f"file://{tmp_path / 'storage'}")
    monkeypatch.setenv("BOTTEGA_HOME", str(tmp_path))
    forget_settings()
    yield url
    forget_settings()
    with suppress(Exception):
        drop_database(server, name)


def redis_url() -> str:
    """A Valkey database for this test process alone (0 for the first, as numbered by xdist)."""
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    return f"{os.environ['TEST_REDIS_URL']}/{number}"


@pytest.fixture(scope="session")
def database() -> str:
    """URL of this test process' migrated database."""
    from app.cli.embedded import create_database

    server = os.environ["TEST_DATABASE_URL"]
    name = f"tests_{os.environ['BOTTEGA_TEST_RUN']}_{os.environ.get('PYTEST_XDIST_WORKER', 'main')}"
    create_database(server, name, template=_template(server))
    return database_url(server, name)


@pytest.fixture
def settings_env(database: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The environment of an installation whose files lie in this test's folder."""
    monkeypatch.setenv("DATABASE_URL", database)
    monkeypatch.setenv("REDIS_URL", redis_url())
    monkeypatch.setenv("STORAGE_URL", f"file://{tmp_path / 'storage'}")
    monkeypatch.setenv("BOTTEGA_HOME", str(tmp_path))


@pytest.fixture
def engine(settings_env: None) -> Iterator[Engine]:
    from app.core.db import get_engine

    forget_settings()
    yield get_engine()
    forget_settings()


@pytest.fixture
def db(engine: Engine) -> Iterator[Session]:
    """A session whose commits, and those of `unit_of_work()`, end as savepoints of one transaction."""
    from app.core.db import get_sessionmaker

    with engine.connect() as connection:
        outer = connection.begin()
        factory = get_sessionmaker()
        factory.configure(bind=connection, join_transaction_mode="create_savepoint")
        session = factory()
        yield session
        session.close()
        outer.rollback()


@pytest.fixture
def client(db: Session) -> Iterator["TestClient"]:
    """The whole application, called as a browser on the same site would; nobody is logged in."""
    from fastapi.testclient import TestClient

    from app.main import create_app

    with TestClient(create_app(), headers={"sec-fetch-site": "same-origin"}) as opened:
        yield opened
