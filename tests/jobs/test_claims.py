"""Claims by several at once, each in its own connection: what a rolled-back test cannot show."""

import threading

from app.core.db import unit_of_work
from app.jobs import leases
from app.jobs.turns import Warm
from tests.jobs.conftest import Start, Yard
from tests.jobs.jobs_for_tests import BASE, base_ref, generate_payload

JOBS = 40


def test_each_job_is_claimed_once(yard: Yard) -> None:
    """Also where several people wait, and some workers prefer what they have warm."""
    users = [yard.member(f"member{n}") for n in range(3)]
    payloads = [generate_payload(""), generate_payload("", base=b"another")]
    wanted = {yard.put("generation", "generate", payloads[n % 2], users[n % 7 % 3]) for n in range(JOBS)}
    warm = Warm(base_ref().file.sha256)
    claimed: list[str] = []
    barrier = threading.Barrier(6)

    def take(number: int) -> None:
        barrier.wait()
        while True:
            with unit_of_work() as db:
                job = leases.claim(db, f"w{number}", ["generate"], warm=warm if number % 2 else None)
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


def test_a_worker_prefers_what_it_has_warm_within_a_round(yard: Yard, start: Start) -> None:
    users = [yard.member(f"member{n}") for n in range(3)]
    one, other = generate_payload(""), generate_payload("", base=b"another")
    first, second, third = (
        yard.put("generation", "generate", payload, user)
        for payload, user in zip((one, other, one), users, strict=True)
    )
    next_round = yard.put("generation", "generate", one, users[0])
    start("generate")
    made = [yard.until_state(job, "succeeded") for job in (first, third, second, next_round)]
    started = [job.started_at for job in made]
    assert started == sorted(started, key=str)
    assert one["base"]["file"]["size"] == len(BASE)
