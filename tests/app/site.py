"""The web process on a port of its own, for tests that look through a browser."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from playwright.sync_api import BrowserContext

from app.accounts import sessions
from app.accounts.models import User
from app.core.config import get_settings
from app.core.db import unit_of_work


@contextmanager
def serving() -> Iterator[str]:
    """Its address, as long as the block runs."""
    from app.main import create_app

    server = uvicorn.Server(uvicorn.Config(create_app(), port=0, log_level="warning", ws="none"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        _wait_for_background()


def _wait_for_background() -> None:
    """A round that is under way holds a connection, and the database of the test is about to go."""
    for thread in threading.enumerate():
        if thread.name in ("reaper", "notices"):
            thread.join()


def log_in(context: BrowserContext, address: str, user_id: int) -> None:
    """From now on this browser has logged in as that person."""
    with unit_of_work() as db:
        secret = sessions.create_session(db, db.get_one(User, user_id), agent="Chromium")
    name = f"bottega_{get_settings().installation}_{address.rsplit(':', 1)[1]}"
    context.add_cookies([{"name": name, "value": secret, "url": address}])
