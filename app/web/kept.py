"""Answers that anybody gets, kept while nothing is written to the database: home, lists, pages of models.

Whether one is still true is asked of Postgres: as long as its snapshot is the same, no transaction that
writes has begun or ended, so the answer would be made of the same rows. That holds for every writer and every
process, with nothing to invalidate and nothing that could be forgotten. A request that has written itself,
and one of somebody who is known, is always answered anew.

What nobody in particular asks is read without a transaction, each statement for itself. Where somebody writes
between two of them the answer is made of old and new rows, but it is kept under the snapshot from before the
first, and no snapshot ever comes back: nobody who asks later gets it.
"""

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, wraps
from typing import Any, ParamSpec

from fastapi import Request, Response
from pydantic_core import to_json
from sqlalchemy import Connection, text
from sqlalchemy.orm import Session

from app.core.db import reading
from app.core.prepared import Prepared

P = ParamSpec("P")
Key = tuple[str, ...]
SECONDS = 20.0
"""No longer, because some answers tell how long ago something was."""
BYTES, LARGEST = 32 << 20, 1 << 20
_SNAPSHOT = Prepared(
    text("select case when pg_current_xact_id_if_assigned() is null then pg_current_snapshot()::text end"),
    steady=True,
)


@dataclass(frozen=True)
class Answer:
    body: bytes
    media_type: str
    snapshot: str
    made_at: float

    @cached_property
    def tag(self) -> str:
        """For an ETag."""
        return tag_of(self.body)


@dataclass
class Shelf:
    """The answers asked for last, up to so many bytes."""

    most: int = BYTES
    held: int = 0
    answers: "OrderedDict[Key, Answer]" = field(default_factory=OrderedDict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def find(self, key: Key, snapshot: str) -> Answer | None:
        with self.lock:
            found = self.answers.get(key)
            if found is None or found.snapshot != snapshot or time.monotonic() - found.made_at > SECONDS:
                return None
            self.answers.move_to_end(key)
            return found

    def keep(self, key: Key, answer: Answer) -> None:
        if len(answer.body) > LARGEST:
            return
        with self.lock:
            self._drop(key)
            self.answers[key] = answer
            self.held += _size(key, answer)
            while self.held > self.most:
                self._drop(next(iter(self.answers)))

    def _drop(self, key: Key) -> None:
        old = self.answers.pop(key, None)
        self.held -= _size(key, old) if old else 0


def _size(key: Key, answer: Answer) -> int:
    """About the bytes in memory: a stranger may ask for many small answers under long addresses."""
    return len(answer.body) + 2 * sum(len(part) for part in key) + 1000


shelf = Shelf()


def for_everybody(endpoint: Callable[P, Any]) -> Callable[P, Any]:
    """For a GET route with `request`, `db` and, where that matters, `viewer`, which returns a page or JSON.

    Who asks without being known is answered from the shelf as long as that is the truth.
    """

    @wraps(endpoint)
    def answer(*args: P.args, **kwargs: P.kwargs) -> Any:
        request, given = kwargs["request"], kwargs["db"]
        assert isinstance(request, Request)
        assert isinstance(given, Session)
        if kwargs.get("viewer") is not None:
            return endpoint(*args, **kwargs)
        with _reading(request, given) as db:
            kwargs["db"] = db
            return _answer(request, db, lambda: endpoint(*args, **kwargs))

    return answer


@contextmanager
def _reading(request: Request, given: Session) -> Iterator[Session]:
    """Without a transaction; not where tests work in one of their own, which nobody else looks into."""
    if getattr(request.app.state, "sessions", None) or isinstance(given.bind, Connection):
        yield given
        return
    with reading() as db:
        yield db


def _answer(request: Request, db: Session, make: Callable[[], Any]) -> Response:
    snapshot = _snapshot(db) if request.query_params.get("sort") != "Random" else None
    if snapshot is None:
        return _plain(make())
    key = _key(request)
    found = shelf.find(key, snapshot)
    if found is None:
        result = _plain(make())
        if result.status_code != 200:
            return result
        found = Answer(bytes(result.body), result.media_type or "", snapshot, time.monotonic())
        shelf.keep(key, found)
    return KeptResponse(found)


def _snapshot(db: Session) -> str | None:
    found: str | None = _SNAPSHOT.rows(db)[0][0]
    return found


class KeptResponse(Response):
    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.body, media_type=answer.media_type)
        self.answer = answer


def tag_of(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()[:32]


def _key(request: Request) -> Key:
    """All that an answer to nobody in particular depends on."""
    asked, scope = request.headers, request.scope
    return (
        scope["scheme"], asked.get("host", ""), str(scope.get("server")),
        scope["path"], scope["query_string"].decode("latin-1"),
        request.cookies.get("theme", ""), asked.get("hx-request", ""),
        asked.get("hx-history-restore-request", ""), asked.get("hx-target", ""),
    )  # fmt: skip


def _plain(result: Any) -> Response:
    return (
        result if isinstance(result, Response) else Response(to_json(result), media_type="application/json")
    )
