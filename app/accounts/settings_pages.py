"""The Settings page: look, password, logins, API tokens, leaving."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Form, Request
from fastapi.responses import Response

from app.accounts import farewell, quotas, service, sessions, tokens
from app.accounts.deps import CurrentUser, Identified, Identity, cookie_name
from app.accounts.models import User
from app.core.errors import Forbidden
from app.web.deps import Db, Store
from app.web.forms import Attempt, attempt
from app.web.templating import redirect, render

THEMES = ("", "light", "dark")
SCOPE_WORDS = {
    "read": "see your data sets, jobs, pictures and private models",
    "generate": "generate pictures",
    "train": "upload data sets and train",
    "publish": "publish, change and delete models and pictures",
    "admin": "use the admin pages and figures",
}
DAYS = ((0, "never"), (30, "30 days"), (90, "90 days"), (365, "one year"))
Text = Annotated[str, Form()]


async def _need_browser(identity: Identified) -> None:
    """An account is changed by its person in a browser, not with a token."""
    if identity.token is not None:
        raise Forbidden("Settings are changed in the browser, not with a token.")


router = APIRouter(prefix="/settings", dependencies=[Depends(_need_browser)])


def browser_words(agent: str) -> str:
    """`Firefox on Linux` from a User-Agent."""
    browsers = (
        ("Edg/", "Edge"),
        ("OPR/", "Opera"),
        ("Firefox/", "Firefox"),
        ("Chrome/", "Chrome"),
        ("Safari/", "Safari"),
    )
    systems = (
        ("Android", "Android"),
        ("iPhone", "iPhone"),
        ("iPad", "iPad"),
        ("Windows", "Windows"),
        ("Mac OS", "Mac"),
        ("Linux", "Linux"),
    )
    browser = next(
        (word for mark, word in browsers if mark in agent), agent.split("/")[0][:30] or "A browser"
    )
    system = next((f" on {word}" for mark, word in systems if mark in agent), "")
    return browser + system


def _page(
    request: Request, db: Db, user: User, identity: Identity, tried: Attempt[Any] | None = None, **more: Any
) -> Response:
    context = {"errors": tried.errors if tried else {}, "secret": None, "done": "", **more}
    response = render(
        request,
        "accounts/settings.html",
        status=tried.status if tried else 200,
        account=user,
        used=quotas.used_bytes(db, user),
        quota=quotas.quota_bytes(user),
        logins=sessions.list_sessions(db, user),
        this_login=identity.session.id if identity.session else None,
        tokens=tokens.list_tokens(db, user),
        scopes=[(scope, SCOPE_WORDS[scope]) for scope in tokens.user_scopes(user)],
        days=DAYS,
        browser_words=browser_words,
        **context,
    )
    response.headers["Cache-Control"] = "no-store"
    return response


DONE = {
    "password": "Your password is changed. All other browsers are logged out.",
    "logins": "Done: logged out.",
    "pictures": "Saved. It holds for all your pictures at once.",
    "token": "The token is deleted. Programs that use it are refused from now on.",
}


@router.get("")
def show_settings(
    request: Request, db: Db, user: CurrentUser, identity: Identified, done: str = ""
) -> Response:
    return _page(request, db, user, identity, done=DONE.get(done, ""))


@router.post("/theme")
def set_theme(request: Request, db: Db, user: CurrentUser, theme: Text = "") -> Response:
    chosen = theme if theme in THEMES else ""
    service.set_preference(db, user, theme=chosen)
    response = redirect(request, "/settings#look")
    response.set_cookie("theme", chosen, max_age=365 * 86400 if chosen else 0, samesite="lax", path="/")
    return response


@router.post("/pictures")
def set_pictures(request: Request, db: Db, user: CurrentUser, embed_data: Text = "") -> Response:
    """Whether others find the generation data in the files of one's pictures."""
    service.set_preference(db, user, embed_data=bool(embed_data))
    return redirect(request, "/settings?done=pictures")


@router.post("/password")
def set_password(
    request: Request,
    db: Db,
    user: CurrentUser,
    identity: Identified,
    *,
    current: Text = "",
    password: Text = "",
) -> Response:
    keep = identity.session.id if identity.session else None
    tried = attempt(db, service.change_password, user, current, password, keep_session=keep)
    if tried.failed:
        return _page(request, db, user, identity, tried)
    return redirect(request, "/settings?done=password")


@router.post("/logins/end-others")
def end_other_logins(request: Request, db: Db, user: CurrentUser, identity: Identified) -> Response:
    sessions.revoke_sessions(db, user, keep=identity.session.id if identity.session else None)
    return redirect(request, "/settings?done=logins")


@router.post("/logins/{session_id:int}/end")
def end_login(request: Request, db: Db, user: CurrentUser, session_id: int) -> Response:
    sessions.revoke_session(db, user, session_id)
    return redirect(request, "/settings?done=logins")


@router.post("/tokens")
def make_token(
    request: Request,
    db: Db,
    user: CurrentUser,
    identity: Identified,
    *,
    name: Text = "",
    scopes: Annotated[list[str], Form()] = [],  # noqa: B006 -- FastAPI copies it
    days: Annotated[int, Form()] = 0,
) -> Response:
    """The answer is the page itself, because the token is shown once and must not be in any address."""
    tried = attempt(db, tokens.create_token, user, name=name, scopes=scopes, days=days or None)
    secret = tried.value[1] if tried.value else None
    return _page(request, db, user, identity, tried, secret=secret)


@router.post("/tokens/{token_id:int}/delete")
def drop_token(request: Request, db: Db, user: CurrentUser, token_id: int) -> Response:
    tokens.delete_token(db, user, token_id)
    return redirect(request, "/settings?done=token")


@router.post("/delete")
def leave(
    request: Request, db: Db, store: Store, user: CurrentUser, identity: Identified, *, confirm: Text = ""
) -> Response:
    tried = attempt(db, farewell.delete_account, user, user, confirm=confirm, storage=store)
    if tried.failed:
        return _page(request, db, user, identity, tried)
    response = redirect(request, "/")
    response.delete_cookie(
        cookie_name(request), path="/", secure=request.url.scheme == "https", httponly=True
    )
    return response
