"""Plain HTML forms: try what was asked, and on a mistake show the same page with words at each field."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError
from sqlalchemy.orm import Session

from app.core.errors import AppError, FieldError, Invalid

_PLAIN = {
    "missing": "this field is required",
    "extra_forbidden": "this field is not known",
    "int_parsing": "must be a whole number",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "string_type": "must be text",
    "greater_than_equal": "must be at least {ge}",
    "greater_than": "must be more than {gt}",
    "less_than_equal": "must be at most {le}",
    "less_than": "must be less than {lt}",
    "string_too_long": "is too long: at most {max_length} characters",
    "string_too_short": "is too short: at least {min_length} characters",
    "too_long": "has too many entries: at most {max_length}",
    "literal_error": "must be {expected}",
    "enum": "must be {expected}",
}

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


def plain_words(error: Mapping[str, Any]) -> str:
    """What pydantic says about one field, in the words of a person. `error` is one of `errors()`."""
    words = _PLAIN.get(error["type"])
    if words is None:
        return str(error["msg"]).removeprefix("Value error, ")
    limits = error.get("ctx") or {}
    return words.format_map({k: f"{v:g}" if isinstance(v, float) else v for k, v in limits.items()})


def checked(schema: type[M], **values: Any) -> M:
    """The values of a form as a request body. Errors: Invalid with words for each field."""
    try:
        return schema.model_validate(values)
    except ValidationError as error:
        wrong = [FieldError("#/" + "/".join(map(str, e["loc"])), plain_words(e)) for e in error.errors()]
        listed = "; ".join(f"{e.pointer[2:]}: {e.detail}" for e in wrong[:4])
        raise Invalid(f"Please correct: {listed}.", wrong) from error
