"""Reading for everybody: nothing can be written, nothing takes long, a server that restarts is noticed.

And statements that are compiled once, with the objects that are made of their rows.
"""

import psycopg
import pytest
from sqlalchemy import ARRAY, String, bindparam, func, literal, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from app.core.blobs import Blob
from app.core.db import get_reader, is_reader, reading, within
from app.core.errors import TookTooLong
from app.core.prepared import Prepared, build
from app.images.models import Image


def test_nothing_can_be_written(real_db: str) -> None:
    with reading() as db:
        assert is_reader(db)
        with pytest.raises(DBAPIError, match="read-only"):
            db.execute(text("insert into term (kind, name, models) values ('tag', 'x', 1)"))


def test_what_takes_long_is_refused(real_db: str) -> None:
    with pytest.raises(TookTooLong), reading() as db:
        assert db.scalar(text("show statement_timeout")) == "2s"
        db.execute(text("set statement_timeout = 50"))
        with within(db, 60):
            db.execute(text("select pg_sleep(20)"))


def test_a_closed_connection_is_not_used_again(real_db: str) -> None:
    with reading() as db:
        first = db.scalar(text("select pg_backend_pid()"))
    assert get_reader().pool.checkedin() == 1  # type: ignore[attr-defined]
    with psycopg.connect(real_db, autocommit=True) as other:
        other.execute("select pg_terminate_backend(%s, 5000)", [first])
    with reading() as db:
        assert db.scalar(text("select pg_backend_pid()")) != first


def test_each_statement_sees_what_is_committed(real_db: str) -> None:
    """There is no transaction, so nothing is held back while a page is made."""
    with reading() as db, psycopg.connect(real_db, autocommit=True) as other:
        count = text("select count(*) from term")
        assert db.scalar(count) == 0
        other.execute("insert into term (kind, name, models) values ('tag', 'x', 1)")
        assert db.scalar(count) == 1


@pytest.mark.parametrize("steady", [False, True])
def test_a_statement_is_asked_with_other_values(real_db: str, steady: bool) -> None:
    names = bindparam("names", type_=ARRAY(String))
    asked = Prepared(select(literal("here"), func.cardinality(names)), steady=steady)
    with reading() as db:
        for amount in range(12):  # Postgres plans a steady one anew for the first five
            assert asked.rows(db, names=["x"] * amount, unknown=7) == [("here", amount)]


def test_what_was_added_before_is_found(db: Session) -> None:
    db.add(Blob(sha256="a" * 64, size=1, media_type="image/png"))
    found = Prepared(select(Blob.size).where(Blob.sha256 == bindparam("sha", type_=String)))
    assert found.rows(db, sha="a" * 64) == [(1,)]


def test_a_built_object_has_its_values_and_properties() -> None:
    clip = build(Image, {"media_type": "video/mp4", "frames": 16, "fps": 8.0})
    assert (clip.is_clip, clip.duration) == (True, 2.0)
    with pytest.raises(AttributeError):
        _ = clip.prompt
