"""Pages for getting in: log in, the first account, registration, a new password, log out."""

from typing import Annotated, Any

from fastapi import APIRouter, Form, Request
from fastapi.responses import Response

from app.accounts import links, service, sessions
from app.accounts.deps import Identified, cookie_name, session_secret
from app.accounts.models import User
from app.accounts.settings_pages import router as settings_router
from app.core.config import get_settings
from app.web.deps import Db
from app.web.forms import attempt
from app.web.templating import redirect, render

router = APIRouter()
router.include_router(settings_router)
Text = Annotated[str, Form()]


def local_path(target: str) -> str:
    """`target` when it is a path of this site, else the home page: no open redirect."""
    is_path = target.startswith("/") and not target.startswith(("//", "/\\")) and target.isprintable()
    return target if is_path else "/"


def address(request: Request) -> str:
    return request.client.host if request.client else ""


def enter(request: Request, db: Db, user: User, target: str) -> Response:
    """Log `user` in with a new session and go to `target`."""
    agent = request.headers.get("user-agent", "")
    secret = sessions.create_session(db, user, agent=agent, replaces=session_secret(request))
    response = redirect(request, local_path(target))
    response.set_cookie(
        cookie_name(request),
        secret,
        max_age=get_settings().auth.session_days * 86400,
        httponly=True,
        samesite="lax",
        secure=request.url.scheme == "https",
        path="/",
    )
    if theme := user.preferences.get("theme"):
        response.set_cookie("theme", str(theme), max_age=365 * 86400, samesite="lax", path="/")
    return response


@router.get("/login")
def show_login(request: Request, db: Db, identity: Identified, next: str = "/") -> Response:
    if identity.user is not None:
        return redirect(request, local_path(next))
    return _login_page(request, db, next=next)


def _login_page(
    request: Request, db: Db, *, next: str, username: str = "", error: str = "", status: int = 200
) -> Response:
    return render(
        request,
        "accounts/login.html",
        status=status,
        next=local_path(next),
        username=username,
        error=error,
        registration=service.get_registration(db),
        has_admin=links.has_admin(db),
    )


@router.post("/login")
def do_login(
    request: Request, db: Db, username: Text = "", password: Text = "", next: Text = "/"
) -> Response:
    tried = attempt(db, service.login, username, password, address=address(request))
    if tried.value is None:
        words = " ".join(tried.errors.values())
        return _login_page(request, db, next=next, username=username, error=words, status=tried.status)
    return enter(request, db, tried.value, next)


@router.post("/logout")
def do_logout(request: Request, db: Db) -> Response:
    if secret := session_secret(request):
        sessions.end_session(db, secret)
    response = redirect(request, "/")
    response.delete_cookie(
        cookie_name(request), path="/", secure=request.url.scheme == "https", httponly=True
    )
    return response


def _account_page(request: Request, kind: str, *, status: int = 200, **context: Any) -> Response:
    context = {"username": "", "errors": {}, **context}
    return render(request, "accounts/new.html", status=status, kind=kind, action=request.url.path, **context)


@router.get("/setup/{key}")
def show_setup(request: Request, db: Db, key: str) -> Response:
    links.get_link(db, "setup", key)
    return _account_page(request, "setup")


@router.post("/setup/{key}")
def do_setup(request: Request, db: Db, key: str, username: Text = "", password: Text = "") -> Response:
    links.get_link(db, "setup", key)
    tried = attempt(db, service.setup_admin, key, username, password)
    if tried.value is None:
        return _account_page(request, "setup", status=tried.status, errors=tried.errors, username=username)
    return enter(request, db, tried.value, "/")


@router.get("/register")
@router.get("/register/{invite}")
def show_register(request: Request, db: Db, invite: str | None = None) -> Response:
    service.check_registration(db, invite)
    return _account_page(request, "register")


@router.post("/register")
@router.post("/register/{invite}")
def do_register(
    request: Request, db: Db, invite: str | None = None, username: Text = "", password: Text = ""
) -> Response:
    service.check_registration(db, invite)
    who = address(request)
    tried = attempt(db, service.register, username, password, invite=invite, address=who)
    if tried.value is None:
        return _account_page(request, "register", status=tried.status, errors=tried.errors, username=username)
    return enter(request, db, tried.value, "/")


@router.get("/reset/{key}")
def show_reset(request: Request, db: Db, key: str) -> Response:
    link = links.get_link(db, "reset", key)
    return _account_page(request, "reset", username=service.get_user(db, link.user_id or 0).username)


@router.post("/reset/{key}")
def do_reset(request: Request, db: Db, key: str, password: Text = "") -> Response:
    link = links.get_link(db, "reset", key)
    tried = attempt(db, service.reset_password, key, password)
    if tried.value is None:
        name = service.get_user(db, link.user_id or 0).username
        return _account_page(request, "reset", status=tried.status, errors=tried.errors, username=name)
    return enter(request, db, tried.value, "/")
