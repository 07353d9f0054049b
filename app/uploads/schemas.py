"""What the REST routes of uploads take and answer."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from app.uploads.service import MAX_SIZE


class UploadIn(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str = Field(max_length=1000)
    size: int = Field(le=MAX_SIZE, description="Bytes of the whole file.")
    sha256: str | None = Field(default=None, description="When given, the file is compared with it.")


class UploadOut(BaseModel):
    id: str
    name: str
    size: int
    part_size: int
    parts: int
    missing: list[int]
    """Numbers, from 1, of the parts that have not come yet."""
    state: str
    sha256: str | None
    announced_sha256: str | None
    """What the session was begun with; `sha256` is there once the file is whole."""
    hashes: dict[str, Any] | None
    job: str | None
    created_at: datetime
    expires_at: datetime


class UploadList(BaseModel):
    items: list[UploadOut]
