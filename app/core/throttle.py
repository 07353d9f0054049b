"""Counting attempts: sliding windows in Valkey when there is one, in this process otherwise.

Reads are counted by the process that answers them, in `allow_reading`, because a question to Valkey takes
longer than many answers do: each web process has a budget of its own.

Two attitudes to a broken counter. `allow` lets the request pass, because work must not depend on
the broker; `demand` refuses, because guessing passwords must never be free.
"""

import logging
import time
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from limits import RateLimitItem, RateLimitItemPerMinute, parse
from limits.storage import storage_from_string
from limits.strategies import MovingWindowRateLimiter, SlidingWindowCounterRateLimiter

from app.core.config import get_settings
from app.core.errors import AppError, RateLimited

log = logging.getLogger("bottega.throttle")
PAUSE_SECONDS = 5.0
_broken_until = {"at": 0.0}


@dataclass(frozen=True)
class Allowance:
    """What is left of a budget; `reset` is in seconds from now."""

    limit: int
    remaining: int
    reset: int
    refused: bool = False


@dataclass
class Minutes:
    """The sliding window of `limits`: the count of the last minute fades while this one passes.

    Its own storage in memory starts a thread for nearly every count. This one is used by one thread only.
    """

    minute: int = 0
    now: dict[str, int] = field(default_factory=dict)
    before: dict[str, int] = field(default_factory=dict)

    def hit(self, limit: int, key: str) -> Allowance:
        """Count once, unless that would be more than `limit`."""
        minute, passed = divmod(time.time(), 60)
        self._turn_to(int(minute))
        before, count, rest = self.before.get(key, 0), self.now.get(key, 0), 60 - passed
        fading = before * rest / 60
        refused = int(fading + count) >= limit
        if not refused:
            count += 1
            self.now[key] = count
        # The next of the last minute's attempts is forgotten after `rest % (60 / before)` seconds.
        wait = min(rest, rest % (60 / before)) if before else rest
        return Allowance(limit, max(0, limit - int(fading + count)), max(1, round(wait)), refused)

    def _turn_to(self, minute: int) -> None:
        """Forget what is older than two minutes, also of those who never come again."""
        if minute != self.minute:
            self.before = self.now if minute == self.minute + 1 else {}
            self.minute, self.now = minute, {}


class CounterAway(AppError):
    status, code, title = 503, "try-again", "Try again in a moment"

    @property
    def headers(self) -> dict[str, str]:
        return {"Retry-After": "5"}


@lru_cache
def _storage(url: str | None) -> Any:
    if not url:
        return storage_from_string("memory://")
    return storage_from_string(url, socket_connect_timeout=0.5, socket_timeout=0.5)


reads = Minutes()


def _store() -> Any:
    return _storage(get_settings().queue.redis_url)


def _name(*parts: str) -> list[str]:
    return [get_settings().installation, *parts]


def allow_reading(per_minute: int, *key: str) -> Allowance:
    """Count one request that changes nothing. Waits for nothing; not for threads."""
    return reads.hit(per_minute, "/".join(_name(*key, str(per_minute))))


def allow(per_minute: int, *key: str) -> Allowance | None:
    """Count one request. None when nothing can be counted: then it passes."""
    if time.monotonic() < _broken_until["at"]:
        return None
    item, names = RateLimitItemPerMinute(per_minute), _name(*key)
    try:
        limiter = SlidingWindowCounterRateLimiter(_store())
        passed = limiter.hit(item, *names)
        stats = limiter.get_window_stats(item, *names)
    except Exception as error:
        log.warning("requests are not counted for a moment: %s", error)
        _broken_until["at"] = time.monotonic() + PAUSE_SECONDS
        return None
    return Allowance(per_minute, stats.remaining, _until(stats.reset_time), refused=not passed)


def demand(rule: str, words: str, *key: str) -> None:
    """Count one attempt under a rule such as `10 per 5 minute`.

    Errors: RateLimited with `words` when there were too many; CounterAway when nothing can be counted.
    """
    item = parse(rule)
    try:
        limiter = MovingWindowRateLimiter(_store())
        if limiter.hit(item, *_name(*key)):
            return
        wait = _until(limiter.get_window_stats(item, *_name(*key)).reset_time)
    except Exception as error:
        log.error("attempts cannot be counted: %s", error)
        raise CounterAway("This cannot be checked for a moment. Try again in a few seconds.") from error
    raise RateLimited(words, wait)


def forget(rule: str, *key: str) -> None:
    """Start anew after a success. A counter that is away is no error here."""
    item: RateLimitItem = parse(rule)
    try:
        MovingWindowRateLimiter(_store()).clear(item, *_name(*key))
    except Exception as error:
        log.warning("attempts were not forgotten: %s", error)


def _until(moment: float) -> int:
    return max(1, round(moment - time.time()))
