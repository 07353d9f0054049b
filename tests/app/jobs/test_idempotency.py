"""The same POST twice, with and without an Idempotency-Key."""

import threading
from typing import Any

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.core.db import unit_of_work
from app.core.errors import Conflict, Invalid
from app.jobs import idempotency
from app.jobs.idempotency import Answer, answer
from app.jobs.models import IdempotencyKey
from tests.factories import make_user

BODY = {"name": "Tuscany", "params": {"epochs": 2}}


def counting(made: list[int]) -> Any:
    def make() -> Answer:
        made.append(1)
        return Answer(202, {"id": f"job_{len(made)}", "status": "queued"}, f"/api/v1/jobs/job_{len(made)}")

    return make


def test_without_a_key_it_works_each_time(db: Session) -> None:
    made: list[int] = []
    for _ in range(2):
        answer(db, make_user(db), "r", None, BODY, counting(made))
    assert len(made) == 2


def test_the_same_request_is_answered_the_same(db: Session) -> None:
    user, made = make_user(db), []  # type: ignore[var-annotated]
    first = answer(db, user, "r", "key", BODY, counting(made))
    again = answer(db, user, "r", "key", {"params": {"epochs": 2}, "name": "Tuscany"}, counting(made))
    assert len(made) == 1
    assert (again.status_code, again.body) == (first.status_code, first.body) == (202, first.body)
    assert again.headers["location"] == first.headers["location"]
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"


def test_keys_belong_to_a_user_and_a_route(db: Session) -> None:
    made: list[int] = []
    owner, other = make_user(db), make_user(db)
    for user, route in ((owner, "r"), (other, "r"), (owner, "s")):
        answer(db, user, route, "key", BODY, counting(made))
    assert len(made) == 3


def test_another_body_is_refused(db: Session) -> None:
    user, made = make_user(db), []  # type: ignore[var-annotated]
    answer(db, user, "r", "key", BODY, counting(made))
    with pytest.raises(Invalid) as refused:
        answer(db, user, "r", "key", BODY | {"name": "Umbria"}, counting(made))
    assert refused.value.code == "idempotency-key-reused"
    assert len(made) == 1


def test_a_failed_request_leaves_no_key(db: Session) -> None:
    user = make_user(db)
    db.commit()

    def fail() -> Answer:
        raise Invalid("no")

    with pytest.raises(Invalid), unit_of_work() as own:
        answer(own, user, "r", "key", BODY, fail)
    assert db.scalar(select(func.count()).select_from(IdempotencyKey)) == 0


def test_the_second_hears_that_the_first_is_at_work(real_db: str) -> None:
    with unit_of_work() as db:
        user = make_user(db)
    inside, go_on = threading.Event(), threading.Event()

    def slow() -> Answer:
        inside.set()
        assert go_on.wait(30)
        return Answer(201, {"id": 1})

    def first() -> None:
        with unit_of_work() as db:
            answer(db, user, "r", "key", BODY, slow)

    thread = threading.Thread(target=first)
    thread.start()
    assert inside.wait(30)
    with pytest.raises(Conflict) as refused, unit_of_work() as db:
        answer(db, user, "r", "key", BODY, slow)
    assert refused.value.code == "idempotency-in-progress"
    go_on.set()
    thread.join()
    with unit_of_work() as db:
        assert answer(db, user, "r", "key", BODY, slow).headers["idempotency-replayed"] == "true"


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("wait=5", 5), ("respond-async, wait=90", 60), ("wait", 0), ("xwait=5", 0), ("", 0)],
)
def test_prefer(header: str, seconds: float) -> None:
    scope = {"headers": [(b"prefer", header.encode())] if header else []}
    assert idempotency.preferred_wait(scope) == seconds
