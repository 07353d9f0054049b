"""Supervising one job: files in, child at work, events out as fenced transactions, last word.

Loses its lease: kills the child and writes nothing more. Loses its child: the job goes back to
the queue and the loss counts. Is asked to stop: lets the child save, then gives the job back.
"""

import contextlib
import logging
import os
import queue
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import obstore
from pydantic import ValidationError
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.orm import Session

from app.contract.events import (
    Checkpoint,
    Command,
    Event,
    Finished,
    LogLine,
    Metric,
    Picture,
    Preview,
    Progress,
    ResumePoint,
    Sample,
)
from app.contract.jobs import JOB, GenerateJob, TrainJob
from app.contract.states import JobState
from app.core.blobs import Blob, adopt_object, check_space, hash_file
from app.core.config import get_settings
from app.core.db import after_commit, unit_of_work
from app.core.errors import AppError
from app.core.storage import Storage
from app.jobs import leases, service
from app.jobs.leases import Lease, LeaseLost
from app.jobs.models import Job
from worker.child_process import Child
from worker.deliveries import UNSAID, Delivery, Handlers, paths_of
from worker.endings import MemoryWatch, describe_ending
from worker.heart import Heart
from worker.models_cache import CacheError, ModelsCache

log = logging.getLogger("bottega.supervise")
FLUSH_SECONDS = 1.0
LOOK_SECONDS = 0.2
DRAIN_SECONDS = 8.0
STORE_ATTEMPTS = 5
T = TypeVar("T")
PREVIEW_NAME = "preview.jpg"
MEDIA_TYPES = {".png": "image/png", ".jpg": "image/jpeg", ".mp4": "video/mp4"}


class StorageAway(AppError):
    status, code = 503, "storage-away"


@dataclass
class Pending:
    """Progress, points of the curves and a preview that are not yet written: only the newest counts."""

    progress: Progress | None = None
    preview: Preview | None = None
    metrics: list[Metric] = field(default_factory=list)
    since: float = field(default_factory=time.monotonic)

    @property
    def due(self) -> bool:
        waits = self.progress or self.metrics or self.preview
        return bool(waits) and time.monotonic() - self.since >= FLUSH_SECONDS


@dataclass(frozen=True)
class Shop:
    """What all jobs of one worker process share."""

    storage: Storage
    cache: ModelsCache
    handlers: Handlers
    run_folder: Path
    device: str
    stopping: threading.Event


