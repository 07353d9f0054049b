"""`If-Match`: a change that was made looking at an older state is refused instead of undoing another one."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from app.core.errors import PreconditionFailed


def etag_of(state: Mapping[str, Any]) -> str:
    """A strong tag that changes with any of these values."""
    raw = json.dumps(state, sort_keys=True, default=str)
    return f'"{hashlib.sha256(raw.encode()).hexdigest()[:32]}"'


def require_match(if_match: str | None, *current: str) -> None:
    """Errors: PreconditionFailed when `If-Match` was sent and names none of the tags that are valid now."""
    if if_match is None or if_match.strip() == "*":
        return
    sent = {tag.strip().removeprefix("W/") for tag in if_match.split(",")}
    if not sent & set(current):
        raise PreconditionFailed("This was changed in another tab. Load it again, then make your change.")
