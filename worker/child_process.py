"""The supervisor's end of a child process: start it, talk to it, read its events, kill it.

Start children from a thread that lives as long as the process: the kernel's death signal
follows the thread that made them, not the process.
"""

import contextlib
import json
import logging
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from app.contract.events import EVENT, Event

log = logging.getLogger("bottega.supervise")
COMMAND = (sys.executable, "-m", "worker.child")


class Child:
    """One child. `lines` yields its events in order, and None when it has ended."""

    def __init__(self, command: Sequence[str] = COMMAND, env: Mapping[str, str] | None = None) -> None:
        self.process = subprocess.Popen(
            [*command, str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # Waiting threads sleep instead of spinning: trainings, pictures and the web share the cores.
            env={"OMP_WAIT_POLICY": "PASSIVE", **os.environ, **(env or {})},
            start_new_session=True,
            text=True,
            encoding="utf-8",
        )
        self.lines: queue.Queue[Event | dict[str, Any] | None] = queue.Queue(maxsize=1000)
        self.idle_since = time.monotonic()
        self._lock = threading.Lock()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            try:
                message = json.loads(line)
                self.lines.put(message if "facts" in message else EVENT.validate_python(message))
            except (ValueError, ValidationError) as error:
                log.error("unreadable event: %s", error)
        self.process.wait()
        self.lines.put(None)

    def send(self, message: Mapping[str, Any]) -> None:
        """Say something; a child that is gone is noticed by whoever reads its events."""
        assert self.process.stdin is not None
        with self._lock, contextlib.suppress(BrokenPipeError, ValueError):
            self.process.stdin.write(json.dumps(message) + "\n")
            self.process.stdin.flush()

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def kill(self) -> None:
        """End the child and all that it started, at once."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def close(self) -> None:
        """Kill it, wait for its end and give back its pipes."""
        self.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError, ValueError):
                    pipe.close()
