"""The broker carries hints: with it a job starts at once, without it only later."""

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from app.jobs import wakeups, webhooks
from app.jobs.reaper import Reaper
from tests.conftest import forget_settings, redis_url
from tests.jobs.conftest import Spawn, Yard

Broker = Callable[[str], None]


@pytest.fixture
def use_broker(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> Iterator[Broker]:
    def use(url: str) -> None:
        monkeypatch.setenv("REDIS_URL", url)
        forget_settings()
        wakeups.sender.cache_clear()

    yield use
    app = wakeups.sender()
    if app is not None:
        app.close()


def test_a_wake_up_starts_a_job_long_before_anybody_looks(
    yard: Yard, use_broker: Broker, spawn_worker: Spawn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BOTTEGA_QUEUE_POLL_SECONDS", "3600")
    monkeypatch.setenv("BOTTEGA_QUEUE_REAP_SECONDS", "3600")
    use_broker(redis_url())
    first = yard.generate()
    spawn_worker("generate")
    yard.until_state(first, "succeeded")
    second = yard.generate()

    def started() -> bool:
        # The consumer may connect only now, and what it has not heard is gone.
        return yard.job(second).status == "succeeded" or not wakeups.send("generate")

    yard.until(started, "the wake-up")
    assert yard.job(second).status == "succeeded"


def test_a_dead_broker_costs_only_time(yard: Yard, use_broker: Broker, spawn_worker: Spawn) -> None:
    use_broker("redis://127.0.0.1:1/0")
    assert not wakeups.send("generate")
    job_id = yard.generate()
    spawn_worker("generate")
    assert yard.until_state(job_id, "succeeded", "failed").status == "succeeded"


def test_no_broker_is_configured(yard: Yard) -> None:
    assert wakeups.sender() is None
    assert not wakeups.send("train")
    wakeups.wake("train")


def test_the_reaper_ends_after_the_notices_that_it_sends(
    real_db: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BOTTEGA_QUEUE_REAP_SECONDS", "0.01")
    forget_settings()
    begun, said, sent = threading.Event(), threading.Event(), []

    def deliver() -> int:
        begun.set()
        said.wait(60)
        time.sleep(0.3)
        sent.append("notice")
        return 1

    monkeypatch.setattr(webhooks, "deliver_due", deliver)
    reaper = Reaper()
    reaper.start()
    assert begun.wait(60)
    reaper.stop()
    said.set()
    reaper.join()
    assert sent == ["notice"]
