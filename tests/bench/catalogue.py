"""`./dev bench catalogue [MODELS]`: pages and reads of a catalogue of a million models, over HTTP.

The database is filled inside Postgres with skewed synthetic rows; the web process is started as `./dev up`
starts it. Each kind of request is asked for many times with other values, four at once, after a few that warm
up. The targets stand for each kind.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from sqlalchemy.orm import sessionmaker

from app.cli.embedded import Postgres, Valkey, free_port
from app.cli.migrate import migrate, sqlalchemy_url
from app.cli.process import spawn, stop
from app.cli.up import child_environment, web_command
from app.core.db import make_engine, unit_of_work
from app.gallery.summary import recount
from tests.bench.asking import Timings, ask
from tests.bench.filling import Size, fill
from tests.bench.questions import Catalogue, Paths, pages, reads
from tests.bench.report import write_section

P50, P99 = 15.0, 60.0
MODELS, REQUESTS, AT_ONCE = 1_000_000, 300, 4
WARM, TICK = 10, 15
Row = tuple[str, str]


@contextmanager
def servers(home: Path) -> Iterator[dict[str, str]]:
    """Postgres and Valkey as `./dev up` starts them, tables made; gives their addresses."""
    postgres, valkey = Postgres(home), Valkey(home)
    running = []
    try:
        for server in (postgres, valkey):
            server.prepare()
            running.append((server, server.spawn_server(subprocess.DEVNULL)))
            server.wait_ready(running[-1][1])
        postgres.ensure_database()
        migrate(postgres.url())
        yield {"DATABASE_URL": postgres.url(), "REDIS_URL": valkey.url()}
    finally:
        for server, process in reversed(running):
            stop(process, server.stop_signal, 30)
        shutil.rmtree(postgres.sockets, ignore_errors=True)


@contextmanager
def web(home: Path, addresses: dict[str, str], **settings: str) -> Iterator[int]:
    """The web process, with no budget of requests; gives its port."""
    port = free_port()
    environment = child_environment() | addresses | settings | {
        "BOTTEGA_HOME": str(home), "BOTTEGA_PORT": str(port),
        "BOTTEGA_LIMIT_READS_PER_MINUTE": "100000000",
    }  # fmt: skip
    with (home / "web.log").open("ab") as log:
        process = spawn(web_command("127.0.0.1", port), env=environment, output=log)
    try:
        _wait(port, process)
        yield port
    finally:
        stop(process, 15, 10)


def _wait(port: int, process: "subprocess.Popen[bytes]") -> None:
    for _ in range(600):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5).close()
            return
        except urllib.error.URLError:
            if process.poll() is not None:
                break
            time.sleep(0.1)
    sys.exit("The web process did not start.")


def count_words(url: str) -> float:
    """Seconds of what the web process' first tick would do: words in use, pictures of each model."""
    begun = time.monotonic()
    with unit_of_work(sessionmaker(make_engine(sqlalchemy_url(url)))) as db:
        recount(db)
    with psycopg.connect(url, autocommit=True) as plain:
        plain.execute("vacuum (analyze) model, term")
    return time.monotonic() - begun


def settle(url: str) -> None:
    """Wait until the database has nothing to do: a web process that starts counts words in its first tick."""
    time.sleep(TICK)
    others = "state = 'active' and pid <> pg_backend_pid() and datname is not null"
    busy = f"select from pg_stat_activity where {others}"
    with psycopg.connect(url, autocommit=True) as db:
        while db.execute(busy).rowcount:
            time.sleep(1)


def measure(port: int, kinds: dict[str, Paths]) -> dict[str, Timings]:
    found = {}
    for name, paths in kinds.items():
        ask(port, paths[-WARM:], at_once=AT_ONCE)
        found[name] = ask(port, paths, at_once=AT_ONCE)
        print(f"  {name:<40}{_figures(found[name])}", flush=True)
    return found


