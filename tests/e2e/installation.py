"""A whole installation as `./dev up` starts it, in a folder of its own, for tests and benches."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
READY = re.compile(r"Bottega is ready: (\S+)")
LINK = re.compile(r"(http\S+/setup/\S+)")


@dataclass(frozen=True)
class Installation:
    url: str
    setup_link: str
    home: Path
    process: "subprocess.Popen[str]"
    seconds: float
    """From the start of the command to the address on the screen."""

    @property
    def environment(self) -> dict[str, str]:
        return {
            **clean_environment(),
            "BOTTEGA_HOME": str(self.home),
            "BOTTEGA_PORT": self.url.rsplit(":", 1)[1],
        }

    def bottega(self, *arguments: str, stdin: str = "", **environment: str) -> str:
        """Run the command line against this installation; gives its stdout. Errors: CalledProcessError."""
        command = [sys.executable, "-m", "app.cli.main", *arguments]
        done = subprocess.run(
            command, cwd=ROOT, env={**self.environment, **environment}, input=stdin,
            capture_output=True, text=True, timeout=900,
        )  # fmt: skip
        if done.returncode:
            raise AssertionError(
                f"bottega {' '.join(arguments)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
            )
        return done.stdout


def clean_environment() -> dict[str, str]:
    """Ours without what tests set for themselves."""
    ours = ("DATABASE_URL", "REDIS_URL", "STORAGE_URL", "OMP_NUM_THREADS", "PUBLIC_URL")
    return {k: v for k, v in os.environ.items() if k not in ours and not k.startswith("BOTTEGA_")}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(*, starter: Path | None = None, **settings: str) -> Iterator[Installation]:
    """Start everything, wait for the address, and end it all again."""
    home = Path(tempfile.mkdtemp(prefix="bottega-e2e-", dir="/tmp"))
    home.chmod(0o711)
    port = free_port()
    environment = {**clean_environment(), **settings, "BOTTEGA_HOME": str(home), "BOTTEGA_PORT": str(port)}
    if starter is not None:
        environment["BOTTEGA_STARTER"] = str(starter)
    started = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "app.cli.main", "up"],
        cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    )  # fmt: skip
    try:
        url, link = _wait_ready(process)
        yield Installation(url, link, home, process, time.monotonic() - started)
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
        shutil.rmtree(home, ignore_errors=True)


def _wait_ready(process: "subprocess.Popen[str]") -> tuple[str, str]:
    assert process.stdout is not None
    said, url = "", ""
    for line in process.stdout:
        said += line
        if found := READY.search(line):
            url = found[1]
        if url and (found := LINK.search(line)):
            _drain(process)
            return url, found[1]
    raise AssertionError(f"bottega up ended before it was ready:\n{said}")


def _drain(process: "subprocess.Popen[str]") -> None:
    """Keep reading, so that a full pipe never stops the supervisor; close it at its end."""

    def read() -> None:
        assert process.stdout is not None
        with process.stdout as lines:
            for _ in lines:
                pass

    threading.Thread(target=read, daemon=True).start()
