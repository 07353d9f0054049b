"""Claims by several at once, each in its own connection: what a rolled-back test cannot show."""

import threading

from app.core.db import unit_of_work
from app.jobs import leases
from tests.jobs.conftest import Yard

JOBS = 40


def test_each_job_is_claimed_once(yard: Yard) -> None:
    wanted = {yard.generate() for _ in range(JOBS)}
    claimed: list[str] = []
    barrier = threading.Barrier(6)

    def take(number: int) -> None:
        barrier.wait()
        while True:
            with unit_of_work() as db:
                job = leases.claim(db, f"w{number}", ["generate"])
            if job is None:
                return
            claimed.append(job.id)

    threads = [threading.Thread(target=take, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(claimed) == JOBS
    assert set(claimed) == wanted


def test_a_locked_row_is_passed_over(yard: Yard) -> None:
    first, second = yard.generate(), yard.generate()
    with unit_of_work() as one, unit_of_work() as two:
        claimed = [leases.claim(db, "w", ["generate"]) for db in (one, two)]
        assert [job.id for job in claimed if job] == [first, second]
