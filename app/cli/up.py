"""`bottega up`: a whole installation in one terminal.

Postgres and Valkey first (unless DATABASE_URL and REDIS_URL name others), then the tables, the
starter model, the web process, and, once that answers, the workers: they load torch, which would
slow the first page down.
"""

import os
import shutil
import signal
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from app.cli.backup import dump_database
from app.cli.embedded import Postgres, Valkey
from app.cli.environment import Layout, lock, remember, use
from app.cli.migrate import ROOT, migrate, pending
from app.cli.process import SetupError
from app.cli.supervisor import Child, Supervisor, command, describe, say
from app.core.config import Settings, get_settings

DUMPS_KEPT = 5
TRAIN = ("-m", "worker.main", "--queue", "train")
GENERATE = ("-m", "worker.main", "--queue", "generate", "--queue", "files")


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


def up(*, verbose: bool = False, workers: bool = True) -> None:
    """Run until a signal says stop. Errors: SetupError when something cannot start."""
    settings = get_settings()
    layout = Layout(settings.home)
    layout.make()
    held = lock(layout)
    if held is None:
        raise SetupError(
            f"Bottega already runs with {settings.home}. Stop it, or set BOTTEGA_HOME to another folder."
        )
    check_port(settings.server.host, settings.server.port)
    supervisor = Supervisor(layout.logs, verbose=verbose)
    supervisor.catch_signals()
    try:
        start_servers(supervisor, settings)
        prepare_data(layout)
        start_web(supervisor)
        if workers and not supervisor.stopping:
            supervisor.levels[-1] += _launch_workers(supervisor)
        if not supervisor.stopping:
            say(greeting())
        supervisor.run()
        say("Stopping …")
    finally:
        supervisor.stop()
        layout.env_file.unlink(missing_ok=True)
        held.close()


def check_port(host: str, port: int) -> None:
    """Errors: SetupError when the web address is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise SetupError(
                f"{host}:{port} cannot be used ({error.strerror}). Another program may have it: "
                "set BOTTEGA_PORT to another number, e.g. BOTTEGA_PORT=8001 ./dev up"
            ) from error


def start_servers(supervisor: Supervisor, settings: Settings) -> None:
    """Postgres and Valkey where none is named; their addresses become this process' environment."""
    found = {"BOTTEGA_HOME": str(settings.home)}
    if not settings.database.url:
        with step("Starting Postgres"):
            found["DATABASE_URL"] = start_postgres(supervisor, settings.home)
    if not settings.queue.redis_url:
        with step("Starting Valkey"):
            found["REDIS_URL"] = start_valkey(supervisor, settings.home)
    use(found)
    settings = get_settings()
    remember(
        Layout(settings.home),
        {
            "DATABASE_URL": settings.database.url or "",
            "REDIS_URL": settings.queue.redis_url or "",
            "STORAGE_URL": settings.storage_url,
            "BOTTEGA_HOST": settings.server.host,
            "BOTTEGA_PORT": str(settings.server.port),
            "PID": str(os.getpid()),
        },
    )


def start_postgres(supervisor: Supervisor, home: Path) -> str:
    server = Postgres(home)
    supervisor.leftovers.append(server.sockets)
    server.prepare()
    child = Child("postgres", server.spawn_server, server.stop_signal, 30.0, loud=("PANIC:",))
    supervisor.start(child)
    if child.process is not None:
        _or_log(supervisor, child, lambda: server.wait_ready(child.process))  # type: ignore[arg-type]
    server.ensure_database()
    return server.url()


def start_valkey(supervisor: Supervisor, home: Path) -> str:
    server = Valkey(home)
    server.prepare()
    child = Child("valkey", server.spawn_server, server.stop_signal, 10.0, loud=("# Fatal",))
    supervisor.start(child)
    if child.process is not None:
        _or_log(supervisor, child, lambda: server.wait_ready(child.process))  # type: ignore[arg-type]
    return server.url()


def _or_log(supervisor: Supervisor, child: Child, wait: Callable[[], None]) -> None:
    try:
        wait()
    except SetupError as error:
        time.sleep(0.2)
        raise SetupError(
            f"{error}\n" + "\n".join(child.tail) + f"\nLog: {supervisor.logs / child.name}.log"
        ) from error


