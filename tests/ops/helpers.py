"""Processes of real installations, seen from outside."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def wait_for(what: Callable[[], object], seconds: float = 180.0) -> None:
    """Return once `what()` is true. Errors: AssertionError after `seconds`."""
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s in vain"
        time.sleep(0.1)


def is_alive(pid: int) -> bool:
    """Is the process there and no zombie?"""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def pids_of(mark: str) -> dict[int, str]:
    """Every living process whose command line or environment holds `mark`, but for this one."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            environment = (folder / "environ").read_bytes().decode(errors="replace")
        except OSError:
            continue
        pid = int(folder.name)
        if pid != os.getpid() and is_alive(pid) and (mark in command or mark in environment):
            found[pid] = command.strip()
    return found


def clean_environment(home: Path, port: int) -> dict[str, str]:
    """What a person's shell would hand over: nothing of the test run's own settings."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("BOTTEGA_", "TEST_", "PYTEST_"))}
    for name in ("DATABASE_URL", "REDIS_URL", "STORAGE_URL", "PUBLIC_URL"):
        kept.pop(name, None)
    return kept | {"BOTTEGA_HOME": str(home), "BOTTEGA_PORT": str(port), "OMP_NUM_THREADS": "1"}


@dataclass
class Installation:
    """A running `bottega up`."""

    home: Path
    port: int
    process: "subprocess.Popen[bytes]"
    log: Path

    @property
    def output(self) -> str:
        return self.log.read_text()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pids(self) -> dict[int, str]:
        return pids_of(str(self.home))

    def pid_of(self, part: str) -> int | None:
        return next((pid for pid, line in self.pids.items() if part in line), None)

    def wait_ready(self) -> None:
        wait_for(lambda: "is ready" in self.output or self.process.poll() is not None)
        assert self.process.poll() is None, self.output

    def setup_link(self) -> str:
        found = re.search(r"http://\S+/setup/\S+", self.output)
        assert found, self.output
        return found.group(0)


@contextmanager
def running(home: Path, port: int, *options: str, **env: str) -> Iterator[Installation]:
    """Start `bottega up` and end it, whatever happens."""
    log = home.with_name(f"{home.name}-{port}.log")
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "app.cli.main", "up", *options],
            cwd=ROOT,
            env=clean_environment(home, port) | env,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    installation = Installation(home, port, process, log)
    try:
        yield installation
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(120)
            except subprocess.TimeoutExpired:
                process.kill()
        process.wait()
        log.unlink()
