"""Plain HTML forms: try what was asked, and on a mistake show the same page with words at each field."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from sqlalchemy.orm import Session

from app.core.errors import AppError, Invalid

T = TypeVar("T")


@dataclass(frozen=True)
class Attempt(Generic[T]):
    """What came of it: a value, or errors by field name (`form` for what belongs to none)."""

    value: T | None = None
    errors: dict[str, str] = field(default_factory=dict)
    status: int = 200

    @property
    def failed(self) -> bool:
        return bool(self.errors)


def attempt(db: Session, action: Callable[..., T], *args: Any, **options: Any) -> Attempt[T]:
    """Call `action(db, *args, **options)`; what it had changed before an AppError is undone."""
    try:
        with db.begin_nested():
            return Attempt(action(db, *args, **options))
    except AppError as error:
        return Attempt(errors=field_errors(error), status=error.status)


def field_errors(error: AppError) -> dict[str, str]:
    """Field name → words, from the JSON pointers of an Invalid."""
    if isinstance(error, Invalid) and error.errors:
        return {e.pointer.removeprefix("#/"): e.detail for e in error.errors}
    return {"form": error.detail}