def prepare_data(layout: Layout) -> None:
    """Tables, after a dump of what is there, and the starter model."""
    url = get_settings().database_url
    existing, missing = pending(url)
    if existing and missing:
        target = layout.backups / f"before-update-{datetime.now(UTC):%Y%m%d-%H%M%S}.dump"
        with step(f"Saving the database to {target}"):
            dump_database(url, target)
        for old in sorted(layout.backups.glob("before-update-*.dump"))[:-DUMPS_KEPT]:
            old.unlink()
    if missing:
        with step("Updating the database"):
            migrate(url)
    with step("Checking the starter model"):
        install_starter()


def install_starter() -> None:
    from app import models as models  # all tables, so that relationships resolve
    from app.core.db import unit_of_work
    from app.core.storage import get_storage
    from app.gallery.starter import install_starter as install

    with unit_of_work() as db:
        install(db, get_storage())


def start_web(supervisor: Supervisor) -> None:
    settings = get_settings()
    server = settings.server
    parts = (
        *(sys.executable, "-m", "uvicorn", "app.main:create_app", "--factory"),
        *("--host", server.host, "--port", str(server.port), "--timeout-graceful-shutdown", "5"),
        *("--no-server-header", "--no-proxy-headers", "--no-access-log"),
    )
    web = Child("web", command(*parts, env=child_environment()), signal.SIGTERM, 8.0)
    with step("Starting the web server"):
        supervisor.start(web)
        wait_web(supervisor, web, local_address(server.host, server.port))


def child_environment() -> dict[str, str]:
    """Ours, with the source tree first on the path, whatever folder the command was given in."""
    path = os.environ.get("PYTHONPATH")
    return os.environ | {
        "PYTHONPATH": f"{ROOT}{os.pathsep}{path}" if path else str(ROOT),
        "PYTHONUNBUFFERED": "1",
    }


def _launch_workers(supervisor: Supervisor) -> list[Child]:
    env = child_environment()
    children = [
        Child(name, command(sys.executable, *parts, env=env), signal.SIGTERM, 20.0)
        for name, parts in (("train", TRAIN), ("generate", GENERATE))
    ]
    for child in children:
        supervisor.launch(child)
    return children


def local_address(host: str, port: int) -> str:
    """The address that this machine itself reaches the server by."""
    near = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, host)
    return f"http://{near}:{port}"


def wait_web(supervisor: Supervisor, web: Child, address: str, timeout: float = 90.0) -> None:
    deadline = time.monotonic() + timeout
    while not supervisor.stopping:
        try:
            urllib.request.urlopen(f"{address}/healthz", timeout=5).close()  # noqa: S310 -- our own address
            return
        except urllib.error.HTTPError as error:
            raise SetupError(
                f"The web server answers {error.code}. Log: {supervisor.logs}/web.log"
            ) from error
        except OSError:
            if not web.is_alive or time.monotonic() > deadline:
                code = web.process.returncode if web.process and web.process.returncode is not None else 0
                time.sleep(0.2)
                raise SetupError(
                    f"The web server did not start ({describe(code)}).\n" + "\n".join(web.tail)
                    + f"\nLog: {supervisor.logs}/web.log"
                ) from None  # fmt: skip
        time.sleep(0.05)


def greeting() -> str:
    """Where it is, and the link that makes the first account."""
    from app.accounts.links import create_setup_link
    from app.core.db import unit_of_work

    server = get_settings().server
    address = (server.public_url or local_address(server.host, server.port)).rstrip("/")
    with unit_of_work() as db:
        link = create_setup_link(db)
    lines = ["", f"Bottega is ready: {address}"]
    if server.host in ("0.0.0.0", "::") and not server.public_url:
        lines.append(
            f"From other machines: http://{socket.gethostname()}:{server.port} (or this machine's address)"
        )
    if link:
        lines.append(f"Make the admin account with this link (it works once): {address}{link}")
    free = shutil.disk_usage(get_settings().home).free
    lines += [f"Data: {get_settings().home} ({free / 1e9:.0f} GB free). Ctrl-C stops everything.", ""]
    return "\n".join(lines)
