"""What routes ask for: a transaction, the storage, the settings.

Each is `async`, or it would be called in a thread, which takes longer than what it does. So none of them may
wait for anything: what asks the database or a disk goes to a thread.
"""

from collections.abc import AsyncIterator
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Annotated

from anyio import CancelScope, CapacityLimiter, to_thread
from fastapi import Depends, Request
from sqlalchemy.orm import Session

from app.core.config import Settings, get_settings
from app.core.db import is_untouched, unit_of_work
from app.core.storage import Storage, get_storage


def begin_work(request: Request) -> AbstractContextManager[Session]:
    """A unit of work; tests put their own factory on `app.state.sessions`."""
    return unit_of_work(getattr(request.app.state, "sessions", None))


async def open_session(request: Request) -> AsyncIterator[Session]:
    """One unit of work a request. Nothing is asked of the database before a route does."""
    work = begin_work(request)
    db = work.__enter__()
    try:
        yield db
    except BaseException as error:
        await _leave(work, db, error)
        raise
    else:
        await _leave(work, db, None)


async def _leave(work: AbstractContextManager[Session], db: Session, error: BaseException | None) -> None:
    """Commit or roll back: in a thread where there is something to end, whatever becomes of the request.

    The thread is none of the usual ones: those may all be waiting for the connection that is given back here.
    """
    kind: type[BaseException] | None = type(error) if error else None
    trace: TracebackType | None = error.__traceback__ if error else None
    if is_untouched(db):
        work.__exit__(kind, error, trace)
        return
    with CancelScope(shield=True):
        await to_thread.run_sync(work.__exit__, kind, error, trace, limiter=CapacityLimiter(1))


async def read_form(request: Request) -> dict[str, str]:
    """The text fields of a form whose names are not known beforehand; the last of a name wins."""
    return {key: value for key, value in (await request.form()).items() if isinstance(value, str)}


async def open_store(request: Request) -> Storage:
    return getattr(request.app.state, "storage", None) or get_storage()


async def _settings() -> Settings:
    return get_settings()


# scope="function": the commit happens before the answer is sent, so a failed commit is a 500, never a 201.
Db = Annotated[Session, Depends(open_session, scope="function")]
Store = Annotated[Storage, Depends(open_store)]
Config = Annotated[Settings, Depends(_settings)]
FormFields = Annotated[dict[str, str], Depends(read_form)]
