"""The queue of reports as an admin works through it: each with the thing, its maker and its age."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy.orm import Session

from app.accounts.models import User
from app.core.db import utcnow
from app.core.errors import NotFound
from app.gallery.models import Report
from app.gallery.reports import get_target, list_reports, report_out
from app.images.models import Image

ANSWER_WITHIN = timedelta(hours=48)


@dataclass(frozen=True)
class Case:
    report: dict[str, Any]
    """As the REST route answers it."""
    name: str
    maker: str
    picture: str | None
    """Address of the picture itself, when it is one."""
    gone: bool
    late: bool


def list_cases(db: Session, admin: User, *, status: str) -> list[Case]:
    """Oldest first. Errors: Forbidden."""
    return [_case(db, admin, report) for report in list_reports(db, admin, status=status)]


def _case(db: Session, admin: User, report: Report) -> Case:
    late = report.status == "open" and report.created_at < utcnow() - ANSWER_WITHIN
    try:
        target = get_target(db, admin, report.kind, report.target_id)
    except NotFound:
        name = f"A {'picture' if report.kind == 'image' else report.kind} that its maker has deleted"
        return Case(report_out(report), name=name, maker="", picture=None, gone=True, late=late)
    if isinstance(target, Image):
        name, picture = target.title or f"Picture {target.id}", f"/api/v1/images/{target.id}/file"
    else:
        name, picture = target.name, None
    return Case(report_out(report), name=name, maker=target.username, picture=picture, gone=False, late=late)
