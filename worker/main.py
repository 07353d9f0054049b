"""A worker: `python -m worker.main --queue generate --queue files`.

One thread a queue claims and supervises; a Celery consumer rings their bells, and without a
broker they look every few seconds. Stops on SIGTERM or Ctrl-C: running jobs save and are given back.
"""

import argparse
import logging
import os
import shutil
import signal
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy.exc import DBAPIError

from app import models as models  # all tables, so that foreign keys and relationships resolve
from app.contract.jobs import QUEUES
from app.core.config import get_settings
from app.core.db import unit_of_work
from app.core.logs import setup_logs
from app.core.storage import get_storage
from app.jobs import leases, workers
from app.jobs.models import Job
from app.jobs.reaper import Reaper, every_tick
from worker import tasks
from worker.child_process import COMMAND, Child
from worker.deliveries import Handlers
from worker.facts import Facts
from worker.files_job import run_files_job
from worker.models_cache import ModelsCache
from worker.ram import free_ram, own_bytes
from worker.supervise import Shop, Supervisor
from worker.warmth import Warmth

log = logging.getLogger("bottega.worker")


class QueueRunner(threading.Thread):
    """Takes jobs of one queue, one at a time. Lives as long as the process: its children depend on it."""

    def __init__(self, queue: str, worker: "Worker") -> None:
        super().__init__(name=f"queue {queue}", daemon=True)
        self.queue, self.worker = queue, worker
        self.current: str | None = None
        self._warm: Child | None = None
        self._warmth = Warmth()

    def run(self) -> None:
        bell = tasks.bells[self.queue]
        while not self.worker.shop.stopping.is_set():
            bell.clear()
            try:
                busy = self._take_one()
            except DBAPIError as error:
                log.warning("the database is away: %s", str(error.orig).strip()[:200])
                busy = False
            except Exception:
                log.exception("queue %s", self.queue)
                busy = False
            if not busy:
                self._rest(bell)
        self._cool()

    def _take_one(self) -> bool:
        claimed_at = time.monotonic()
        with unit_of_work() as db:
            job = leases.claim(db, self.worker.id, [self.queue], warm=self._warmth.wish())
        if job is None:
            return False
        self.current = job.id
        try:
            self._do(job, claimed_at)
        finally:
            self.current = None
        return True

    def _do(self, job: Job, claimed_at: float) -> None:
        log.info("%s: attempt %d", job.id, job.attempt)
        kind = job.payload.get("kind")
        if kind == "files":
            run_files_job(self.worker.shop.storage, job, claimed_at, self.worker.files_tasks)
            return
        if kind == "train":
            self._cool()
        Supervisor(self.worker.shop, job, claimed_at).run(self._child)
        if kind == "train" or (self._warm and not self._warm.alive):
            self._cool()
        elif self._warm:
            self._warm.idle_since = time.monotonic()
            self._warmth.drew(job)

    def _child(self) -> Child:
        """A warm child for the next drawing; a training always finds none."""
        if self._warm is None or not self._warm.alive:
            self._cool()
            self._warm = Child(self.worker.child_command, self.worker.child_env)
        return self._warm

    @property
    def child_pid(self) -> int | None:
        warm = self._warm
        return warm.process.pid if warm else None

    def _cool(self) -> None:
        self._warmth.cool()
        if self._warm is not None:
            self._warm.close()
            self._warm = None

    def _rest(self, bell: threading.Event) -> None:
        queue = get_settings().queue
        if self._warm and time.monotonic() - self._warm.idle_since > queue.warm_seconds:
            self._cool()
        self.worker.facts.measure_once(self.queue, bell)
        self.worker.shop.cache.tidy()
        bell.wait(queue.poll_seconds)


