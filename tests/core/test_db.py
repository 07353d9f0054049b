"""unit_of_work commits once at the edge; after_commit waits for that commit."""

import pytest
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from app.core.blobs import Blob
from app.core.db import after_commit, get_sessionmaker, unit_of_work


def blob(letter: str) -> Blob:
    return Blob(sha256=letter * 64, size=1)


def test_unit_of_work_is_seen_by_others(db: Session) -> None:
    with unit_of_work() as work:
        work.add(blob("a"))
    assert db.scalars(select(Blob.sha256)).all() == ["a" * 64]


def test_unit_of_work_rolls_back_on_error(db: Session) -> None:
    with pytest.raises(ZeroDivisionError), unit_of_work() as work:
        work.add(blob("b"))
        work.flush()
        raise ZeroDivisionError
    assert db.scalars(select(Blob)).all() == []


def test_each_test_starts_empty(db: Session) -> None:
    assert db.scalars(select(Blob)).all() == []


def test_hooks_run_once_after_the_commit(db: Session) -> None:
    seen: list[str] = []
    with unit_of_work() as work:
        after_commit(work, lambda: seen.append("sent"))
        work.add(blob("c"))
        work.flush()
        assert seen == []
    assert seen == ["sent"]
    with unit_of_work() as work:
        work.execute(text("select 1"))
    assert seen == ["sent"]


def test_hooks_wait_for_the_outermost_transaction(db: Session) -> None:
    seen: list[str] = []
    with unit_of_work() as work:
        after_commit(work, lambda: seen.append("sent"))
        with work.begin_nested():
            work.add(blob("d"))
        assert seen == []
    assert seen == ["sent"]


def test_a_hook_that_fails_is_logged_and_stops_nothing(db: Session, caplog: pytest.LogCaptureFixture) -> None:
    seen: list[str] = []

    def broken() -> None:
        raise ConnectionError("the storage is away")

    with unit_of_work() as work:
        after_commit(work, broken)
        after_commit(work, lambda: seen.append("sent"))
        work.add(blob("c"))
    assert seen == ["sent"]
    assert db.scalars(select(Blob.sha256)).all() == ["c" * 64]
    assert "the storage is away" in caplog.text


def test_hooks_are_forgotten_on_rollback(db: Session) -> None:
    seen: list[str] = []
    with pytest.raises(ZeroDivisionError), unit_of_work() as work:
        after_commit(work, lambda: seen.append("sent"))
        work.add(blob("e"))
        work.flush()
        raise ZeroDivisionError
    with unit_of_work() as work:
        work.add(blob("f"))
    assert seen == []


def test_a_rolled_back_savepoint_takes_only_its_own_hooks(db: Session) -> None:
    seen: list[str] = []
    with unit_of_work() as work:
        after_commit(work, lambda: seen.append("before"))
        with pytest.raises(ZeroDivisionError), work.begin_nested():
            work.add(blob("e"))
            work.flush()
            after_commit(work, lambda: seen.append("inside"))
            raise ZeroDivisionError
        after_commit(work, lambda: seen.append("after"))
        work.add(blob("f"))
    assert seen == ["before", "after"]
    assert db.scalars(select(Blob.sha256)).all() == ["f" * 64]


def test_real_database_is_committed_for_other_connections(real_db: str) -> None:
    with unit_of_work() as work:
        work.add(blob("a"))
    with get_sessionmaker()() as other, get_sessionmaker()() as third:
        assert other.scalar(select(Blob.size)) == 1
        assert third.scalar(select(Blob.size)) == 1
