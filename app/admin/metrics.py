"""Figures for Prometheus, read from the database when asked, so every web process says the same."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.accounts.models import User
from app.admin.health import check_all, live_workers
from app.core.blobs import Blob, used_bytes
from app.core.storage import Storage
from app.jobs.models import Job


class _Figures(Collector):
    def __init__(self, db: Session, storage: Storage) -> None:
        self.db = db
        self.storage = storage

    def collect(self) -> Iterator[GaugeMetricFamily]:
        yield self._jobs()
        yield self._workers()
        yield self._checks()
        yield _gauge("users", "Accounts.", self.db.scalar(select(func.count()).select_from(User)))
        yield _gauge("stored_files", "Stored files.", self.db.scalar(select(func.count()).select_from(Blob)))
        yield _gauge("stored_bytes", "Bytes of all stored files.", used_bytes(self.db))
        free = self.storage.free_bytes()
        if free is not None:
            yield _gauge("disk_free_bytes", "Free bytes where the files are stored.", free)

    def _jobs(self) -> GaugeMetricFamily:
        family = GaugeMetricFamily("bottega_jobs", "Jobs by queue and status.", labels=["queue", "status"])
        query = select(Job.queue, Job.status, func.count()).group_by(Job.queue, Job.status)
        for queue, status, count in self.db.execute(query):
            family.add_metric([queue, status], count)
        return family

    def _workers(self) -> GaugeMetricFamily:
        family = GaugeMetricFamily("bottega_workers", "Workers heard of lately, by state.", labels=["state"])
        workers = live_workers(self.db)
        busy = sum(worker.job_id is not None for worker in workers)
        family.add_metric(["busy"], busy)
        family.add_metric(["idle"], len(workers) - busy)
        return family

    def _checks(self) -> GaugeMetricFamily:
        family = GaugeMetricFamily("bottega_up", "1 while the part works.", labels=["part"])
        for check in check_all(self.db, self.storage):
            family.add_metric([check.name], 0 if check.words.startswith("away") else 1)
        return family


def _gauge(name: str, words: str, value: float | None) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"bottega_{name}", words, value=value or 0)


def figures(db: Session, storage: Storage) -> bytes:
    """Prometheus text, version 0.0.4."""
    registry = CollectorRegistry()
    registry.register(_Figures(db, storage))
    return generate_latest(registry)
