"""Runs in a child process: jobs that take milliseconds and need no torch, through the real child.

A job's prompt says what it is to do: `steps=5 pause=0.02 pictures=2 die=9 print hang look clip`.
"""

import hashlib
import os
import time
from pathlib import Path
from typing import Any

from app.contract.events import (
    Checkpoint,
    Command,
    Finished,
    LogLine,
    Metric,
    Picture,
    Preview,
    Progress,
    ResumePoint,
)
from worker.child import Task, main


def hash_text(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def options(text: str) -> dict[str, str]:
    return dict(part.partition("=")[::2] for part in text.split())


def _wished(task: Task) -> Command | None:
    while (command := task.reporter.command()) is not None:
        if command in ("cancel", "pause"):
            return command
        task.reporter.report(LogLine(message=f"wish {command}"))
    return None


def generate(task: Task) -> Finished:
    said = options(task.job.prompt)
    for index, seed in enumerate(task.job.seeds):
        if "look" in said:
            (task.out / "preview.jpg").write_bytes(f"so far {index}".encode())
            task.reporter.report(Preview(index=index, path="preview.jpg"))
        time.sleep(float(said.get("pause", 0.01)))
        if wished := _wished(task):
            return Finished(outcome="canceled" if wished == "cancel" else "paused")
        task.reporter.report(Progress(phase="sampling", current=index + 1, total=len(task.job.seeds)))
        path = task.out / f"{index:03d}.{'mp4' if 'clip' in said else 'png'}"
        path.write_bytes(f"{task.job.prompt} {seed}".encode())
        picture = Picture(index=index, seed=seed, path=path.name, width=64, height=64, infotext="")
        if "clip" in said:
            path.with_suffix(".jpg").write_bytes(f"poster {seed}".encode())
            picture = picture.model_copy(update={"frames": 5, "fps": 8.0, "poster": f"{path.stem}.jpg"})
        task.reporter.report(picture)
    return Finished(outcome="succeeded", run_seconds=0.1)


def train(task: Task) -> Finished:
    said = options(task.job.trigger_word)
    steps, done = int(said.get("steps", 6)), 0
    if task.full_while:
        task.reporter.report(LogLine(message=f"with less, as memory was full while {task.full_while}"))
    if task.resume is not None:
        done = int(task.resume.read_text().split()[-1])
        task.reporter.report(LogLine(message=f"going on from {done}"))
    for step in range(done + 1, steps + 1):
        time.sleep(float(said.get("pause", 0.02)))
        if said.get("die") == str(step) and task.resume is None:
            os.abort() if "abort" in said else os.kill(os.getpid(), 9)
        if "full" in said and step == done + 2 and (task.full_while is None or "always" in said):
            _run_out_of_memory(Path(said["full"]))
        wished = _wished(task)
        if wished == "cancel":
            return Finished(outcome="canceled", steps=step)
        task.reporter.report(Progress(phase="training", current=step, total=steps))
        task.reporter.report(Metric(step=step, loss=1 / step, lr=1e-4))
        if step % 3 == 0 or wished == "pause":
            _save(task, step)
        if wished == "pause":
            return Finished(outcome="paused", steps=step)
    _checkpoint(task, steps)
    return Finished(outcome="succeeded", steps=steps, run_seconds=0.1)


def _run_out_of_memory(vmstat: Path) -> None:
    """What the kernel does: count it, and kill."""
    count = int(vmstat.read_text().split()[-1])
    vmstat.write_text(f"nr_free_pages 9\noom_kill {count + 1}\n")
    os.kill(os.getpid(), 9)


def _save(task: Task, step: int) -> None:
    path = task.out / f"resume-{step}"
    text = f"{task.job.name} at step {step}"
    path.write_text(text)
    task.reporter.report(ResumePoint(step=step, path=path.name, size=len(text), sha256=hash_text(text)))


def _checkpoint(task: Task, step: int) -> None:
    path = task.out / "adapter.safetensors"
    text = f"adapter of {task.job.name}"
    path.write_text(text)
    sha256 = hash_text(text)
    task.reporter.report(
        Checkpoint(epoch=1, step=step, path=path.name, size=len(text), sha256=sha256, tensor_sha256=sha256)
    )


def refuse(task: Task) -> Finished:
    raise KeyError("a mistake in the trainer")


def pick(runner: Any) -> Any:
    """`print` in the words writes to stdout first, as careless libraries do; `mistake` fails."""

    def run(task: Task) -> Finished:
        words = task.job.prompt if task.job.kind == "generate" else task.job.trigger_word
        if "print" in words:
            os.write(1, b"a library says hello\n")
        return refuse(task) if "mistake" in words else runner(task)

    return run


if __name__ == "__main__":
    main({"generate": pick(generate), "train": pick(train)})
