"""Who may use the routes about the API itself: everybody."""

from tests.app.refusals import row

ROWS = [
    row("GET", "/docs", anonymous=200, other=200, owner=200),
    row("GET", "/docs/errors", anonymous=200, other=200, owner=200),
    row("GET", "/openapi.json", anonymous=200, other=200, owner=200),
]
