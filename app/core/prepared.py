"""Statements that are compiled once, and objects made of their rows.

Building a statement and its cache key again for each request takes longer than reading thirty rows by index.
What is read often is therefore built once, with named parameters, and asked as text; the rows are plain.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any, TypeVar, cast

from sqlalchemy import Dialect, Executable, Row
from sqlalchemy.dialects.postgresql.psycopg import dialect
from sqlalchemy.orm import Session

T = TypeVar("T")
AnyRow = Row[*tuple[Any, ...]]
_DIALECT: Dialect = dialect()  # type: ignore[no-untyped-call]


class Prepared:
    """One statement. Parameters are `bindparam("name")` with a type, or constants; lists go to `any_()`,
    because an IN of unknown length cannot be compiled beforehand.

    It is `steady` where one way to look up the rows is right for all values, as by their number: then
    planning, which takes longer than reading them, is done once for a connection.
    """

    def __init__(self, statement: Executable, *, steady: bool = False) -> None:
        self.options = {"steady": steady}
        compiled = statement.compile(dialect=_DIALECT)  # type: ignore[attr-defined]
        self.sql = str(compiled)
        self.constants = {name: value for name, value in compiled.params.items() if value is not None}

    def rows(self, db: Session, **values: Any) -> Sequence[AnyRow]:
        """All rows; values that the statement does not name are ignored."""
        if db.autoflush:
            db.flush()
        connection = db.connection()
        return connection.exec_driver_sql(self.sql, self.constants | values, self.options).all()


def build(kind: type[T], values: dict[str, Any]) -> T:
    """Something like a row of that table, to be looked at: `values`, and the properties that the class has.

    It belongs to no session, and what was not read is an AttributeError and never another query. It is not
    an object of the class itself: a list looks at thousands of attributes, and those look them up in Python.
    """
    thing = _Plain.__new__(_plain(kind))  # type: ignore[arg-type]
    thing.__dict__ = values
    return cast(T, thing)


class _Plain:
    pass


@cache
def _plain(kind: type[Any]) -> type[_Plain]:
    kept = {name: value for name, value in vars(kind).items() if isinstance(value, property)}
    return type(kind.__name__, (_Plain,), kept)
