"""What routes ask for: a transaction, the storage, the settings."""

from collections.abc import Iterator
from typing import Annotated

from fastapi import Depends, Request
from sqlalchemy.orm import Session

from app.core.config import Settings, get_settings
from app.core.db import unit_of_work
from app.core.storage import Storage, get_storage


def open_session(request: Request) -> Iterator[Session]:
    """One unit of work a request; tests put their own factory on `app.state.sessions`."""
    with unit_of_work(getattr(request.app.state, "sessions", None)) as session:
        yield session


async def read_form(request: Request) -> dict[str, str]:
    """The text fields of a form whose names are not known beforehand; the last of a name wins."""
    return {key: value for key, value in (await request.form()).items() if isinstance(value, str)}


def open_store(request: Request) -> Storage:
    return getattr(request.app.state, "storage", None) or get_storage()


# scope="function": the commit happens before the answer is sent, so a failed commit is a 500, never a 201.
Db = Annotated[Session, Depends(open_session, scope="function")]
Store = Annotated[Storage, Depends(open_store)]
Config = Annotated[Settings, Depends(get_settings)]
FormFields = Annotated[dict[str, str], Depends(read_form)]
