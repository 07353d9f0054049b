"""Counting attempts: sliding windows in Valkey when there is one, in this process otherwise.

Two attitudes to a broken counter. `allow` lets the request pass, because reading must not
depend on the broker; `demand` refuses, because guessing passwords must never be free.
"""

import logging
import time
from dataclasses import dataclass
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


def _store() -> Any:
    return _storage(get_settings().queue.redis_url)


def _name(*parts: str) -> list[str]:
    return [get_settings().installation, *parts]


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
