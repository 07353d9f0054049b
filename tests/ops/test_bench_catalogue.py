"""The bench of a large catalogue, at a small size: its rows are legal, all that it asks for is answered."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text

from app.core.db import unit_of_work
from app.gallery.summary import recount
from app.main import create_app
from tests.bench import __main__ as bench
from tests.bench import catalogue as module
from tests.bench.asking import Timings, ask
from tests.bench.filling import Size, fill
from tests.bench.questions import Catalogue, pages, reads

COUNTED = ("model", "model_version", "model_file", "image")


def test_what_is_asked_is_answered(real_db: str) -> None:
    """One request of each kind; the counts are those that were asked for, and every version has its file."""
    libpq = real_db.replace("+psycopg", "")
    fill(libpq, Size.of(200))
    with unit_of_work() as db:
        counts = [db.scalar(text(f"select count(*) from {table}")) for table in COUNTED]
        assert counts == [200, 300, 600, 200]
        bare = "not exists (select from model_file where version_id = model_version.id)"
        assert db.scalar(text(f"select count(*) from model_version where {bare}")) == 0
        recount(db)
    catalogue = Catalogue(libpq, 2)
    kinds = pages(catalogue) | reads(catalogue)
    catalogue.db.close()
    with TestClient(create_app()) as client:
        answers = {name: client.get(paths[0]).status_code for name, paths in kinds.items()}
    assert answers == dict.fromkeys(kinds, 200)
    assert len(kinds) == 33


class _Slow(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        status = 404 if self.path == "/missing" else 200
        self.send_response(status)
        self.send_header("Content-Length", "5")
        self.end_headers()
        self.wfile.write(b"12345")

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def port() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Slow) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def test_every_request_is_timed(port: int) -> None:
    found = ask(port, ["/a", "/b", "/missing", "/c", "/d"])
    assert 0 < found.p50 <= found.p99 <= found.most
    assert (found.size, found.refused) == (5, ("404 /missing",))


def test_rows_say_what_missed_its_target() -> None:
    quick, slow = Timings(1.0, 2.0, 3.0, 10_000), Timings(16.0, 59.0, 70.0, 2000, ("500 /x",))
    rows = dict(module.rows(Size.of(2000), 12.4, "30 MB", {"home": quick, "pictures": slow}))
    assert rows["models, versions, files, pictures"] == "2,000, 3,000, 6,000, 2,000"
    assert rows["home: p50, p99, size"] == "1.0 ms, 2.0 ms, 10 kB"
    assert rows["pictures: p50, p99, size"] == "16.0 ms, 59.0 ms, 2 kB, **missed**"
    assert rows["answered with anything but 200"] == "1"
    assert rows["all targets met (p50 15 ms, p99 60 ms each)"] == "no"
    assert {"catalogue", "schemathesis"} <= set(bench.names())