def _figures(timings: Timings) -> str:
    kept = "" if timings.p50 <= P50 and timings.p99 <= P99 else ", **missed**"
    return f"{timings.p50:.1f} ms, {timings.p99:.1f} ms, {timings.size / 1000:.0f} kB{kept}"


def rows(size: Size, filled: float, stored: str, found: dict[str, Timings]) -> list[Row]:
    refused = [words for timings in found.values() for words in timings.refused]
    met = all(t.p50 <= P50 and t.p99 <= P99 for t in found.values()) and not refused
    counted = (size.models, size.versions, size.files, size.images)
    return [
        ("models, versions, files, pictures", ", ".join(f"{n:,}" for n in counted)),
        ("filled within, size of the database", f"{filled:.0f} s, {stored}"),
        *((f"{name}: p50, p99, size", _figures(timings)) for name, timings in found.items()),
        ("answered with anything but 200", str(len(refused))),
        (f"all targets met (p50 {P50:g} ms, p99 {P99:g} ms each)", "yes" if met else "no"),
    ]


@contextmanager
def home_of(kept: Path | None) -> Iterator[Path]:
    """The folder of the database: one that stays, or a new one that goes."""
    home = kept or Path(tempfile.mkdtemp(prefix="bottega-bench-", dir="/tmp"))
    home.mkdir(parents=True, exist_ok=True)
    home.chmod(0o711)
    try:
        yield home
    finally:
        if not kept:
            shutil.rmtree(home, ignore_errors=True)


def fill_once(home: Path, url: str, size: Size) -> float:
    """Seconds that filling takes, or took where that folder's database is full."""
    note = home / f"filled-{size.models}"
    if not note.exists():
        note.write_text(str(fill(url, size) + count_words(url)))
    return float(note.read_text())


def run(size: Size, requests: int, only: str = "", kept: Path | None = None) -> list[Row]:
    with home_of(kept) as home, servers(home) as addresses:
        filled = fill_once(home, addresses["DATABASE_URL"], size)
        with psycopg.connect(addresses["DATABASE_URL"]) as db:
            asked = db.execute("select pg_size_pretty(pg_database_size(current_database()))").fetchone()
        catalogue = Catalogue(addresses["DATABASE_URL"], requests)
        kinds = {n: p for n, p in (pages(catalogue) | reads(catalogue)).items() if only in n}
        catalogue.db.close()
        with web(home, addresses) as port:
            settle(addresses["DATABASE_URL"])
            return rows(size, filled, str(asked[0]) if asked else "", measure(port, kinds))


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="./dev bench catalogue", description=__doc__)
    parser.add_argument("models", nargs="?", type=int, default=MODELS, help="how many models, 1000 or more")
    parser.add_argument("--requests", type=int, default=REQUESTS, help="of each kind")
    parser.add_argument("--only", default="", metavar="WORDS", help="kinds whose name holds this")
    parser.add_argument(
        "--keep", type=Path, metavar="FOLDER", help="keep the filled database there, use it again"
    )
    parser.add_argument("--print", action="store_true", help="only print, leave BENCHMARKS.md as it is")
    options = parser.parse_args(arguments)
    if options.models < 1000 or options.requests < 2:
        parser.error("At least 1000 models and 2 requests.")
    found = run(Size.of(options.models), options.requests, options.only, options.keep)
    if options.print:
        print("\n".join(f"{what:<60}{value}" for what, value in found))
        return
    command = "./dev bench catalogue" + ("" if options.models == MODELS else f" {options.models}")
    write_section("catalogue", "A catalogue of a million models", command, found, text=TEXT)


TEXT = (
    "Client, one web process, Valkey and Postgres (with an eighth of the memory, at most 1 GiB) share the "
    "cores. Told are the middle and the slowest hundredth of the times from sending a request to the last "
    "byte. Pages hold 30 models or 40 pictures, reads 20 of either. The values are drawn alike from all rows "
    "or, for model pages, from the popular ones, some more than once: nothing is written meanwhile, so what "
    "was asked before comes from the answers that are kept for everybody."
)
