"""Health routes: for load balancers, for Prometheus, for people who wonder what is missing."""

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST

from app.accounts.deps import NeedAdmin
from app.admin import health, metrics
from app.web.deps import Db, Store

router = APIRouter(tags=["Health"])


@router.get("/healthz", response_class=PlainTextResponse)
async def get_health() -> str:
    """The web process is up."""
    return "ok\n"


@router.get("/readyz", response_class=PlainTextResponse)
def get_readiness(db: Db, store: Store) -> Response:
    """Database, broker, storage and workers, one line each. 503 when the database or the storage is away."""
    checks = health.check_all(db, store)
    text = "".join(f"{check}\n" for check in checks)
    return PlainTextResponse(text, 200 if health.is_ready(checks) else 503)


@router.get("/metrics", response_class=PlainTextResponse, dependencies=[NeedAdmin])
def get_metrics(db: Db, store: Store) -> Response:
    """Figures for Prometheus. Needs an admin's token with the scope `admin`."""
    return Response(metrics.figures(db, store), media_type=CONTENT_TYPE_LATEST)
