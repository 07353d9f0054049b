"""The query string as Civitai's clients write it: repeated or with commas, lenient, paged by `nextPage`."""

import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode

from fastapi import Request

from app.compat.answers import Refused, issue
from app.core.errors import RateLimited
from app.web.links import origin

TRUE = {"true", "1", "yes", "on", "y", "enabled"}
FALSE = {"false", "0", "no", "off", "n", "disabled", ""}
MAX_ID = 2_147_483_647
MAX_ROWS_BY_PAGE = 1000
NSFW_WORDS = {"None": 1, "Soft": 3, "Mature": 7, "X": 31, "Blocked": 32}
PERIODS = ("AllTime", "Year", "Month", "Week", "Day")
TOO_MANY_PAGES = "You've requested too many pages, please use cursors instead"
NOT_WITH_QUERY = "Cannot use page param with query search. Use cursor-based pagination."


class Query:
    """The query string, read as leniently as Civitai does: unknown names do not matter."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.raw = request.query_params

    def text(self, *names: str) -> str:
        return next((self.raw[name].strip() for name in names if self.raw.get(name)), "")

    def many(self, name: str, allowed: Sequence[str] | None = None) -> list[str]:
        """Repeated or comma-separated; with or without `[]` behind the name."""
        parts = [*self.raw.getlist(name), *self.raw.getlist(f"{name}[]")]
        words = [w.strip() for part in parts for w in part.split(",") if w.strip()]
        for word in words:
            if allowed is not None and word not in allowed:
                raise issue(name, f"Invalid option: expected one of {', '.join(allowed)}")
        return words

    def word(self, name: str, allowed: Sequence[str], default: str = "") -> str:
        return next(iter(self.many(name, allowed)), default)

    def integers(self, name: str) -> list[int]:
        return [self._integer(name, word) for word in self.many(name)]

    def integer(
        self, name: str, default: int | None = None, *, least: int = 0, most: int = MAX_ID
    ) -> int | None:
        raw = self.raw.get(name, "").strip()
        if not raw:
            return default
        value = self._integer(name, raw)
        if not least <= value <= most:
            raise issue(name, f"Expected a number from {least} to {most}")
        return value

    @staticmethod
    def _integer(name: str, raw: str) -> int:
        if not re.fullmatch(r"-?\d{1,10}", raw, re.ASCII) or abs(int(raw)) > MAX_ID:
            raise issue(name, "Invalid input: expected number")
        return int(raw)

    def flag(self, name: str) -> bool | None:
        raw = self.raw.get(name)
        if raw is None:
            return None
        if raw.lower() in TRUE:
            return True
        if raw.lower() in FALSE:
            return False
        raise issue(name, "Invalid input: expected boolean")

    def level(self, everything: int) -> int:
        """Bits of the ratings wanted: `browsingLevel`, else `nsfw` (word or flag); PG only without both.

        `everything` is what `nsfw=true` means.
        """
        bits = self.integer("browsingLevel", least=1, most=63)
        if bits is not None:
            return bits
        word = self.raw.get("nsfw", "")
        if word in NSFW_WORDS:
            return NSFW_WORDS[word]
        return everything if self.flag("nsfw") else 1

    def page(self, limit: int) -> int | None:
        """The page that is asked for; None with a cursor, which wins. Errors: Refused, RateLimited."""
        page = self.integer("page", least=1)
        if page is None or self.text("cursor"):
            return None
        if self.text("query"):
            raise Refused(NOT_WITH_QUERY)
        if page * limit > MAX_ROWS_BY_PAGE:
            raise RateLimited(TOO_MANY_PAGES, 60)
        return page

    def _address(self, **changes: Any) -> str:
        kept = [(k, v) for k, v in self.raw.multi_items() if k not in ("cursor", "page")]
        return f"{origin(self.request)}{self.request.url.path}?{urlencode([*kept, *changes.items()])}"

    def paged(
        self, cursor: str | None, page: int | None, limit: int, *, by_page: bool = False
    ) -> dict[str, Any]:
        """Metadata of a list by cursor; at its end without `nextCursor` and `nextPage`.

        `by_page`: who came with a page gets the next one instead of a cursor in `nextPage`.
        """
        metadata: dict[str, Any] = {} if page is None else {"currentPage": page, "pageSize": limit}
        if cursor is not None:
            numbered = by_page and page is not None and (page + 1) * limit <= MAX_ROWS_BY_PAGE
            step = {"page": page + 1} if numbered and page is not None else {"cursor": cursor}
            metadata |= {"nextCursor": cursor, "nextPage": self._address(**step)}
        return metadata

    def numbered(self, total: int, page: int, size: int) -> dict[str, Any]:
        """Metadata of the lists that count pages."""
        pages = -(-total // size)
        metadata: dict[str, Any] = {
            "totalItems": total, "currentPage": page, "pageSize": size, "totalPages": pages,
        }  # fmt: skip
        for name, other in (("nextPage", page + 1), ("prevPage", page - 1)):
            if 1 <= other <= pages:
                metadata[name] = self._address(page=other)
        return metadata


def path_id(raw: str) -> int:
    """An id of the path. Errors: Refused (400) for anything else."""
    if re.fullmatch(r"\d{1,10}", raw, re.ASCII) and 1 <= int(raw) <= MAX_ID:
        return int(raw)
    raise Refused("Invalid input: expected number, received NaN")
