"""Who may use the admin's routes. The owner of a row is an admin here, the other a member."""

from typing import Any

from app.gallery.models import Report
from tests.app.refusals import Row, World, row
from tests.factories import make_image


def the_other(world: World) -> dict[str, Any]:
    return {"user_id": world.other.id}


def a_report(world: World) -> dict[str, Any]:
    image = make_image(world.db, world.other, visibility="public")
    report = Report(kind="image", target_id=image.id, reason="other")
    world.db.add(report)
    world.db.flush()
    return {"report_id": report.id}


def page(path: str, **rest: Any) -> Row:
    return row("GET", path, anonymous=303, other=403, owner=200, as_admin=True, **rest)


def form(path: str, owner: int, **rest: Any) -> Row:
    return row("POST", path, anonymous=401, other=403, owner=owner, as_admin=True, **rest)


ROWS = [
    row("GET", "/healthz", anonymous=200, other=200, owner=200),
    row("GET", "/readyz", anonymous=200, other=200, owner=200),
    row("GET", "/metrics", anonymous=401, other=403, owner=200, as_admin=True),
    page("/admin"),
    page("/admin/people"),
    page("/admin/reports"),
    form("/admin/registration", 303, data={"mode": "open"}),
    form("/admin/webhooks", 303, data={"private": "true"}),
    form("/admin/invites", 200),
    form("/admin/people/{user_id:int}/role", 303, make=the_other, data={"role": "admin"}),
    form("/admin/people/{user_id:int}/disabled", 303, make=the_other, data={"disabled": "true"}),
    form("/admin/people/{user_id:int}/quota", 303, make=the_other, data={"gigabytes": "3"}),
    form("/admin/people/{user_id:int}/reset", 200, make=the_other),
    form("/admin/people/{user_id:int}/delete", 303, make=the_other, data={"confirm": "other"}),
    form("/admin/reports/{report_id:int}", 303, make=a_report, data={"action": "take-down"}),
]
