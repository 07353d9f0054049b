"""Business errors: one class with a status, a stable code and words that say what to do.

They know nothing of HTTP frameworks; `app.web.errors` renders them as problem+json,
as a page or as a fragment.
"""

import errno
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class FieldError:
    """One wrong input. `pointer` is a JSON pointer such as `#/params/epochs`."""

    pointer: str
    detail: str
    code: str = "invalid"


class AppError(Exception):
    """Something the user can understand. `extra` goes into the problem+json body."""

    status = 400
    code = "bad-request"
    title = "That did not work"

    def __init__(self, detail: str, *, code: str | None = None, **extra: Any) -> None:
        super().__init__(detail)
        self.detail = detail
        self.code = code or type(self).code
        self.extra = extra

    @property
    def headers(self) -> dict[str, str]:
        return {}


class NotFound(AppError):
    """Also for other people's private things: their existence is not told."""

    status, code, title = 404, "not-found", "Not found"


class Forbidden(AppError):
    status, code, title = 403, "forbidden", "Not allowed"


class Unauthorized(AppError):
    status, code, title = 401, "unauthorized", "Log in first"

    @property
    def headers(self) -> dict[str, str]:
        return {"WWW-Authenticate": 'Bearer realm="bottega"'}


class Conflict(AppError):
    status, code, title = 409, "conflict", "Not possible as things stand"


class Gone(AppError):
    status, code, title = 410, "gone", "No longer here"


class PreconditionFailed(AppError):
    status, code, title = 412, "changed-meanwhile", "Changed in another tab"


class TooLarge(AppError):
    status, code, title = 413, "too-large", "Too large"


class Unsupported(AppError):
    status, code, title = 415, "unsupported-media", "This kind of content cannot be read"


class Invalid(AppError):
    """422: the request was understood and is wrong. Lists every wrong field at once."""

    status, code, title = 422, "validation-failed", "Some fields are wrong"

    def __init__(
        self, detail: str, errors: Sequence[FieldError] = (), *, code: str | None = None, **extra: Any
    ) -> None:
        super().__init__(detail, code=code, **extra)
        self.errors = list(errors)


class RateLimited(AppError):
    status, code, title = 429, "rate-limited", "Too many requests"

    def __init__(self, detail: str, retry_after: int, **extra: Any) -> None:
        super().__init__(detail, retry_after=retry_after, **extra)
        self.retry_after = retry_after

    @property
    def headers(self) -> dict[str, str]:
        return {"Retry-After": str(self.retry_after)}


class TookTooLong(AppError):
    status, code, title = 503, "took-too-long", "This took too long"

    @property
    def headers(self) -> dict[str, str]:
        return {"Retry-After": "5"}


class QuotaExceeded(AppError):
    status, code, title = 403, "quota-exceeded", "Your quota is used up"


class DiskFull(AppError):
    status, code, title = 507, "disk-full", "The disk is full"


def is_disk_full(error: OSError) -> bool:
    """Whether a write failed for want of room, on the disk or in its owner's quota."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)
