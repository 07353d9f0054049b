"""For how long a worker may prefer what it has warm."""

from typing import Any

from app.jobs.models import Job
from app.jobs.turns import Warm
from worker.warmth import JOBS, SECONDS, Warmth


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def job(base: str, vae: str | None = None, *loras: str) -> Job:
    payload: dict[str, Any] = {
        "base": {"file": {"sha256": base}, "vae": {"sha256": vae} if vae else None},
        "loras": [{"file": {"sha256": sha}} for sha in loras],
    }
    return Job(payload=payload)


def test_the_last_drawing_is_warm() -> None:
    warmth = Warmth(Clock())
    assert warmth.wish() is None
    warmth.drew(job("a", "v", "l"))
    assert warmth.wish() == Warm("a", "v", ("l",))
    warmth.cool()
    assert warmth.wish() is None


def test_after_so_many_jobs_the_next_in_line_is_taken() -> None:
    warmth = Warmth(Clock())
    warmth.wish()
    warmth.drew(job("a"))
    for _ in range(JOBS):
        assert warmth.wish() == Warm("a")
        warmth.drew(job("a"))
    assert warmth.wish() is None
    warmth.drew(job("a"))
    assert warmth.wish() == Warm("a")


def test_other_work_in_between_begins_a_new_count() -> None:
    warmth = Warmth(Clock())
    for base in "aaaabaaaaabaaaaaab":
        warmth.drew(job(base))
        assert warmth.wish() == Warm(base)
    warmth.drew(job("b", "v"))
    assert warmth.wish() == Warm("b", "v")


def test_after_so_long_the_next_in_line_is_taken() -> None:
    clock = Clock()
    warmth = Warmth(clock)
    warmth.wish()
    warmth.drew(job("a"))
    clock.now = SECONDS / 2
    assert warmth.wish() == Warm("a")
    warmth.drew(job("a"))
    clock.now = SECONDS
    assert warmth.wish() is None
    warmth.drew(job("a"))
    assert warmth.wish() == Warm("a")
