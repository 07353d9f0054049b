"""Counting in this process: as `limits` counts in Valkey, and nobody is remembered for long."""

import random
import time

import pytest
from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter

from app.core.throttle import Minutes


@pytest.mark.parametrize("limit", [1, 7, 100])
def test_it_counts_as_the_library_does(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    now, dice = 1_790_000_000.0, random.Random(limit)
    limiter, item, ours = (
        SlidingWindowCounterRateLimiter(MemoryStorage()), RateLimitItemPerMinute(limit), Minutes()
    )  # fmt: skip
    monkeypatch.setattr(time, "time", lambda: now)
    refused = 0
    for _ in range(1000):
        now += dice.choice((0.01, 0.5, 0.5, 2, 70 if dice.random() < 0.02 else 0.3, 0.1))
        passed = limiter.hit(item, "anna")
        stats = limiter.get_window_stats(item, "anna")
        left = ours.hit(limit, "anna")
        assert (not left.refused, left.remaining) == (passed, stats.remaining)
        assert left.reset == max(1, round(stats.reset_time - now))
        refused += left.refused
    assert 0 < refused < 1000


def test_nobody_is_remembered_longer_than_two_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    now, ours = 1_790_000_000.0, Minutes()
    monkeypatch.setattr(time, "time", lambda: now)
    for number in range(100):
        ours.hit(5, f"address:{number}")
    now += 60
    ours.hit(5, "anna")
    assert (len(ours.now), len(ours.before)) == (1, 100)
    now += 60
    ours.hit(5, "anna")
    assert set(ours.now) | set(ours.before) == {"anna"}
    now += 600
    ours.hit(5, "anna")
    assert not ours.before
