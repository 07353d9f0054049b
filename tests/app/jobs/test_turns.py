"""Whose turn it is: rounds, places that agree with the order of claims, and what a worker has warm."""

import random
from itertools import pairwise
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from app.accounts.models import User
from app.contract.events import Finished
from app.jobs import leases, service, turns
from app.jobs.leases import Lease
from app.jobs.models import Job
from app.jobs.turns import Warm
from tests.factories import make_user
from tests.jobs.jobs_for_tests import generate_payload


def put(db: Session, user: User, base: str = "", loras: tuple[str, ...] = (), **fields: Any) -> Job:
    payload = generate_payload("")
    if base:
        payload["base"]["file"]["sha256"] = base
    payload["loras"] = [{"file": {"sha256": sha}, "strength": 0.5} for sha in loras]
    values: dict[str, Any] = {
        "type": "generation", "queue": "generate", "title": "", "input": {}, "payload": payload
    }  # fmt: skip
    return service.enqueue(db, user, **values | fields)


def claim(db: Session, **options: Any) -> Job | None:
    return leases.claim(db, "w", ["generate"], **options)


def end(db: Session, job: Job) -> None:
    leases.start_running(db, job)
    leases.finish(db, leases.hold(db, Lease(job.id, job.fence)), Finished(outcome="succeeded"))


def drain(db: Session, **options: Any) -> list[Job]:
    """Claim and finish, one after the other, until nothing waits."""
    found = []
    while job := claim(db, **options):
        end(db, job)
        found.append(job)
    return found


@pytest.fixture(autouse=True)
def many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.jobs.service.check_queue_room", lambda *_: None)


def test_two_hundred_of_one_do_not_stand_before_the_first_of_another(db: Session) -> None:
    greedy, modest = make_user(db), make_user(db)
    for _ in range(200):
        put(db, greedy)
    running = claim(db)
    first, second = put(db, modest), put(db, modest)
    assert service.queue_positions(db, [first, second]) == {first.id: 1, second.id: 3}
    assert running is not None
    assert [claim(db), claim(db), claim(db)][::2] == [first, second]


def test_places_are_the_order_of_claims(db: Session) -> None:
    users = [make_user(db) for _ in range(4)]
    dice = random.Random(7)
    made = [put(db, dice.choice(users), priority=dice.choice((0, 0, 0, 1))) for _ in range(40)]
    end(db, claim(db) or made[0])
    made += [put(db, dice.choice(users)) for _ in range(10)]
    places = service.queue_positions(db, made)
    assert [places[job.id] for job in drain(db)] == list(range(1, 50))


@pytest.mark.parametrize("seed", range(4))
def test_nobody_gets_two_turns_more_while_another_waits(db: Session, seed: int) -> None:
    """Between any two moments in which two people have jobs waiting all the time, they get equally much."""
    dice = random.Random(seed)
    users = [make_user(db) for _ in range(3)]
    waiting = {user.id: 0 for user in users}
    served: list[int] = []
    backlog: list[dict[int, int]] = []
    for _ in range(90):
        if dice.random() < 0.6:
            user = dice.choices(users, weights=(6, 2, 1))[0]
            put(db, user)
            waiting[user.id] += 1
        elif job := claim(db):
            backlog.append(dict(waiting))
            waiting[job.user_id] -= 1
            served.append(job.user_id)
            end(db, job)
    for start in range(len(served)):
        counts = {user.id: 0 for user in users}
        busy = {user.id for user in users if backlog[start][user.id]}
        for at in range(start, len(served)):
            busy = {user for user in busy if backlog[at][user]}
            counts[served[at]] += 1
            shares = [counts[user] for user in busy]
            assert not shares or max(shares) - min(shares) <= 2


def test_who_has_none_running_goes_first(db: Session) -> None:
    """Two machines, both at work for one person: somebody else's first comes before that person's third."""
    greedy, modest = make_user(db), make_user(db)
    running = [put(db, greedy), put(db, greedy)]
    assert [claim(db), claim(db)] == running
    third = put(db, greedy)
    first = put(db, modest)
    assert [claim(db), claim(db)] == [first, third]


