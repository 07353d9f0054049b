"""Jinja pages: one environment, a handful of filters, assets by their hashed names.

`render(request, "images/index.html", …)` answers the page; with `block="grid"` only that
named block, which is what htmx asks for.
"""

import json
import math
import re
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import nh3
from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from jinja2_fragments import render_block
from markdown_it import MarkdownIt
from markupsafe import Markup

from app.core.config import get_settings

ROOT = Path(__file__).parents[2]
DIST = ROOT / "static" / "dist"
LONG = 4000
"""Letters of a text that is rendered anew each time, so that what is kept stays below 20 MB."""
_SENTENCE = re.compile(r"[^\W\d_](?:[^\W_]|[ ,;.()!?-])*(?<! )")
"""What Markdown leaves as it is: rendering a list's descriptions takes longer than all else in it."""
_MARKDOWN = MarkdownIt("commonmark", {"html": False, "linkify": False}).enable("table")


@lru_cache
def _manifest() -> dict[str, str]:
    """Source name → hashed name, written by the asset build."""
    path = DIST / "manifest.json"
    return json.loads(path.read_text()) if path.exists() else {}


def asset(name: str) -> str:
    """Address of a built asset, e.g. `asset('app.css')`."""
    return f"/static/{_manifest().get(name, name)}"


@lru_cache(maxsize=500)
def icon(name: str, label: str = "") -> Markup:
    """A Lucide icon from the sprite; with a label it speaks to screen readers, else it is decoration."""
    role = Markup('role="img" aria-label="{}"').format(label) if label else Markup('aria-hidden="true"')
    return Markup('<svg class="icon" {}><use href="{}#{}"/></svg>').format(role, asset("icons.svg"), name)


def filesize(size: float | None) -> str:
    """Bytes in words: `9.4 MB`."""
    if size is None:
        return "–"
    for unit in ("bytes", "KB", "MB", "GB", "TB"):
        if size < 1000 or unit == "TB":
            return f"{size:.0f} {unit}" if unit in ("bytes", "KB") else f"{size:.1f} {unit}"
        size /= 1000
    return ""


def thousands(number: float | None) -> str:
    """`1500` → `1 500`, with a narrow no-break space."""
    return "–" if number is None else f"{number:,.0f}".replace(",", "\u202f")


def tenths(width: int, height: int) -> int:
    """Width : height of a picture in tenths, as the classes `a-5` to `a-20` have it."""
    return min(max(round(width * 10 / height), 5), 20)


def duration(seconds: float | None) -> str:
    """Seconds in words, rounded as people speak: `40 seconds`, `8 minutes`, `2 hours`."""
    if seconds is None:
        return "–"
    if seconds < 90:
        rounded = max(1, round(seconds)) if seconds < 10 else 5 * math.ceil(seconds / 5)
        return f"{rounded} second{'s' if rounded != 1 else ''}"
    if seconds < 5400:
        return f"{round(seconds / 60)} minutes"
    hours = seconds / 3600
    return f"{hours:.0f} hours" if hours >= 10 else f"{hours:.1f} hours".replace(".0", "")


def ago(moment: datetime | None) -> str:
    """How long ago, in words."""
    if moment is None:
        return "never"
    seconds = (datetime.now(UTC) - moment).total_seconds()
    if seconds < 45:
        return "just now"
    for size, unit in ((60, "minute"), (3600, "hour"), (86400, "day"), (30 * 86400, "month")):
        limit = {"minute": 3600, "hour": 86400, "day": 30 * 86400, "month": math.inf}[unit]
        if seconds < limit:
            count = max(1, round(seconds / size))
            return f"{count} {unit}{'s' if count != 1 else ''} ago"
    return ""


def markdown(text: str) -> Markup:
    """Markdown of a user as safe HTML: rendered without raw HTML, then through nh3's allowlist."""
    if not text:
        return Markup("")
    if _SENTENCE.fullmatch(text):
        return Markup(f"<p>{text}</p>\n")  # noqa: S704 -- letters, digits and a few signs without meaning
    return _rendered(text) if len(text) <= LONG else _rendered.__wrapped__(text)


@lru_cache(maxsize=2000)
def _rendered(text: str) -> Markup:
    html = nh3.clean(_MARKDOWN.render(text), link_rel="nofollow ugc noopener")
    return Markup(html)  # noqa: S704 -- nh3 has just cleaned it


@lru_cache
def environment() -> Environment:
    """Templates are read once, as code is: what was edited shows after a restart."""
    env = Environment(
        loader=FileSystemLoader(ROOT / "templates"),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    env.globals.update(asset=asset, icon=icon)
    env.filters.update(
        filesize=filesize, thousands=thousands, tenths=tenths, duration=duration, ago=ago, markdown=markdown
    )  # fmt: skip
    return env


def render(
    request: Request, template: str, *, block: str | None = None, status: int = 200, **context: Any
) -> HTMLResponse:
    """A page, or one named block of it. `viewer` (a user or None) comes from the request's state."""
    context = {
        "request": request,
        "path": request.url.path,
        "viewer": getattr(request.state, "viewer", None),
        "theme": request.cookies.get("theme", ""),
        "settings": get_settings(),
        **context,
    }
    env = environment()
    html = (
        render_block(env, template, block, **context) if block else env.get_template(template).render(context)
    )
    return HTMLResponse(html, status)


def is_htmx(request: Request) -> bool:
    """True when htmx asks for a fragment, not when it restores history."""
    return "hx-request" in request.headers and "hx-history-restore-request" not in request.headers


def redirect(request: Request, target: str) -> HTMLResponse:
    """Go to another page after a form was taken: 303 for browsers, HX-Redirect for htmx."""
    if "hx-request" in request.headers:
        return HTMLResponse("", headers={"HX-Redirect": target})
    return HTMLResponse("", 303, headers={"Location": target})
