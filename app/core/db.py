"""The database: declarative base, engine, one unit of work per request or task.

Application code never commits. `unit_of_work()` does, once, at the edge; what must
only happen after a commit (a wake-up, freeing a file) is hung on with `after_commit`.
"""

import logging
import select
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from importlib import import_module
from typing import Any

from psycopg.errors import QueryCanceled
from sqlalchemy import DateTime, Engine, MetaData, Table, create_engine, event, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import DisconnectionError, OperationalError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, SessionTransaction, mapped_column, sessionmaker

from app.core.config import get_settings
from app.core.errors import TookTooLong

log = logging.getLogger("bottega.db")
NAMING = {
    "ix": "ix_%(column_0_label)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


OPTIONS = ("timezone=utc", "jit=off", "random_page_cost=1.1", "max_parallel_workers_per_gather=0")
"""Lists are read by index from memory or a fast disk, many at once: none of them may take all the cores."""
CAREFUL = (*OPTIONS, "plan_cache_mode=force_custom_plan")
"""A plan is made for the values at hand: what is right for a tag that few have reads half a million rows for
a tag that many have."""


class Base(DeclarativeBase):
    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map = {
        datetime: DateTime(timezone=True),
        dict[str, Any]: JSONB,
        dict[str, object]: JSONB,
        list[Any]: JSONB,
        list[str]: JSONB,
    }


class Created:
    """Mixin: when the row was made, by the database's clock."""

    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


def all_tables() -> list[Table]:
    """Every table of every domain, for rules that walk foreign keys: a process may know only some."""
    import_module("app.models")
    return list(Base.metadata.tables.values())


def utcnow() -> datetime:
    return datetime.now(UTC)


READING = (*OPTIONS, "default_transaction_read_only=on", "statement_timeout=2000")
"""What answers anybody is read so: it cannot write, and what takes longer would hold up everybody else."""


def make_engine(url: str) -> Engine:
    """Engine for one Postgres URL; half-open connections are found before use."""
    return create_engine(url, pool_pre_ping=True, **_pool(CAREFUL))


def make_reader(url: str) -> Engine:
    """Engine for reading without transactions: a statement is one message to Postgres and one back.

    A ping, a BEGIN and a COMMIT would be three more of each.
    """
    engine = create_engine(url, isolation_level="AUTOCOMMIT", **_pool(READING))
    event.listen(engine, "checkout", _refuse_closed)
    event.listen(engine, "do_execute", _execute)
    return engine


def _execute(cursor: Any, statement: str, values: Any, context: Any) -> bool:
    """A steady statement is planned once for all values, any other for those at hand."""
    cursor.execute(statement, values, prepare=bool(context.execution_options.get("steady")))
    return True


def _pool(options: Sequence[str]) -> dict[str, Any]:
    settings = get_settings().database
    return {
        "pool_size": settings.pool_size,
        "max_overflow": settings.pool_size,
        "pool_recycle": 1800,
        "echo": settings.echo,
        "connect_args": {"connect_timeout": 10, "options": " ".join(f"-c {option}" for option in options)},
    }


def _refuse_closed(connection: Any, _record: object, _proxy: object) -> None:
    """A server that goes away closes its connections: then there is something to read where nothing was
    asked. The pool takes another connection."""
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    if poll.poll(0):
        raise DisconnectionError


@lru_cache
def get_engine() -> Engine:
    return make_engine(get_settings().database_url)


@lru_cache
def get_reader() -> Engine:
    return make_reader(get_settings().database_url)


@lru_cache
def get_sessionmaker() -> sessionmaker[Session]:
    return sessionmaker(get_engine(), expire_on_commit=False, autoflush=True)


def after_commit(session: Session, fn: Callable[[], None]) -> None:
    """Run `fn` once this session's outermost transaction is committed; forgotten on rollback.

    Its failure is logged and stops nothing: the change is made, and clean-up finds what was left.
    """
    session.info.setdefault("after_commit", []).append(fn)


@event.listens_for(Session, "after_transaction_create")
def _mark_savepoint(session: Session, transaction: SessionTransaction) -> None:
    if transaction.nested:
        marks = session.info.setdefault("after_commit_marks", [])
        marks.append(len(session.info.get("after_commit", [])))


@event.listens_for(Session, "after_transaction_end")
def _unmark_savepoint(session: Session, transaction: SessionTransaction) -> None:
    if transaction.nested:
        session.info["after_commit_marks"].pop()


@event.listens_for(Session, "after_commit")
def _run_hooks(session: Session) -> None:
    if session.in_nested_transaction():
        return
    for fn in session.info.pop("after_commit", []):
        try:
            fn()
        except Exception:  # the rows are written: what was asked for has happened
            log.exception("after a commit: %r failed", fn)


@event.listens_for(Session, "after_rollback")
def _drop_hooks(session: Session) -> None:
    """Forget what was hung on since the savepoint, or everything when the whole transaction is undone."""
    keep = session.info["after_commit_marks"][-1] if session.in_nested_transaction() else 0
    del session.info.get("after_commit", [])[keep:]


@contextmanager
def unit_of_work(factory: sessionmaker[Session] | None = None) -> Iterator[Session]:
    """One transaction: commits at the end, rolls back on any error. The only place that commits."""
    session = (factory or get_sessionmaker())()
    try:
        yield session
        if not is_untouched(session):
            session.commit()
    except BaseException:
        session.rollback()
        raise
    finally:
        session.close()


def is_untouched(session: Session) -> bool:
    """Nothing was asked of the database or given to it, and nothing waits for a commit."""
    return not session.in_transaction() and not session.info


@contextmanager
def reading() -> Iterator[Session]:
    """For what anybody may read: no transaction, nothing can be written, two seconds for each statement.

    Errors: TookTooLong.
    """
    with Session(get_reader(), autoflush=False, info={"reader": True}) as session, _patient():
        yield session


@contextmanager
def within(db: Session, seconds: float) -> Iterator[None]:
    """Each statement of the block has so long. Errors: TookTooLong, after which nothing is left to commit."""
    if is_reader(db):
        yield
        return
    db.execute(text(f"set local statement_timeout = {round(seconds * 1000)}"))
    with _patient():
        yield
    db.execute(text("set local statement_timeout = 0"))


def is_reader(db: Session) -> bool:
    """Whether it came from `reading`."""
    return bool(db.info.get("reader"))


@contextmanager
def _patient() -> Iterator[None]:
    try:
        yield
    except OperationalError as error:
        if isinstance(error.orig, QueryCanceled):
            raise TookTooLong("This took too long. Use fewer or rarer words, or another filter.") from error
        raise
