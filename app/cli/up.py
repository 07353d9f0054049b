"""`bottega up`: a whole installation in one terminal.

Postgres and Valkey first (unless DATABASE_URL and REDIS_URL name others), then the tables, the
starter model, the web process, and, once that answers, the workers: they load torch, which would
slow the first page down.
"""

import os
import signal
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from app.cli.embedded import Postgres, Valkey
from app.cli.environment import Layout, lock, remember, use
from app.cli.migrate import ROOT
from app.cli.prepare import greeting, install_starter_pages, local_address, prepare_tables, step
from app.cli.process import SetupError
from app.cli.supervisor import Child, Supervisor, command, describe, say
from app.core.config import Settings, get_settings

WORKERS = {"train": ("train",), "generate": ("generate", "files")}


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
        prepare_tables(layout)
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


def start_web(supervisor: Supervisor) -> None:
    settings = get_settings()
    server = settings.server
    start = command(*web_command(server.host, server.port), env=child_environment())
    web = Child("web", start, signal.SIGTERM, 8.0)
    supervisor.start(web)
    with step("Checking the starter model"):  # while the web process imports what it needs
        install_starter_pages()
    with step("Starting the web server"):
        wait_web(supervisor, web, local_address(server.host, server.port))


def web_command(host: str, port: int) -> tuple[str, ...]:
    return (
        *(sys.executable, "-m", "uvicorn", "app.main:create_app", "--factory"),
        *("--host", host, "--port", str(port), "--timeout-graceful-shutdown", "5"),
        *("--no-server-header", "--no-proxy-headers", "--no-access-log"),
    )


def child_environment() -> dict[str, str]:
    """Ours, with the source tree first on the path, whatever folder the command was given in."""
    path = os.environ.get("PYTHONPATH")
    return os.environ | {
        "PYTHONPATH": f"{ROOT}{os.pathsep}{path}" if path else str(ROOT),
        "PYTHONUNBUFFERED": "1",
    }


def _launch_workers(supervisor: Supervisor) -> list[Child]:
    env, device = child_environment(), nvidia_device()
    children = []
    for name, queues in WORKERS.items():
        options = [part for queue in queues for part in ("--queue", queue)]
        start = command(sys.executable, "-m", "worker.main", *options, "--device", device, env=env)
        children.append(Child(name, start, signal.SIGTERM, 20.0))
    for child in children:
        supervisor.launch(child)
    return children


def nvidia_device() -> str:
    """Number of the device that the workers share, or `cpu`; found without importing torch."""
    if Path("/dev/nvidia0").exists() or Path("/dev/dxg").exists():
        return os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")[0] or "0"
    return "cpu"


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
