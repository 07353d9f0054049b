"""Statements that are compiled once, and objects made of their rows.

Building a statement and its cache key again for each request takes longer than reading thirty rows by index.
What is read often is therefore built once, with named parameters, and asked as text; the rows are plain.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from sqlalchemy import Dialect, Executable, Row
from sqlalchemy.dialects.postgresql.psycopg import dialect
from sqlalchemy.orm import Session
from sqlalchemy.orm.instrumentation import manager_of_class

T = TypeVar("T")
AnyRow = Row[*tuple[Any, ...]]
_DIALECT: Dialect = dialect()  # type: ignore[no-untyped-call]


class Prepared:
    """One statement. Parameters are `bindparam("name")` with a type, or constants; lists go to `any_()`,
    because an IN of unknown length cannot be compiled beforehand."""

    def __init__(self, statement: Executable) -> None:
        compiled = statement.compile(dialect=_DIALECT)  # type: ignore[attr-defined]
        self.sql = str(compiled)
        self.constants = {name: value for name, value in compiled.params.items() if value is not None}

    def rows(self, db: Session, **values: Any) -> Sequence[AnyRow]:
        """All rows; values that the statement does not name are ignored."""
        if db.autoflush:
            db.flush()
        return db.connection().exec_driver_sql(self.sql, self.constants | values).all()


def build(kind: type[T], values: Mapping[str, Any]) -> T:
    """An object of a table, as it would be read, that belongs to no session: it is only looked at.

    What `values` leaves out is an error when it is asked for, and never another query.
    """
    thing: T = manager_of_class(kind).new_instance()
    thing.__dict__.update(values)
    return thing
