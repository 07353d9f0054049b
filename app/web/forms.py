"""Plain HTML forms: try what was asked, and on a mistake show the same page with words at each field."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError
from sqlalchemy.orm import Session

from app.core.errors import AppError, FieldError, Invalid

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)


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


def checked(schema: type[M], **values: Any) -> M:
    """The values of a form as a request body. Errors: Invalid with words for each field."""
    try:
        return schema.model_validate(values)
    except ValidationError as error:
        wrong = [FieldError("#/" + "/".join(map(str, e["loc"])), e["msg"]) for e in error.errors()]
        listed = "; ".join(f"{e.pointer[2:]}: {e.detail}" for e in wrong[:4])
        raise Invalid(f"Please correct: {listed}.", wrong) from error
