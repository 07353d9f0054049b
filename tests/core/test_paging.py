"""Keyset pages give every row once, in order, also when sort keys repeat."""

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.core.blobs import Blob
from app.core.errors import Invalid
from app.core.paging import decode_cursor, encode_cursor, keyset_page


def walk(db: Session, *, ascending: bool) -> list[str]:
    found: list[str] = []
    cursor: str | None = None
    while True:
        page = keyset_page(
            db, select(Blob), [Blob.size, Blob.sha256], cursor=cursor, limit=2, ascending=ascending
        )
        assert len(page.items) <= 2
        found += [row.sha256[0] for row in page.items]
        cursor = page.next_cursor
        if cursor is None:
            return found


def test_pages_cover_everything_once(db: Session) -> None:
    for letter, size in zip("abcde", [1, 2, 2, 2, 3], strict=True):
        db.add(Blob(sha256=letter * 64, size=size))
    db.flush()
    assert walk(db, ascending=True) == list("abcde")
    assert walk(db, ascending=False) == list("edcba")


def test_no_rows_is_one_empty_page(db: Session) -> None:
    page = keyset_page(db, select(Blob), [Blob.sha256], cursor=None, limit=5)
    assert page.items == []
    assert page.next_cursor is None


def test_cursor_round_trip() -> None:
    assert decode_cursor(encode_cursor(["x", 3]), 2) == ["x", "3"]


@pytest.mark.parametrize("cursor", ["!!!", "e30", encode_cursor(["one"]), "\u00e9", "%00"])
def test_a_foreign_cursor_is_refused(cursor: str) -> None:
    with pytest.raises(Invalid):
        decode_cursor(cursor, 2)


def test_a_cursor_of_the_wrong_type_is_refused(db: Session) -> None:
    with pytest.raises(Invalid):
        keyset_page(db, select(Blob), [Blob.size], cursor=encode_cursor(["many"]), limit=5)
