"""`bottega doctor`: what this installation uses and what it lacks, one line each, with the way out."""

import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import redis

from app.cli.backup import libpq_url
from app.cli.embedded import NOBODY, Valkey, path_binaries, reachable, wheel_binaries
from app.cli.environment import Layout, recall
from app.cli.migrate import ROOT, pending
from app.cli.process import SetupError
from app.core.config import get_settings
from app.core.storage import open_storage

GIGABYTE = 10**9
ENOUGH_DISK = 5 * GIGABYTE
VOCABULARY = ROOT / "worker" / "families" / "bpe_simple_vocab_16e6.txt.gz"


@dataclass(frozen=True)
class Finding:
    """`state` is `ok`, `note` (works, could be better) or `bad` (does not work)."""

    state: str
    what: str
    fix: str = ""


def doctor() -> list[Finding]:
    """Look at everything; nothing is changed."""
    return [finding for check in CHECKS for finding in check()]


def check_python() -> Iterator[Finding]:
    yield Finding("ok", f"Python {platform.python_version()} ({sys.executable})")


def check_home() -> Iterator[Finding]:
    home = get_settings().home
    nearest = next(p for p in (home, *home.parents) if p.exists())
    if not os.access(nearest, os.W_OK):
        yield Finding("bad", f"{home} cannot be written", "Set BOTTEGA_HOME to a folder of yours.")
        return
    free = shutil.disk_usage(nearest).free
    text = f"Data folder {home}, {free / GIGABYTE:.0f} GB free"
    fix = "Delete something, or set BOTTEGA_HOME to a larger disk." if free < ENOUGH_DISK else ""
    yield Finding("note" if fix else "ok", text, fix)
    if os.geteuid() == 0 and not reachable(home):
        yield Finding(
            "note",
            f"Postgres runs as user {NOBODY}, who cannot enter {home}: its data lie in /var/lib/bottega",
            "Move BOTTEGA_HOME out of a private folder, or do not run as root.",
        )


def check_postgres() -> Iterator[Finding]:
    url = get_settings().database.url or recall(Layout(get_settings().home)).get("DATABASE_URL")
    if url:
        yield _database(url)
    elif binaries := wheel_binaries() or path_binaries():
        yield Finding("ok", f"Postgres is ready to start ({binaries}); not running")
    else:
        yield Finding("bad", "No Postgres", "Run ./dev up to install it, or set DATABASE_URL.")


def _database(url: str) -> Finding:
    try:
        with psycopg.connect(libpq_url(url), connect_timeout=5) as connection:
            version = connection.info.server_version // 10000
        existing, missing = pending(url)
    except psycopg.Error as error:
        return Finding(
            "bad", f"Postgres does not answer: {str(error).strip()}", "Start it, or correct DATABASE_URL."
        )
    if not existing:
        return Finding("note", f"Postgres {version} answers, without tables", "Run: ./dev bottega migrate")
    if missing:
        return Finding(
            "note",
            f"Postgres {version} answers; its tables are old",
            "Run ./dev up, or: ./dev bottega migrate",
        )
    return Finding("ok", f"Postgres {version} answers, tables are current")


def check_valkey() -> Iterator[Finding]:
    url = get_settings().queue.redis_url or recall(Layout(get_settings().home)).get("REDIS_URL")
    if not url:
        try:
            yield Finding("ok", f"Valkey is ready to start ({Valkey.binary()}); not running")
        except SetupError as error:
            yield Finding("bad", "No Valkey", str(error))
        return
    try:
        with redis.Redis.from_url(url, socket_timeout=5) as client:
            client.ping()
        yield Finding("ok", "Valkey answers")
    except redis.RedisError as error:
        yield Finding(
            "note",
            f"Valkey does not answer ({error}): jobs still run, a few seconds later",
            "Check REDIS_URL.",
        )


def check_storage() -> Iterator[Finding]:
    settings = get_settings()
    if settings.storage_url.startswith("file://"):
        folder = Path(settings.storage_url.removeprefix("file://"))
        yield Finding("ok", f"Files are kept in {folder}")
        return
    try:
        next(iter(open_storage(settings).list("blobs")), None)
        yield Finding("ok", f"Files are kept in {settings.storage_url}")
    except Exception as error:
        yield Finding(
            "bad",
            f"The storage {settings.storage_url} does not answer: {error}",
            "Check STORAGE_URL and keys.",
        )


def check_assets() -> Iterator[Finding]:
    if (ROOT / "static" / "dist" / "manifest.json").exists():
        yield Finding("ok", "Browser assets are built")
    else:
        yield Finding("bad", "Browser assets are not built", "Run ./dev up, which builds them.")


def check_vocabulary() -> Iterator[Finding]:
    if VOCABULARY.is_file():
        yield Finding("ok", "CLIP's vocabulary is here: checkpoints in one file can be used")
    else:
        yield Finding(
            "note",
            "CLIP's vocabulary is not here: checkpoints in one file (SD 1.5, SDXL) cannot be used",
            "Run ./dev up with the network on.",
        )


def check_torch() -> Iterator[Finding]:
    if importlib.util.find_spec("torch") is None:
        yield Finding(
            "note",
            "torch is not installed: this machine cannot train or draw",
            "Run ./dev up, or add workers.",
        )
        return
    import torch

    name = f"torch {torch.__version__}"
    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        memory = f"{free / GIGABYTE:.0f} of {total / GIGABYTE:.0f} GB free"
        yield Finding("ok", f"{name} on {torch.cuda.get_device_name()}, {memory}")
    elif Path("/dev/nvidia0").exists():
        yield Finding(
            "bad",
            f"{name} cannot use the NVIDIA device of this machine",
            "Check the driver with nvidia-smi; ./dev help says how to install the CUDA build of torch.",
        )
    else:
        text = f"{name} on {os.cpu_count()} CPU cores: seconds for the starter model, hours for large ones"
        yield Finding("note", text, "Add a worker on a machine with an NVIDIA GPU for large models.")


def check_address() -> Iterator[Finding]:
    server = get_settings().server
    if server.public_url and server.public_url.startswith("http://") and "localhost" not in server.public_url:
        yield Finding(
            "note",
            f"PUBLIC_URL is {server.public_url}: passwords travel unencrypted",
            "Put a TLS proxy before it.",
        )
    if server.host not in ("127.0.0.1", "::1", "localhost") and not server.public_url:
        yield Finding(
            "note",
            f"Other machines reach port {server.port} over plain http",
            "Fine at home; use TLS elsewhere.",
        )
    running = recall(Layout(get_settings().home))
    yield Finding(
        "ok", f"Running, process {running['PID']}" if running else "Not running; start it with ./dev up"
    )


def check_chromium() -> Iterator[Finding]:
    if importlib.util.find_spec("playwright") is None:
        return
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found:
        yield Finding("ok", f"Browser for the tests: {found}")
    else:
        yield Finding(
            "note", "No Chromium: ./dev test needs one", "Install the package chromium of your system."
        )


CHECKS = (
    check_python,
    check_home,
    check_postgres,
    check_valkey,
    check_storage,
    check_assets,
    check_torch,
    check_vocabulary,
    check_address,
    check_chromium,
)
