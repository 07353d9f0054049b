"""Reports of what must not be here, and what an admin decides.

A take-down hides a thing from everybody but admins and keeps it as evidence; the same bytes
cannot be published again. Anybody may report what they can see, without an account.
"""

from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.accounts.models import User
from app.core.db import utcnow
from app.core.errors import Forbidden, Invalid, NotFound
from app.gallery.models import Model, Report
from app.gallery.schemas import REASONS, ReportIn
from app.gallery.service import get_model, take_down_model
from app.images.models import Image
from app.images.service import get_image, take_down_image

MAX_OPEN_PER_TARGET = 50
"""More reports of the same thing say nothing new."""


def create_report(db: Session, viewer: User | None, body: ReportIn, *, key: str | None = None) -> Report:
    """Errors: NotFound for what this person cannot see."""
    get_target(db, viewer, body.kind, body.id, key=key)
    same = select(Report).where(
        Report.kind == body.kind, Report.target_id == body.id, Report.status == "open"
    )
    known = list(db.scalars(same.order_by(Report.id.desc()).limit(MAX_OPEN_PER_TARGET)))
    if len(known) >= MAX_OPEN_PER_TARGET:
        return known[0]
    report = Report(
        kind=body.kind,
        target_id=body.id,
        reason=body.reason,
        detail=body.detail.strip(),
        reporter_id=viewer.id if viewer else None,
        status="open",
    )
    db.add(report)
    db.flush()
    return report


def get_target(
    db: Session, viewer: User | None, kind: str, number: int, *, key: str | None = None
) -> Model | Image:
    """The thing itself. Errors: NotFound."""
    if kind == "model":
        return get_model(db, viewer, number, key=key)
    if kind == "image":
        return get_image(db, viewer, number, key=key)
    raise NotFound("There is nothing of that kind to report.")


def list_reports(db: Session, admin: User, *, status: str = "open", limit: int = 100) -> list[Report]:
    """Oldest first; `status` is `open`, `taken-down`, `dismissed` or empty for all. Errors: Forbidden."""
    _require_admin(admin)
    query = select(Report).order_by(Report.id).limit(limit)
    return list(db.scalars(query.where(Report.status == status) if status else query))


def resolve_report(db: Session, admin: User, report_id: int, *, action: str, note: str = "") -> Report:
    """`take-down`, `dismiss` or `restore` (brings back what was taken down).

    Every open report of the same thing is answered with it. Errors: Forbidden, NotFound, Invalid.
    """
    _require_admin(admin)
    report = db.get(Report, report_id)
    if report is None:
        raise NotFound("There is no such report.")
    if action not in ("take-down", "dismiss", "restore"):
        raise Invalid("Choose take-down, dismiss or restore.")
    if action != "dismiss":
        _take_down(db, admin, report, back=action == "restore")
    for row in _together(db, report):
        row.status = "taken-down" if action == "take-down" else "dismissed"
        row.note, row.resolved_by, row.resolved_at = note, admin.id, utcnow()
    db.flush()
    return report


def _take_down(db: Session, admin: User, report: Report, *, back: bool) -> None:
    take_down = take_down_model if report.kind == "model" else take_down_image
    take_down(db, admin, report.target_id, back=back)


def _together(db: Session, report: Report) -> list[Report]:
    others = select(Report).where(
        Report.kind == report.kind, Report.target_id == report.target_id, Report.status == "open"
    )
    return [report, *(row for row in db.scalars(others) if row.id != report.id)]


def _require_admin(user: User) -> None:
    if not user.is_admin:
        raise Forbidden("Only an admin may do this.")


def report_out(report: Report) -> dict[str, Any]:
    return {
        "id": report.id,
        "kind": report.kind,
        "target": report.target_id,
        "url": f"/{'models' if report.kind == 'model' else 'images'}/{report.target_id}",
        "reason": report.reason,
        "reason_words": REASONS.get(report.reason, report.reason),
        "detail": report.detail,
        "status": report.status,
        "note": report.note,
        "created_at": report.created_at,
        "resolved_at": report.resolved_at,
    }
