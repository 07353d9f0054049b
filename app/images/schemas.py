"""What REST takes for pictures. An unknown field is an error that names it."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

Visibility = Literal["private", "unlisted", "public"]
RATINGS = {"PG": 1, "PG-13": 2, "R": 4, "X": 8, "XXX": 16}


def _rating(value: Any) -> Any:
    return RATINGS.get(value.upper(), value) if isinstance(value, str) else value


Rating = Annotated[Literal[1, 2, 4, 8, 16], BeforeValidator(_rating)]
"""Civitai's bits, or their words: PG, PG-13, R, X, XXX."""


class ImagePatch(BaseModel):
    """Every field may be left out; what is left out stays as it is."""

    model_config = ConfigDict(extra="forbid")

    visibility: Visibility | None = None
    rating: Rating | None = None
    title: str | None = Field(default=None, max_length=200)
    description: str | None = Field(default=None, max_length=10_000)
    tags: list[str] | None = Field(default=None, max_length=30)
