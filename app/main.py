"""The web application: every domain's pages and REST routes, middleware, error handlers.

A domain is mounted by having `api.py` or `pages.py` with a `router`; nothing else lists them.
"""

import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import import_module
from importlib.util import find_spec

from fastapi import APIRouter, Depends, FastAPI
from starlette.staticfiles import StaticFiles

from app import models as models  # all tables, so that relationships resolve
from app.accounts.deps import guard, show_viewer
from app.compat.orchestration.preparing import tend_workflows
from app.core.config import get_settings
from app.core.logs import setup_logs
from app.gallery.summary import recount_in_turn
from app.jobs.reaper import Reaper, every_tick
from app.training.service import expire_checkpoints
from app.web.errors import add_error_handlers
from app.web.middleware import Preflight, RefuseForgedWrites, SecurityHeaders, TrustedProxy
from app.web.ratelimit import RateLimitHeaders
from app.web.rendered import add_rendered_handler
from app.web.routing import Directory
from app.web.templating import DIST
from app.web.unknown_query import refuse_unknown_query

DOMAINS = (
    "accounts", "uploads", "datasets", "jobs", "images", "gallery", "training", "generation", "compat",
    "admin", "web",
)  # fmt: skip
VERSION = "0.1.0"
BODY_BYTES = 4 << 20
"""What a request may bring where its route says nothing else: forms and JSON are read into memory."""


def _routers(face: str) -> list[APIRouter]:
    names = [f"app.{domain}.{face}" for domain in DOMAINS]
    return [import_module(name).router for name in names if find_spec(name)]


def collect_rarely() -> None:
    """What lives as long as the process is never walked for garbage again: a list makes thousands of objects,
    and walking all of the application for each few hundred of them takes longer than making them."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


@asynccontextmanager
async def look_after(_app: FastAPI) -> AsyncIterator[None]:
    """While the server runs, look after jobs without a worker and after all that expires."""
    every_tick(expire_checkpoints)
    every_tick(recount_in_turn)
    every_tick(tend_workflows)
    reaper = Reaper()
    reaper.start()
    collect_rarely()
    yield
    reaper.stop()


def create_app() -> FastAPI:
    settings = get_settings()
    setup_logs("web")
    app = FastAPI(
        title="Bottega",
        version=VERSION,
        description="Train, publish and use LoRAs. Send `Authorization: Bearer <token>`.",
        max_body_size=BODY_BYTES,
        docs_url=None,
        redoc_url=None,
        dependencies=[Depends(guard), Depends(refuse_unknown_query)],
        lifespan=look_after,
    )
    app.state.show_viewer = show_viewer
    for router in _routers("api"):
        app.include_router(router)
    for router in _routers("pages"):
        app.include_router(router, include_in_schema=False)
    app.router.routes.insert(0, Directory(app.router.routes))
    DIST.mkdir(parents=True, exist_ok=True)
    app.mount("/static", StaticFiles(directory=DIST), name="static")
    add_error_handlers(app)
    add_rendered_handler(app)
    app.add_middleware(Preflight)
    app.add_middleware(RateLimitHeaders)
    app.add_middleware(RefuseForgedWrites, public_url=settings.server.public_url)
    app.add_middleware(SecurityHeaders)
    app.add_middleware(TrustedProxy, trusted=settings.server.trusted_proxies)
    return app