class Supervisor:
    """One job from its claim to its end. `run()` gives the child back if it can be used again."""

    def __init__(self, shop: Shop, job: Job, claimed_at: float) -> None:
        self.shop, self.row = shop, job
        self.lease = Lease(job.id, job.fence)
        self.name = f"{job.id}-{job.fence}"
        self.out = shop.run_folder / "work" / f"{os.getpid()}-{self.name}"
        self.heart = Heart(self.lease, claimed_at, on_beat=self._on_beat, on_lost=self._on_lost)
        self.child: Child | None = None
        self._number = 0
        self._told: set[Command] = set()
        self._draining: float | None = None
        self._previewed = False

    def run(self, get_child: Callable[[], Child]) -> None:
        """Do the job. The caller looks at `child.alive` afterwards. Never raises for what befalls one job."""
        self.heart.start()
        try:
            self._work(get_child)
        except LeaseLost:
            log.warning("%s: the lease is lost, stopping", self.name)
            self._on_lost()
        finally:
            self.heart.stop()
            self.heart.join()
            if self._previewed:
                self._forget_preview()
            shutil.rmtree(self.out, ignore_errors=True)

    def _work(self, get_child: Callable[[], Child]) -> None:
        try:
            message = self._message()
        except CacheError as error:
            self._end(Finished(outcome="failed", code=error.code, detail=error.detail))
            return
        except ValidationError as error:
            log.error("%s: %s", self.name, error)
            words = "This job was made by another version of Bottega. Start it again."
            self._end(Finished(outcome="failed", code="job-unreadable", detail=words))
            return
        self._watch = MemoryWatch()
        child = self.child = get_child()
        child.send(message)
        self._write(leases.start_running)
        last_word = self._follow(child)
        if self._draining is not None and (last_word is None or last_word.outcome == "paused"):
            self._give_back(child, last_word)
        elif last_word is None:
            self._lose(child)
        else:
            self._end(last_word)

    def _message(self) -> dict[str, Any]:
        job = JOB.validate_python(self.row.payload)
        assert isinstance(job, TrainJob | GenerateJob)
        files = self.shop.cache.job_files(job)
        self.out.mkdir(parents=True, exist_ok=True)
        return {
            "id": self.name,
            "job": job.model_dump(mode="json"),
            "files": {sha256: str(path) for sha256, path in files.items()},
            "resume": self._resume_file(),
            "full_while": self.row.metrics.get("memory_phase"),
            "resume_seconds": get_settings().queue.resume_seconds,
            "out": str(self.out),
            "locks": str(self.shop.run_folder),
            "device": self.shop.device,
            "alive": max(0.1, self.heart.deadline - time.monotonic()),
        }

    def _resume_file(self) -> str | None:
        if self.row.resume_sha256 is None:
            return None
        path = self.out / "resume-from"
        self.shop.storage.fetch(f"blobs/{self.row.resume_sha256}", path)
        return str(path)

    # what the heart calls, from its own thread

    def _on_beat(self, wishes: Sequence[Command], seconds: float) -> None:
        if self.child is not None:
            self.child.send({"id": self.name, "alive": seconds})
            self._tell(wishes)

    def _on_lost(self) -> None:
        if self.child is not None:
            self.child.kill()

    def _tell(self, wishes: Sequence[Command]) -> None:
        for wish in wishes:
            if wish in ("cancel", "pause") and wish in self._told:
                continue
            self._told.add(wish)
            if self.child is not None:
                self.child.send({"id": self.name, "command": wish})

    # the child's events

    def _follow(self, child: Child) -> Finished | None:
        """Record events until the last word, or until there will be none: None."""
        pending, heard, looked = Pending(), time.monotonic(), 0.0
        while True:
            now = time.monotonic()
            if now - looked > LOOK_SECONDS:
                looked = now
                if not self._may_go_on(child, heard):
                    return None
            if pending.due:
                pending = self._flush(pending)
            try:
                event = child.lines.get(timeout=LOOK_SECONDS)
            except queue.Empty:
                continue
            heard = time.monotonic()
            match event:
                case None | Finished():
                    self._flush(replace(pending, preview=None))
                    return event
                case Progress():
                    pending.progress = event
                case Metric():
                    pending.metrics.append(event)
                case Preview():
                    pending.preview = event
                case dict():
                    continue
                case _:
                    done = isinstance(event, Picture)
                    pending = self._flush(replace(pending, preview=None if done else pending.preview))
                    if failure := self._record(event):
                        child.kill()
                        return failure

    def _may_go_on(self, child: Child, heard: float) -> bool:
        """Now and then, however much the child says: lease, stall, shut-down."""
        if self.heart.expired:
            raise LeaseLost(self.lease.job_id)
        if time.monotonic() - heard > get_settings().queue.stall_seconds:
            log.error("%s: silent for too long, killed", self.name)
            child.kill()
        if self.shop.stopping.is_set():
            if self._draining is None:
                self._draining = time.monotonic()
                self._tell(["pause"])
            if time.monotonic() - self._draining > DRAIN_SECONDS:
                return False
        return True

    def _flush(self, pending: Pending) -> Pending:
        if preview := pending.preview:
            with contextlib.suppress(OSError, obstore.exceptions.BaseError):  # the next one follows
                self._previewed = True
                self.shop.storage.put(self._preview_key, (self.out / preview.path).read_bytes())
                self._write(lambda db, job: leases.record_preview(db, job, preview))
        if pending.progress or pending.metrics:
            self._write(lambda db, job: leases.record_progress(db, job, pending.progress, pending.metrics))
        return Pending()

    def _record(self, event: Event) -> Finished | None:
        """Write one event. A Finished when the job must end because of it (the disk is full)."""
        match event:
            case LogLine():
                self._write(lambda db, job: leases.record_log(db, job, event))
            case Checkpoint() | Sample() | Picture() | ResumePoint():
                try:
                    self._deliver(event)
                except AppError as error:
                    return Finished(outcome="failed", code=error.code, detail=error.detail)
            case _:
                log.error("%s: unexpected event %s", self.name, event.kind)
        return None

    @property
    def _preview_key(self) -> str:
        return f"jobs/{self.lease.job_id}/{self.lease.fence}/{PREVIEW_NAME}"

    def _forget_preview(self) -> None:
        with contextlib.suppress(obstore.exceptions.BaseError):
            self.shop.storage.delete([self._preview_key])

    def _deliver(self, event: Delivery | ResumePoint) -> None:
        """Its files go under this fence's own prefix; the transaction makes blobs and their rows of them."""
        files = [self._bring(self.out / path) for path in paths_of(event)]

        def write(db: Session, job: Job) -> None:
            blobs = [adopt_object(db, self.shop.storage, *file) for file in files]
            self._name(db, job, event, *blobs)
            after_commit(db, lambda: self.shop.storage.delete([key for key, *_ in files]))

        self._write(write)

    def _bring(self, path: Path) -> tuple[str, str, int, str]:
        """(key, sha256, bytes, media type) of a file that lies in storage now."""
        sha256, size = hash_file(path), path.stat().st_size
        key = f"jobs/{self.lease.job_id}/{self.lease.fence}/{sha256[:16]}{path.suffix}"
        check_space(self.shop.storage, size)
        self._store(key, path)
        return key, sha256, size, MEDIA_TYPES.get(path.suffix, "application/octet-stream")

    def _store(self, key: str, path: Path) -> None:
        for attempt in range(STORE_ATTEMPTS):
            try:
                self.shop.storage.put(key, path)
                return
            except obstore.exceptions.BaseError as error:
                log.warning("%s: storage: %s", self.name, error)
                time.sleep(0.5 * 2**attempt)
        raise StorageAway("The storage does not answer. Try again later; the server's log says more.")

    def _name(
        self, db: Session, job: Job, event: Delivery | ResumePoint, blob: Blob, beside: Blob | None = None
    ) -> None:
        if isinstance(event, ResumePoint):
            leases.record_resume(db, job, event, blob)
            return
        url = self.shop.handlers.deliver(db, job, event, blob, beside)
        service.add_event(db, job, event.kind, event.model_dump(exclude=UNSAID) | {"url": url})
        if event.kind == "sample":
            service.notify(db, job, "sample")

    # the ends

    def _end(self, last_word: Finished) -> None:
        def write(db: Session, job: Job) -> None:
            if last_word.outcome != "paused" or job.status == JobState.CANCELING:
                job.output = self.shop.handlers.complete(db, job, last_word)
            leases.finish(db, job, last_word)

        with self.heart.lock:
            self._write(write)
            self.heart.stop()
        log.info("%s: %s %s", self.name, last_word.outcome, last_word.code or "")

    def _lose(self, child: Child) -> None:
        if self.heart.lost:
            raise LeaseLost(self.lease.job_id)
        child.process.wait()
        how = describe_ending(child.process.returncode)
        full = self._watch.killed(child.process.returncode)
        if full and self.row.metrics.get("memory_kills"):
            words = "The machine's memory was full, also with less. Choose a smaller resolution or batch."
            self._end(Finished(outcome="failed", code="out-of-memory", detail=words))
            return
        log.warning("%s: its process ended: %s", self.name, how)

        def write(db: Session, job: Job) -> None:
            why = ": the machine's memory was full. It begins again with less" if full else f" ({how})"
            words = f"The process that did this job ended{why}."
            leases.record_log(db, job, LogLine(level="error", message=words))
            if full:
                job.metrics = {**job.metrics, "memory_kills": 1, "memory_phase": job.phase}
                leases.give_back(db, job)
            else:
                leases.lose(db, job)

        with self.heart.lock:
            self._write(write)
            self.heart.stop()

    def _give_back(self, child: Child, last_word: Finished | None) -> None:
        if last_word is None:
            child.kill()
        with self.heart.lock:
            self._write(leases.give_back)
            self.heart.stop()

    def _write(self, change: Callable[[Session, Job], Any]) -> None:
        """One fenced transaction, sent again while the database is away. Errors: LeaseLost."""
        self._number += 1
        number = self._number

        def once() -> list[Command]:
            with unit_of_work() as db:
                job = leases.hold(db, self.lease)
                if leases.is_new(job, number):
                    change(db, job)
                return leases.take_wishes(job) if job.status in leases.HELD else []

        self._tell(outlast_outage(once, lambda: self.heart.expired))


def outlast_outage(action: Callable[[], T], expired: Callable[[], bool]) -> T:
    """Try again while the database is away. Errors: LeaseLost once `expired`; all that is no outage."""
    wait = 0.05
    while True:
        try:
            return action()
        except DBAPIError as error:
            if not isinstance(error, OperationalError | InterfaceError) and not error.connection_invalidated:
                raise
            if expired():
                raise LeaseLost("the database was away for too long") from error
        time.sleep(wait)
        wait = min(2 * wait, 1.0)
