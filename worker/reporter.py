"""How a running job speaks outwards, hears wishes and shares its device: never a database.

`PipeReporter` runs in the child process of a job: one JSON object a line to its supervisor.
`PrintReporter` serves `python -m worker.cli`. `NullReporter` keeps what it heard, for tests.
"""

import sys
import threading
from collections import deque
from collections.abc import Callable
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

    def breathe(self) -> None:
        """Called once a step, between steps: may wait while another job has its turn on the device."""
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

    def breathe(self) -> None:
        """There is nobody to wait for."""


class PipeReporter:
    """JSON lines out, `commands` in: somebody else fills them from a pipe.

    `turn` waits for the device where another job wants it too.
    """

    def __init__(self, out: IO[str], commands: deque[Command], turn: Callable[[], None]) -> None:
        self._out = out
        self._lock = threading.Lock()
        self._commands = commands
        self._turn = turn

    def report(self, event: Event) -> None:
        with self._lock:
            self._out.write(event.model_dump_json() + "\n")
            self._out.flush()
        if isinstance(event, Progress):
            self.breathe()

    def command(self) -> Command | None:
        return self._commands.popleft() if self._commands else None

    def breathe(self) -> None:
        self._turn()


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
        self._wishes: deque[Command] = deque()
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

    def pause(self) -> None:
        """Ask the job to save and to stop at its next step. May be called in a signal handler."""
        self._wishes.append("pause")

    def command(self) -> Command | None:
        return self._wishes.popleft() if self._wishes else None

    def breathe(self) -> None:
        """There is nobody to wait for."""

    def close(self) -> None:
        self._bar.stop()