class Worker:
    """One process that serves some queues on one device."""

    def __init__(
        self,
        queues: Sequence[str],
        device: str,
        handlers: Handlers,
        *,
        child_command: Sequence[str] = COMMAND,
        files_tasks: Mapping[str, tasks.FilesTask] = tasks.FILES_TASKS,
        facts: Facts | None = None,
    ) -> None:
        home, storage = get_settings().home, get_storage()
        self.id = f"{socket.gethostname()}-{os.getpid()}-{os.urandom(3).hex()}"
        self.device = device
        self.queues, self.child_command, self.files_tasks = list(queues), child_command, files_tasks
        self.child_env = {} if device == "cpu" else {"CUDA_VISIBLE_DEVICES": device}
        cache = ModelsCache(storage, home / "cache" / "models")
        self.shop = Shop(storage, cache, handlers, home / "run", device, threading.Event())
        self.facts = facts or Facts(home / "cache", device, child_command, self.child_env, self.shop.stopping)
        self.runners = [QueueRunner(queue, self) for queue in queues]

    def stop(self, *_: object) -> None:
        self.shop.stopping.set()
        for bell in tasks.bells.values():
            bell.set()

    def run(self) -> None:
        """Work until `stop()`."""
        remove_dead_work(self.shop.run_folder / "work")
        reaper = Reaper()
        known = threading.Thread(target=self._stay_known, daemon=True)
        for thread in (*self.runners, reaper, known):
            thread.start()
        if get_settings().queue.redis_url:
            threading.Thread(target=consume_wakeups, name="celery", daemon=True).start()
        log.info("%s takes jobs from %s", self.id, ", ".join(self.queues))
        for runner in self.runners:
            while runner.is_alive():
                runner.join(0.5)
        reaper.stop()
        reaper.join()
        known.join()
        self._try(lambda db: workers.say_goodbye(db, self.id))

    def _stay_known(self) -> None:
        period = min(get_settings().queue.heartbeat_seconds, 10.0)
        while not self.shop.stopping.is_set():
            self._try(lambda db: workers.say_hello(db, self._row()))
            self.shop.stopping.wait(period)

    def _row(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "queues": self.queues,
            "host": socket.gethostname(),
            "device": self.facts.device_name,
            "memory_bytes": self.facts.memory_bytes,
            "job_id": next((r.current for r in self.runners if r.current), None),
            "facts": self.facts.values | self._free_memory(),
        }

    def _free_memory(self) -> dict[str, int]:
        """What is free here, and what our children hold: a training would have that too, at its turn."""
        if self.device != "cpu":
            return {}
        children = [pid for runner in self.runners if (pid := runner.child_pid)]
        return {"memory_free_bytes": free_ram(), "memory_own_bytes": own_bytes(children)}

    def _try(self, change: Any) -> None:
        try:
            with unit_of_work() as db:
                change(db)
        except DBAPIError as error:
            log.warning("the database is away: %s", str(error.orig).strip()[:200])


def consume_wakeups() -> None:
    """Listen to the broker for ever; it comes and goes without harm."""
    from worker.celery_app import configure

    while True:
        try:
            consumer = configure().WorkController(
                pool="solo", concurrency=1, without_gossip=True, without_mingle=True, without_heartbeat=True
            )
            consumer.start()
        except Exception as error:
            log.warning("no wake-ups for now: %s", error)
        time.sleep(5)


def remove_dead_work(folder: Path) -> None:
    """Remove what processes of this machine left that are no more."""
    for path in folder.glob("*-job_*") if folder.exists() else ():
        pid = path.name.split("-", 1)[0]
        if not Path(f"/proc/{pid}").exists():
            shutil.rmtree(path, ignore_errors=True)


def main(arguments: Sequence[str] | None = None) -> None:
    from app.compat.orchestration.preparing import tend_workflows
    from app.training.service import expire_checkpoints
    from worker.handlers import ProductHandlers

    parser = argparse.ArgumentParser(prog="python -m worker.main", description="Take jobs from queues.")
    parser.add_argument("--queue", action="append", choices=QUEUES, help="may be given more than once")
    parser.add_argument("--device", default="cpu", help="number of the CUDA device, or cpu")
    options = parser.parse_args(arguments)
    setup_logs("worker " + ",".join(options.queue or QUEUES))
    every_tick(expire_checkpoints)
    every_tick(tend_workflows)
    worker = Worker(options.queue or list(QUEUES), options.device, ProductHandlers())
    signal.signal(signal.SIGTERM, worker.stop)
    signal.signal(signal.SIGINT, worker.stop)
    worker.run()


if __name__ == "__main__":
    main()
