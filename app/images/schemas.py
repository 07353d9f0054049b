"""What REST takes for pictures. An unknown field is an error that names it."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Visibility = Literal["private", "unlisted", "public"]
Rating = Literal[1, 2, 4, 8, 16]
"""Civitai's bits: PG, PG-13, R, X, XXX."""


class ImagePatch(BaseModel):
    """Every field may be left out; what is left out stays as it is."""

    model_config = ConfigDict(extra="forbid")

    visibility: Visibility | None = None
    rating: Rating | None = None
    title: str | None = Field(default=None, max_length=200)
    description: str | None = Field(default=None, max_length=10_000)
    tags: list[str] | None = Field(default=None, max_length=30)
