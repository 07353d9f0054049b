"""The process that does a job: a fresh interpreter, the only one that imports torch.

It knows neither database nor storage. Its supervisor sends one JSON object a line: a job with
the local paths of its files, commands, and a sign of life with each heartbeat; it answers with
events, one JSON object a line. It dies with its supervisor, and when no sign of life has come for
as long as the lease lasts: then somebody else may be doing the job already.
"""

import ctypes
import json
import logging
import os
import queue
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from app.contract.events import Command, Event, Finished, LogLine
from app.contract.jobs import JOB, GenerateJob, TrainJob
from app.core.logs import setup_logs
from worker.device_lock import GENERATE_SECONDS, TRAIN_SECONDS, DeviceTurns
from worker.reporter import PipeReporter
from worker.room import Room

log = logging.getLogger("bottega.child")
PR_SET_PDEATHSIG = 1
ROOM_SECONDS = 120.0
"""A training waits so long for memory that drawing keeps; then it tries with what there is."""
AnyJob = TrainJob | GenerateJob


@dataclass(frozen=True)
class Task:
    """What a runner gets: the job, local paths by sha256, a folder to write into, the last save."""

    job: Any
    files: dict[str, Path]
    out: Path
    reporter: PipeReporter
    turns: DeviceTurns
    """To be held while the device is in use; importing torch does not use it."""
    resume: Path | None = None
    resume_seconds: float = 180.0
    """How often a training leaves a resume point."""
    full_while: str | None = None
    """The phase in which an earlier process was killed because memory was full."""
    locks: Path = Path()
    """Folder of the device's locks."""
    device: str = "cpu"
    """What the worker calls the device: a number, or `cpu`."""


class TaskReporter(PipeReporter):
    """Keeps back the job's last word: it is sent when the device is free for the next job."""

    def report(self, event: Event) -> None:
        if not isinstance(event, Finished):
            super().report(event)

    def say_last(self, event: Finished) -> None:
        super().report(event)


Runner = Callable[[Task], Finished]


def run_train(task: Task) -> Finished:
    from worker.families.catalog import load
    from worker.training.recipe import train

    family = load(task.job.base.family)
    os.nice(5)  # the pages stay quick on a machine that trains on its CPU
    with make_room(task), task.turns:
        return train(
            task.job,
            family,
            task.files,
            task.out,
            task.reporter,
            resume=task.resume,
            resume_seconds=task.resume_seconds,
            full_while=task.full_while,
        )


@contextmanager
def make_room(task: Task) -> Iterator[None]:
    """Ask for the memory of models that drawing keeps on this device, if there is too little without."""
    from worker.device import choose_device, free_memory
    from worker.families.catalog import specs
    from worker.families.memory import needs

    device, room = choose_device(), Room(task.locks, task.device)
    try:
        found = needs(specs()[task.job.base.family], task.job, device.type)
        if (found is None or found.peak > free_memory(device)) and not room.ask(patience=0.0):
            task.reporter.report(LogLine(message="Waiting for the memory of models that drawing keeps."))
            room.ask(ROOM_SECONDS)
        yield
    finally:
        room.close()


def run_generate(task: Task) -> Finished:
    from worker.inference.generate import run_generate as generate

    with _keeping(task).at_work() as pool, task.turns:
        return generate(task.job, task.files, task.out, task.reporter, pool)


_kept: list[Any] = []


def _keeping(task: Task) -> Any:
    """What this process keeps from job to job."""
    if not _kept:
        from worker.keeping import Keeping

        _kept.append(Keeping(task.locks, task.device))
    return _kept[0]


RUNNERS: Mapping[str, Runner] = {"train": run_train, "generate": run_generate}


@dataclass
class Inbox:
    """What the supervisor says, sorted by a thread: reading a pipe blocks."""

    lines: IO[str]
    tasks: "queue.Queue[dict[str, Any]]" = field(default_factory=queue.Queue)
    commands: deque[Command] = field(default_factory=deque)
    current: str | None = None
    deadline: float | None = None
    """Both belong to the job that was read last; what comes late for the one before is dropped."""

    def start(self) -> None:
        for work in (self._listen, self._watch):
            threading.Thread(target=work, daemon=True).start()

    def _listen(self) -> None:
        for line in self.lines:
            message = json.loads(line)
            self._sort(message)
        os._exit(1)  # the supervisor is gone

    def _sort(self, message: dict[str, Any]) -> None:
        if "job" in message:
            self.current = message["id"]
            self.deadline = time.monotonic() + float(message["alive"])
            self.tasks.put(message)
        elif "facts" in message:
            self.tasks.put(message)
        elif message.get("id") == self.current:
            if "alive" in message:
                self.deadline = time.monotonic() + float(message["alive"])
            if "command" in message:
                self.commands.append(message["command"])

    def end(self) -> None:
        """No job is at work: nothing to hear and no lease to watch."""
        self.current = self.deadline = None
        self.commands.clear()

    def _watch(self) -> None:
        while True:
            time.sleep(0.2)
            deadline = self.deadline
            if deadline is not None and time.monotonic() > deadline:
                log.error("no sign of life from the supervisor: stopping")
                os._exit(2)


def die_with(parent: int) -> None:
    """Ask the kernel to end this process with its parent, and look whether that is still there."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(1)


def take_stdout() -> IO[str]:
    """The pipe to the supervisor for ourselves alone; what libraries print goes to stderr."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return out


def run_task(message: dict[str, Any], runners: Mapping[str, Runner], out: IO[str], inbox: Inbox) -> None:
    """Do one job, in turns with others on the device, and report its last word."""
    job = JOB.validate_python(message["job"])
    files = {sha256: Path(path) for sha256, path in message["files"].items()}
    seconds = TRAIN_SECONDS if job.kind == "train" else GENERATE_SECONDS
    turns = DeviceTurns(Path(message["locks"]), message["device"], seconds)
    reporter = TaskReporter(out, inbox.commands, turns.breathe)
    resume = Path(message["resume"]) if message.get("resume") else None
    folder = Path(message["out"])
    folder.mkdir(parents=True, exist_ok=True)
    try:
        task = Task(
            job,
            files,
            folder,
            reporter,
            turns,
            resume=resume,
            resume_seconds=float(message["resume_seconds"]),
            full_while=message.get("full_while"),
            locks=Path(message["locks"]),
            device=message["device"],
        )
        last_word = runners[job.kind](task)
    except Exception as error:
        log.exception("the job failed")
        last_word = _explain(error, reporter)
    finally:
        turns.close()
    inbox.end()
    reporter.say_last(last_word)


def _explain(error: Exception, reporter: PipeReporter) -> Finished:
    words = f"Something went wrong while this job ran ({type(error).__name__}). The server's log says more."
    reporter.report(LogLine(level="error", message=f"{type(error).__name__}: {error}"[:2000]))
    return Finished(outcome="failed", code="internal-error", detail=words)


def main(runners: Mapping[str, Runner] = RUNNERS) -> None:
    """Run jobs as they come until the supervisor closes the pipe. argv: the supervisor's process id."""
    die_with(int(sys.argv[1]))
    out = take_stdout()
    setup_logs("child")
    inbox = Inbox(os.fdopen(0, encoding="utf-8"))
    inbox.start()
    while True:
        message = inbox.tasks.get()
        if "facts" in message:
            from worker.facts import measure

            out.write(json.dumps({"facts": measure(message["facts"])}) + "\n")
            out.flush()
        else:
            run_task(message, runners, out, inbox)


if __name__ == "__main__":
    main()
