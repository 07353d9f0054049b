"""The admin's pages: what runs, who is here, what was reported."""

from typing import Annotated, Any

from fastapi import APIRouter, Form, Request
from fastapi.responses import Response

from app.accounts import farewell, quotas, service
from app.accounts.deps import AdminUser, NeedAdmin
from app.accounts.models import User
from app.admin.reports import list_cases
from app.admin.service import get_overview
from app.core.config import get_settings
from app.gallery.reports import resolve_report
from app.jobs import targets, webhooks
from app.web.deps import Db, Store
from app.web.forms import Attempt, attempt
from app.web.templating import redirect, render

router = APIRouter(prefix="/admin", dependencies=[NeedAdmin])
Text = Annotated[str, Form()]
GB = 10**9
DONE = {
    "registration": "Registration is changed.",
    "role": "The role is changed.",
    "disabled": "Done: this person is logged out and cannot log in.",
    "enabled": "Done: this person can log in again.",
    "quota": "The quota is changed.",
    "deleted": "The account is deleted, and its space is freed.",
    "take-down": "Taken down: nobody but admins sees it any more.",
    "webhooks": "Saved. It holds for the next notice.",
    "dismiss": "The report is dismissed; the thing stays.",
    "restore": "Restored: it is visible again.",
}


def absolute(request: Request, path: str) -> str:
    """A link that can be sent to somebody."""
    base = get_settings().server.public_url or str(request.base_url)
    return base.rstrip("/") + path


@router.get("")
def show_overview(request: Request, db: Db, store: Store, admin: AdminUser, done: str = "") -> Response:
    view = get_overview(db, admin, store)
    private, words = targets.private_allowed(db), DONE.get(done, "")
    return render(
        request, "admin/overview.html", tab="overview", view=view, webhooks_private=private, done=words
    )


@router.post("/webhooks")
def set_webhooks(
    request: Request, db: Db, admin: AdminUser, private: Annotated[bool, Form()] = False
) -> Response:
    webhooks.set_private_allowed(db, admin, private)
    return redirect(request, "/admin?done=webhooks")


@router.get("/people")
def show_people(request: Request, db: Db, done: str = "") -> Response:
    return _people(request, db, done=DONE.get(done, ""))


def _people(
    request: Request,
    db: Db,
    tried: Attempt[Any] | None = None,
    *,
    done: str = "",
    link: str = "",
    link_words: str = "",
) -> Response:
    errors = tried.errors if tried else {}
    response = render(
        request,
        "admin/people.html",
        status=tried.status if tried else 200,
        tab="people",
        people=service.list_users(db),
        used=quotas.used_by_everyone(db),
        default_quota=get_settings().limits.user_bytes,
        registration=service.get_registration(db),
        error=" ".join(errors.values()),
        done=done,
        link=link,
        link_words=link_words,
    )
    response.headers["Cache-Control"] = "no-store"
    return response


def _answer(request: Request, db: Db, tried: Attempt[Any], done: str) -> Response:
    if tried.failed:
        return _people(request, db, tried)
    return redirect(request, f"/admin/people?done={done}")


@router.post("/registration")
def set_registration(request: Request, db: Db, admin: AdminUser, mode: Text = "") -> Response:
    return _answer(request, db, attempt(db, service.set_registration, admin, mode), "registration")


@router.post("/invites")
def make_invite(request: Request, db: Db, admin: AdminUser) -> Response:
    """The answer is the page itself, because the link is shown once."""
    link = absolute(request, service.create_invite(db, admin))
    return _people(
        request, db, link=link, link_words="This link makes one account. It works once, for seven days."
    )


@router.post("/people/{user_id:int}/role")
def set_role(request: Request, db: Db, admin: AdminUser, user_id: int, role: Text = "") -> Response:
    user = service.get_user(db, user_id)
    return _answer(request, db, attempt(db, service.set_role, admin, user, role), "role")


@router.post("/people/{user_id:int}/disabled")
def set_disabled(
    request: Request, db: Db, admin: AdminUser, user_id: int, disabled: Annotated[bool, Form()] = False
) -> Response:
    user = service.get_user(db, user_id)
    tried = attempt(db, service.set_disabled, admin, user, disabled)
    return _answer(request, db, tried, "disabled" if disabled else "enabled")


@router.post("/people/{user_id:int}/quota")
def set_quota(request: Request, db: Db, admin: AdminUser, user_id: int, gigabytes: Text = "") -> Response:
    """Empty means the default of this site."""
    user = service.get_user(db, user_id)
    size = None if not gigabytes.strip() else int(gigabytes) * GB if gigabytes.strip().isdecimal() else -1
    return _answer(request, db, attempt(db, service.set_quota, admin, user, size), "quota")


@router.post("/people/{user_id:int}/reset")
def make_reset_link(request: Request, db: Db, admin: AdminUser, user_id: int) -> Response:
    user: User = service.get_user(db, user_id)
    link = absolute(request, service.create_reset_link(db, admin, user))
    words = f"This link lets {user.username} choose a new password. It works once, for one day."
    return _people(request, db, link=link, link_words=words)


@router.post("/people/{user_id:int}/delete")
def delete_person(
    request: Request, db: Db, store: Store, admin: AdminUser, user_id: int, *, confirm: Text = ""
) -> Response:
    user = service.get_user(db, user_id)
    tried = attempt(db, farewell.delete_account, admin, user, confirm=confirm, storage=store)
    return _answer(request, db, tried, "deleted")


@router.get("/reports")
def show_reports(
    request: Request, db: Db, admin: AdminUser, status: str = "open", done: str = ""
) -> Response:
    chosen = status if status in ("open", "taken-down", "dismissed") else "open"
    cases = list_cases(db, admin, status=chosen)
    words = DONE.get(done, "")
    return render(request, "admin/reports.html", tab="reports", cases=cases, status_filter=chosen, done=words)


@router.post("/reports/{report_id:int}")
def resolve(
    request: Request, db: Db, admin: AdminUser, report_id: int, *, action: Text = "", note: Text = ""
) -> Response:
    resolve_report(db, admin, report_id, action=action, note=note[:2000])
    return redirect(request, f"/admin/reports?done={action}")
