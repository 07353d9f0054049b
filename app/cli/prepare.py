"""What must be true of the data before the web process starts: current tables, the starter model."""

import shutil
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from app.cli.backup import dump_database
from app.cli.environment import Layout
from app.cli.migrate import migrate, pending
from app.cli.process import SetupError
from app.cli.supervisor import say
from app.core.config import get_settings

DUMPS_KEPT = 5


@contextmanager
def step(what: str) -> Iterator[None]:
    """Say what is done while it is done, and how long it took."""
    started = time.monotonic()
    sys.stdout.write(f"{what} … ")
    sys.stdout.flush()
    try:
        yield
    except BaseException:
        say("failed")
        raise
    say(f"{time.monotonic() - started:.1f} s")


def prepare_data(layout: Layout) -> None:
    """Tables, after a dump of what is there, and the starter model."""
    prepare_tables(layout)
    with step("Checking the starter model"):
        install_starter_pages()


def prepare_tables(layout: Layout) -> None:
    """Bring the tables up to date, after a dump of what is there."""
    url = get_settings().database_url
    existing, missing = pending(url)
    if existing and missing and not get_settings().server.skip_dump:
        save_before_update(layout, url)
    if missing:
        with step("Updating the database"):
            migrate(url)


def save_before_update(layout: Layout, url: str) -> None:
    """A dump in backups/; the five newest are kept."""
    target = layout.backups / f"before-update-{datetime.now(UTC):%Y%m%d-%H%M%S}.dump"
    try:
        with step(f"Saving the database to {target}"):
            dump_database(url, target)
    except SetupError as error:
        raise SetupError(
            f"{error}\nThe database was not changed. "
            "Save it by hand, then set BOTTEGA_SKIP_DUMP=1 and start again."
        ) from error
    for old in sorted(layout.backups.glob("before-update-*.dump"))[:-DUMPS_KEPT]:
        old.unlink()


def install_starter_pages() -> None:
    """The starters' pages, and what new model families mean for the files that are here."""
    from app import models as models  # all tables, so that relationships resolve
    from app.core.db import unit_of_work
    from app.core.storage import get_storage
    from app.gallery.families import refresh_families
    from app.gallery.starter import install_starters

    with unit_of_work() as db:
        install_starters(db, get_storage())
        refresh_families(db, get_storage())


def local_address(host: str, port: int) -> str:
    """The address that this machine itself reaches the server by."""
    near = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, host)
    return f"http://{near}:{port}"


def setup_link() -> str | None:
    """Address that makes the first admin, once; None when there is one."""
    from app.accounts.links import create_setup_link
    from app.core.db import unit_of_work

    with unit_of_work() as db:
        path = create_setup_link(db)
    return f"{public_address()}{path}" if path else None


def public_address() -> str:
    server = get_settings().server
    return (server.public_url or local_address(server.host, server.port)).rstrip("/")


def greeting() -> str:
    """Where it is, and the link that makes the first account."""
    server = get_settings().server
    link = setup_link()
    lines = ["", f"Bottega is ready: {public_address()}"]
    if server.host in ("0.0.0.0", "::") and not server.public_url:
        lines.append(
            f"From other machines: http://{socket.gethostname()}:{server.port} (or this machine's address)"
        )
    if link:
        lines.append(f"Make the admin account with this link (it works once): {link}")
    free = shutil.disk_usage(get_settings().home).free
    lines += [f"Data: {get_settings().home} ({free / 1e9:.0f} GB free). Ctrl-C stops everything.", ""]
    return "\n".join(lines)
