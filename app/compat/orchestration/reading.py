"""Inputs read and refused: every wrong field under the name that the client gave it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from app.core.errors import FieldError, Invalid
from app.web.forms import plain_words

Schema = TypeVar("Schema", bound=BaseModel)


def read(schema: type[Schema], data: Any, pointer: str) -> Schema:
    """Errors: Invalid with a pointer below `pointer` for each wrong field."""
    try:
        return schema.model_validate(data)
    except ValidationError as error:
        raise _refusal(error, pointer) from error


def _refusal(error: ValidationError, pointer: str, names: Mapping[str, str] | None = None) -> Invalid:
    wrong = [
        FieldError(_below(pointer, e["loc"], names or {}), plain_words(e), e["type"]) for e in error.errors()
    ]
    return refusal(wrong)


def refusal(wrong: list[FieldError]) -> Invalid:
    listed = "; ".join(f"{e.pointer.rsplit('/', 1)[-1]}: {e.detail}" for e in wrong[:5])
    return Invalid(f"Please correct: {listed}.", wrong)


def refuse(pointer: str, words: str, code: str = "invalid") -> Invalid:
    """One wrong field; `code` is said of the field."""
    return refusal([FieldError(pointer, words, code)])


def _below(pointer: str, parts: tuple[str | int, ...], names: Mapping[str, str]) -> str:
    parts = parts[1:] if parts[:1] == ("params",) else parts
    first = [names.get(str(part), part) for part in parts[:1]]
    return "/".join([pointer, *map(str, [*first, *parts[1:]])])


@contextmanager
def told_at(pointer: str, names: Mapping[str, str]) -> Iterator[None]:
    """What a service says of its own fields is said of the client's; `names`: ours → theirs."""
    try:
        yield
    except ValidationError as error:
        raise _refusal(error, pointer, names) from error
    except Invalid as error:
        told = [
            FieldError(
                _below(pointer, tuple(e.pointer.removeprefix("#/").split("/")), names), e.detail, e.code
            )
            for e in error.errors
        ]
        raise Invalid(
            error.detail, told or [FieldError(pointer, error.detail, error.code)], code=error.code
        ) from error
