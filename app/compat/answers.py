"""How Civitai's API answers: `{"error": …}`, not problem+json; open to every origin; lenient queries."""

import re
from collections.abc import Callable, Coroutine, Sequence
from typing import Any
from urllib.parse import urlencode

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from sqlalchemy.exc import DataError

from app.core.errors import AppError, RateLimited, Unauthorized
from app.web.links import origin

TRUE = {"true", "1", "yes", "on"}
FALSE = {"false", "0", "no", "off", ""}
MAX_ID = 2_147_483_647
OPEN = {"Access-Control-Allow-Origin": "*", "Access-Control-Allow-Headers": "*"}


class Refused(AppError):
    """A 400 with a body of its own."""

    def __init__(self, words: Any) -> None:
        super().__init__(str(words))
        self.body = words


def issue(path: str, words: str) -> Refused:
    """What a wrong parameter of a list answers: the shape of a zod error."""
    return Refused({"name": "ZodError", "message": words, "issues": [{"path": [path], "message": words}]})


class CivitaiRoute(APIRoute):
    """Renders every error of its routes as Civitai does, after the transaction was rolled back."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                response = await handle(request)
            except AppError as error:
                response = _error(error)
            except RequestValidationError as error:
                words = "; ".join(f"{e['loc'][-1]}: {e['msg']}" for e in error.errors()[:5])
                response = JSONResponse({"error": words}, 400)
            except (DataError, UnicodeEncodeError):
                response = JSONResponse(
                    {"error": "A parameter is no text or a number that is too large"}, 400
                )
            for name, value in OPEN.items():
                response.headers.setdefault(name, value)
            return response

        return answer


def _error(error: AppError) -> Response:
    words: Any = error.detail
    if isinstance(error, Refused):
        words = error.body
    elif isinstance(error, Unauthorized):
        words = "Unauthorized"
    elif isinstance(error, RateLimited):
        words = error.detail
    status = 400 if error.status == 422 else error.status
    return JSONResponse({"error": words}, status, headers=error.headers)


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
        if not re.fullmatch(r"-?\d{1,10}", raw) or abs(int(raw)) > MAX_ID:
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

    def level(self, default: int = 1) -> int:
        """Bits of the ratings wanted: `browsingLevel`, else `nsfw` (word or flag); PG only without both."""
        bits = self.integer("browsingLevel", least=1, most=63)
        if bits is not None:
            return bits
        word = self.raw.get("nsfw", "")
        words = {"None": 1, "Soft": 3, "Mature": 7, "X": 31, "Blocked": 32}
        if word in words:
            return words[word]
        wanted = self.flag("nsfw")
        return default if wanted is None else 31 if wanted else 1

    def next_page(self, cursor: str | None) -> dict[str, str]:
        """`nextCursor` and `nextPage`, or nothing at the end of the list."""
        if cursor is None:
            return {}
        kept = [(k, v) for k, v in self.raw.multi_items() if k not in ("cursor", "page", "token")]
        address = f"{origin(self.request)}{self.request.url.path}?{urlencode([*kept, ('cursor', cursor)])}"
        return {"nextCursor": cursor, "nextPage": address}

    def numbered(self, total: int, page: int, size: int) -> dict[str, Any]:
        """Metadata of the lists that count pages."""
        pages = -(-total // size)
        metadata: dict[str, Any] = {
            "totalItems": total, "currentPage": page, "pageSize": size, "totalPages": pages,
        }  # fmt: skip
        for name, other in (("nextPage", page + 1), ("prevPage", page - 1)):
            if 1 <= other <= pages:
                kept = [(k, v) for k, v in self.raw.multi_items() if k not in ("page", "token")]
                query = urlencode([*kept, ("page", other)])
                metadata[name] = f"{origin(self.request)}{self.request.url.path}?{query}"
        return metadata


def path_id(raw: str) -> int:
    """An id of the path. Errors: Refused (400) for anything else."""
    if re.fullmatch(r"\d{1,10}", raw) and 1 <= int(raw) <= MAX_ID:
        return int(raw)
    raise Refused("Invalid input: expected number, received NaN")
