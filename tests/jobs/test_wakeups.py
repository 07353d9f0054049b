"""The broker carries hints: with it a job starts at once, without it only later."""

import threading
import time
from collections.abc import Iterator

import pytest

from app.core.db import unit_of_work
from app.jobs import wakeups, workers
from tests.conftest import forget_settings, redis_url
from tests.jobs.conftest import Start, Yard
from worker import tasks
from worker.main import Worker, consume_wakeups


@pytest.fixture
def broker(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("REDIS_URL", redis_url())
    forget_settings()
    wakeups.sender.cache_clear()
    yield redis_url()
    app = wakeups.sender()
    if app is not None:
        app.close()


def test_a_wake_up_rings_the_bell_of_its_queue(broker: str) -> None:
    threading.Thread(target=consume_wakeups, daemon=True).start()
    tasks.bells["train"].clear()
    tasks.bells["generate"].clear()
    end = time.monotonic() + 60
    while not tasks.bells["train"].is_set():
        assert time.monotonic() < end
        assert wakeups.send("train")
        tasks.bells["train"].wait(0.5)
    assert not tasks.bells["generate"].is_set()


def test_a_dead_broker_costs_a_request_nothing(
    yard: Yard, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/0")
    forget_settings()
    wakeups.sender.cache_clear()
    assert not wakeups.send("generate")
    job_id = yard.generate()
    worker = make_without_celery(start)
    assert yard.until_state(job_id, "succeeded", "failed").status == "succeeded"
    with unit_of_work() as db:
        assert [w.id for w in workers.list_workers(db, alive=True)] == [worker.id]


def make_without_celery(start: Start) -> Worker:
    """Its Celery consumer keeps asking for the broker in the background; the polling does the work."""
    return start("generate")


def test_no_broker_is_configured(yard: Yard) -> None:
    assert wakeups.sender() is None
    assert not wakeups.send("train")
    wakeups.wake("train")
