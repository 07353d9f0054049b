"""How a running job speaks outwards and hears wishes: two small verbs, never a database.

`PipeReporter` runs in the child process of a job: one JSON object a line to its supervisor.
`PrintReporter` serves `python -m worker.cli`. `NullReporter` keeps what it heard, for tests.
"""

import json
import sys
import threading
from collections import deque
from typing import IO, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from app.contract.events import Command, Event, LogLine, Metric, Progress


class Reporter(Protocol):
    def report(self, event: Event) -> None:
        """Tell the outside what happened. Files that the event names are complete by now."""
        ...

    def command(self) -> Command | None:
        """Take the oldest wish that has not been taken, or None. Never blocks."""
        ...


class NullReporter:
    """Keeps events in `events` and hands out the `commands` it was given."""

    def __init__(self, commands: list[Command] | None = None) -> None:
        self.events: list[Event] = []
        self._commands = deque(commands or [])

    def report(self, event: Event) -> None:
        self.events.append(event)

    def command(self) -> Command | None:
        return self._commands.popleft() if self._commands else None


class PipeReporter:
    """JSON lines out; wishes in, read by a thread because reading a pipe blocks."""

    def __init__(self, out: IO[str], wishes: IO[str]) -> None:
        self._out = out
        self._lock = threading.Lock()
        self._commands: deque[Command] = deque()
        threading.Thread(target=self._listen, args=(wishes,), daemon=True).start()

    def _listen(self, wishes: IO[str]) -> None:
        for line in wishes:
            if line.strip():
                self._commands.append(json.loads(line)["command"])

    def report(self, event: Event) -> None:
        with self._lock:
            self._out.write(event.model_dump_json() + "\n")
            self._out.flush()

    def command(self) -> Command | None:
        return self._commands.popleft() if self._commands else None


class PrintReporter:
    """A progress bar on the terminal, log lines above it."""

    def __init__(self) -> None:
        self._console = Console(file=sys.stderr)
        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=self._console,
        )
        self._task: TaskID | None = None
        self._bar.start()

    def report(self, event: Event) -> None:
        match event:
            case Progress():
                self._advance(event)
            case Metric() if self._task is not None:
                self._bar.update(self._task, note=f"loss {event.loss:.4f}")
            case LogLine():
                self._console.print(event.message)
            case _:
                pass

    def _advance(self, event: Progress) -> None:
        if self._task is None:
            self._task = self._bar.add_task(event.phase, total=event.total or None, note="")
        self._bar.update(
            self._task,
            description=event.phase,
            total=event.total or None,
            completed=event.current,
        )

    def command(self) -> Command | None:
        return None

    def close(self) -> None:
        self._bar.stop()