def test_a_cancelled_job_costs_no_turn(db: Session) -> None:
    one, other = make_user(db), make_user(db)
    mine = [put(db, one) for _ in range(6)]
    theirs = [put(db, other) for _ in range(2)]
    for job in mine[:5]:
        service.cancel_job(db, one, job.id)
    assert [job.turn for job in (mine[5], *theirs)] == [0, 0, 1]
    assert [job.id for job in drain(db)] == [mine[5].id, theirs[0].id, theirs[1].id]


def test_a_job_that_was_paused_joins_anew(db: Session) -> None:
    one, other = make_user(db), make_user(db)
    paused, next_one = (put(db, one, type="training", queue="train") for _ in range(2))
    service.pause_job(db, one, paused.id)
    assert (paused.turn, next_one.turn) == (0, 0)
    for _ in range(3):
        put(db, other, type="training", queue="train")
    service.resume_job(db, one, paused.id)
    assert paused.turn == 1


def test_a_job_that_was_lost_keeps_its_turn(db: Session) -> None:
    one, other = make_user(db), make_user(db)
    put(db, one)
    job = claim(db)
    assert job is not None
    for user in (one, other):
        put(db, user)
    leases.lose(db, leases.hold(db, Lease(job.id, job.fence)))
    assert service.queue_positions(db, [job]) == {job.id: 1}


def test_old_work_is_no_debt_and_no_credit(db: Session) -> None:
    """Who has drawn much and who comes for the first time share what is there now."""
    old, new = make_user(db), make_user(db)
    for _ in range(5):
        put(db, old)
    drain(db)
    made = [put(db, user) for user in (old, old, new, new)]
    assert [job.user_id for job in drain(db)] == [new.id, old.id, new.id, old.id]
    assert len({job.turn for job in made}) == 3


def test_how_many_come_before_a_new_one(db: Session) -> None:
    greedy, modest = make_user(db), make_user(db)
    for _ in range(5):
        put(db, greedy)
    assert claim(db)
    assert [turns.count_ahead(db, user.id, "generate") for user in (modest, greedy)] == [1, 5]
    assert turns.count_ahead(db, modest.id, "train") == 0


# What a worker has warm


def test_within_a_round_what_is_warm_comes_first(db: Session) -> None:
    a, b, c, d = (make_user(db) for _ in range(4))
    other, base, exact, next_round = (
        put(db, a, "x"), put(db, b, "y", ("l2",)), put(db, c, "y", ("l1",)), put(db, c, "y", ("l1",)),
    )  # fmt: skip
    warm = Warm("y", None, ("l1",))
    assert Warm.of(exact.payload) == warm
    assert [job.id for job in drain(db, warm=warm)] == [exact.id, base.id, other.id, next_round.id]
    fair = [put(db, d, "x"), put(db, a, "y")]
    assert drain(db) == fair


def test_another_vae_is_another_checkpoint(db: Session) -> None:
    job = put(db, make_user(db), "y")
    job.payload = {**job.payload, "base": {**job.payload["base"], "vae": {"sha256": "v"}}}
    put(db, make_user(db), "y")
    first = claim(db, warm=Warm("y", "v"))
    assert first == job
    assert Warm.of(job.payload) == Warm("y", "v")


def test_a_claim_reads_one_row_of_the_index(db: Session) -> None:
    users = [make_user(db) for _ in range(3)]
    for user in users:
        for _ in range(30):
            put(db, user)
    db.execute(text("analyze job"))
    db.execute(text("set local enable_seqscan = off"))
    query = "select id from job where status = 'queued' and queue in ('generate')"
    plan = "\n".join(db.scalars(text(f"explain {query} order by priority desc, turn, seq limit 1")))
    assert "Index Scan using ix_job_claim" in plan
    assert "Sort" not in plan


def test_rounds_are_dense(db: Session) -> None:
    user = make_user(db)
    made = [put(db, user) for _ in range(5)]
    assert all(later.turn == job.turn + 1 for job, later in pairwise(made))
