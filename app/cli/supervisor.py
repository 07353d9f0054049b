"""Keeps a handful of processes alive: starts them, writes their logs, starts a dead one again.

Everything runs in the main thread but the log pumps, because the kernel's death signal follows
the thread that started a child. Each child has its own session, so Ctrl-C reaches only us and
the order of ending is ours: those that work first, the servers that they need last.
"""

import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from app.cli.process import kill_group, spawn

LONG_ENOUGH = 60.0
LONGEST_PAUSE = 30.0
TICK = 0.2
LOG_LIMIT = 8 << 20
LOUD = (" WARNING ", " ERROR ", " CRITICAL ", "FATAL:", "PANIC:", "Traceback (most recent call last)")


def say(text: str) -> None:
    """One line on the terminal."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


@dataclass
class Child:
    """One process to keep alive. `start` is called with the pipe that its output goes to."""

    name: str
    start: Callable[[int], "subprocess.Popen[bytes]"]
    stop_signal: int = signal.SIGTERM
    stop_seconds: float = 10.0
    loud: tuple[str, ...] = LOUD
    process: "subprocess.Popen[bytes] | None" = None
    started: float = 0.0
    restarts: int = 0
    next_start: float = 0.0
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=8))

    def pause(self) -> float:
        """Seconds before the next start: 0.5, 1, 2 … 30."""
        return min(0.5 * 2.0**self.restarts, LONGEST_PAUSE)

    @property
    def is_alive(self) -> bool:
        return self.process is not None and self.process.poll() is None


def command(
    *parts: str, env: dict[str, str], death_signal: int = signal.SIGKILL
) -> Callable[[int], "subprocess.Popen[bytes]"]:
    """A `Child.start` for a plain command."""
    return lambda output: spawn(parts, env=env, output=output, death_signal=death_signal)


class Supervisor:
    """Children in the order of their start; they end in the opposite order, equals together.

    `leftovers` are folders that are removed at the end if they are empty then.
    """

    def __init__(self, logs: Path, *, verbose: bool = False) -> None:
        self.logs = logs
        self.verbose = verbose
        self.levels: list[list[Child]] = []
        self.leftovers: list[Path] = []
        self.stopping = False
        self.impatient = False

    @property
    def children(self) -> list[Child]:
        return [child for level in self.levels for child in level]

    def catch_signals(self) -> None:
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(signum, self._on_signal)

    def _on_signal(self, *_: object) -> None:
        self.impatient = self.stopping
        self.stopping = True

    def start(self, *children: Child) -> None:
        """Start one level: processes that need all earlier levels and not each other."""
        self.levels.append(list(children))
        for child in children:
            self.launch(child)

    def launch(self, child: Child) -> None:
        child.process = child.start(subprocess.PIPE)
        child.started = time.monotonic()
        threading.Thread(target=self._pump, args=(child, child.process.stdout), daemon=True).start()

    def _pump(self, child: Child, stream: IO[bytes]) -> None:
        """Copy a child's output to its log file, and what is important to the terminal."""
        path = self.logs / f"{child.name}.log"
        if path.exists() and path.stat().st_size > LOG_LIMIT:
            path.replace(path.with_suffix(".log.1"))
        with path.open("ab", buffering=0) as log:
            for raw in stream:
                log.write(raw)
                line = raw.decode(errors="replace").rstrip()
                child.tail.append(line)
                if self.verbose or (not self.stopping and any(mark in line for mark in child.loud)):
                    say(f"[{child.name}] {line}")

    def run(self) -> None:
        """Watch until a signal asks to stop."""
        while not self.stopping:
            self.check()
            time.sleep(TICK)

    def check(self) -> None:
        """Start again what has died, after its pause."""
        now = time.monotonic()
        for child in self.children:
            if child.is_alive or self.stopping:
                continue
            if child.process is not None:
                self._report_death(child, now)
            elif now >= child.next_start:
                self.launch(child)

    def _report_death(self, child: Child, now: float) -> None:
        code = child.process.returncode if child.process else 0
        if child.process is not None:
            kill_group(child.process)
        child.restarts = 0 if now - child.started > LONG_ENOUGH else child.restarts + 1
        child.next_start = now + child.pause() / 2
        child.process = None
        say(f"[{child.name}] ended ({describe(code)}); starting it again. Log: {self.logs / child.name}.log")
        if child.restarts > 1:
            for line in child.tail:
                say(f"[{child.name}]   {line}")

    def stop(self) -> None:
        """End every child, the last level first."""
        self.stopping = True
        for level in reversed(self.levels):
            alive = [child for child in level if child.process is not None and child.is_alive]
            for child in alive:
                if child.process is not None:
                    child.process.send_signal(child.stop_signal)
            for child in alive:
                self._wait(child)
        for folder in self.leftovers:
            with suppress(OSError):
                folder.rmdir()

    def _wait(self, child: Child) -> None:
        deadline = time.monotonic() + child.stop_seconds
        while child.is_alive and time.monotonic() < deadline and not self.impatient:
            time.sleep(0.02)
        if child.process is not None:
            kill_group(child.process)


def describe(code: int) -> str:
    """An exit status in words."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"
