"""Where an installation keeps its things, and how other commands find its running database.

`bottega up` holds a lock on `run/lock` as long as it lives and writes the addresses of its
servers to `run/env.json`; a command that finds the lock taken uses those.
"""

import fcntl
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from app.cli.embedded import Postgres
from app.cli.process import SetupError, stop
from app.core import config, db, storage

ADDRESSES = ("DATABASE_URL", "REDIS_URL", "STORAGE_URL", "PUBLIC_URL", "BOTTEGA_HOST", "BOTTEGA_PORT")


class Layout:
    """The folders of one installation."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.run = home / "run"
        self.logs = home / "logs"
        self.backups = home / "backups"
        self.lock_file = self.run / "lock"
        self.env_file = self.run / "env.json"

    def make(self) -> None:
        """Errors: SetupError when the folder cannot be written."""
        try:
            self.home.mkdir(parents=True, exist_ok=True)  # Postgres' own user must pass through it
            for folder in (self.run, self.logs, self.backups):
                folder.mkdir(exist_ok=True)
                folder.chmod(0o700)  # dumps hold password hashes, logs hold what people asked for
        except OSError as error:
            raise SetupError(
                f"{self.home} cannot be written ({error.strerror}). Set BOTTEGA_HOME to a folder of yours."
            ) from error


def lock(layout: Layout) -> IO[str] | None:
    """The installation's lock, held until the file is closed; None when somebody else has it."""
    file = layout.lock_file.open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        return None
    return file


def remember(layout: Layout, values: dict[str, str]) -> None:
    """Write the addresses for other commands; they hold a password, so only the owner reads them."""
    part = layout.env_file.with_suffix(".part")
    part.unlink(missing_ok=True)
    part.touch(mode=0o600)
    part.write_text(json.dumps(values, indent=1))
    part.replace(layout.env_file)


def recall(layout: Layout) -> dict[str, str]:
    """What a running `bottega up` wrote; nothing when none runs here."""
    if not layout.env_file.exists():
        return {}
    held = lock(layout)
    if held is not None:
        held.close()
        return {}
    found: dict[str, str] = json.loads(layout.env_file.read_text())
    return found


def use(values: dict[str, str]) -> None:
    """Make addresses count for this process and its children."""
    os.environ.update(values)
    forget()


def forget() -> None:
    """Read the settings anew the next time they are asked for."""
    if db.get_engine.cache_info().currsize:
        db.get_engine().dispose()
    for cached in (config.get_settings, db.get_engine, db.get_sessionmaker, storage.get_storage):
        cached.cache_clear()


def adopt() -> None:
    """Take over the addresses of a running installation where the environment names none."""
    found = recall(Layout(config.get_settings().home))
    use({key: value for key, value in found.items() if key in ADDRESSES and key not in os.environ})


@contextmanager
def database() -> Iterator[str]:
    """URL of the installation's database: the one named, the running one, or started for this while."""
    adopt()
    settings = config.get_settings()
    if settings.database.url:
        yield settings.database.url
        return
    layout = Layout(settings.home)
    layout.make()
    held = lock(layout)
    if held is None:
        raise SetupError("Bottega is just starting or stopping here. Try again in a moment.")
    postgres = Postgres(settings.home)
    postgres.prepare()
    process = postgres.spawn_server(subprocess.DEVNULL)
    try:
        postgres.wait_ready(process)
        postgres.ensure_database()
        use({"DATABASE_URL": postgres.url()})
        yield postgres.url()
    finally:
        forget()
        os.environ.pop("DATABASE_URL", None)
        stop(process, signal.SIGINT, 30)
        held.close()
