"""Everything that an installation holds, in one folder, and back from it.

The database is dumped first and the objects are copied after it: objects never change, so every
one that the dump names is found. A second backup into the same folder copies only what is new.
"""

import json
import os
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg

from app.cli.embedded import find_binaries
from app.cli.migrate import migrate
from app.cli.process import SetupError
from app.core.config import get_settings
from app.core.storage import Storage, get_storage

FORMAT = 1
KEPT = ("PUBLIC_URL", "STORAGE_URL")
Report = Callable[[str], None]


def libpq_url(url: str) -> str:
    """A URL that pg_dump understands."""
    return url.replace("postgresql+psycopg://", "postgresql://", 1)


def _tool(name: str, *args: str) -> None:
    """Run pg_dump or pg_restore. Errors: SetupError with what it said."""
    try:
        done = subprocess.run([find_binaries() / name, *args], capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise SetupError(f"{name} is missing. Install the Postgres client tools.") from error
    if done.returncode:
        raise SetupError(f"{name} failed:\n{done.stderr.strip()}")


def dump_database(url: str, target: Path) -> None:
    """A compressed dump; it appears under its name only when complete."""
    part = target.with_name(target.name + ".part")
    part.unlink(missing_ok=True)
    part.touch(mode=0o600)
    _tool("pg_dump", "--format=custom", "--no-owner", f"--file={part}", f"--dbname={libpq_url(url)}")
    part.replace(target)


def backup(url: str, target: Path, say: Report) -> None:
    """Write database, objects and settings into `target`."""
    target.mkdir(parents=True, exist_ok=True, mode=0o700)
    (target / "bottega.json").unlink(missing_ok=True)
    dump_database(url, target / "database.dump")
    say(f"Database: {(target / 'database.dump').stat().st_size / 1e6:.1f} MB")
    copied, size = copy_objects(get_storage(), target / "objects")
    say(f"Files: {copied} new, {size / 1e6:.1f} MB")
    facts = {
        "format": FORMAT,
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "settings": {k: v for k, v in os.environ.items() if k.startswith("BOTTEGA_") or k in KEPT},
    }
    (target / "bottega.json").write_text(json.dumps(facts, indent=1))
    say(f"Everything is in {target}")


def copy_objects(storage: Storage, folder: Path) -> tuple[int, int]:
    """Copy what the folder does not have yet: (objects, bytes)."""
    copied = total = 0
    for key, size in storage.list(""):
        path = folder / key
        if path.exists() and path.stat().st_size == size:
            continue
        try:
            storage.fetch(key, path)
        except FileNotFoundError:
            continue  # deleted since it was listed
        copied, total = copied + 1, total + size
    return copied, total


def restore(url: str, source: Path, say: Report) -> None:
    """Fill an empty installation from a backup. Errors: SetupError when it is not empty or not a backup."""
    facts = _facts(source)
    if not is_empty(url):
        raise SetupError(
            f"This installation ({get_settings().home}) already holds data. Restore into an empty one: "
            "set BOTTEGA_HOME to a new folder."
        )
    _tool(
        "pg_restore",
        "--no-owner",
        "--exit-on-error",
        f"--dbname={libpq_url(url)}",
        str(source / "database.dump"),
    )
    say("Database restored")
    migrate(url)
    storage, count = get_storage(), 0
    for path in sorted(p for p in (source / "objects").rglob("*") if p.is_file()):
        storage.put(path.relative_to(source / "objects").as_posix(), path)
        count += 1
    say(f"{count} files restored")
    for key, value in facts["settings"].items():
        if key not in ("BOTTEGA_HOME", "STORAGE_URL") and os.environ.get(key) != value:
            say(f"It was run with {key}={value}; set that again if you want it.")


def _facts(source: Path) -> dict[str, Any]:
    path = source / "bottega.json"
    if not path.exists() or not (source / "database.dump").exists():
        raise SetupError(f"{source} holds no complete backup (bottega.json and database.dump).")
    facts: dict[str, Any] = json.loads(path.read_text())
    if facts.get("format") != FORMAT:
        raise SetupError(f"{source} was written by a newer Bottega. Update this one first.")
    return facts


def is_empty(url: str) -> bool:
    """Has the database no tables of ours?"""
    with psycopg.connect(libpq_url(url)) as connection:
        row = connection.execute("select count(*) from pg_tables where schemaname = 'public'").fetchone()
    return row is not None and row[0] == 0
