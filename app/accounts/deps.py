"""Who asks: a browser's session cookie or an API token, and what that token may do.

`guard` runs for every route of the application: it finds the viewer, so that every page and
every error page knows them, and counts the request. Routes then say whom they need:

    user: CurrentUser                          anybody logged in; a token needs `read`, or to write another
    user: OptionalUser                         the same, or None for somebody who is not logged in
    user: Annotated[User, Scoped("train")]     a token needs that scope; a browser has all scopes of its role
    user: AdminUser                            an admin; a token needs the scope `admin`
    user: CompatUser                           Civitai's habits: ?token=, Basic, and a bad token is nobody
    user: CompatAnyUser                        the same for somebody who must be known; any scope will do
"""

import base64
import binascii
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import Depends, Request, Security
from fastapi.security import HTTPBearer
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from app.accounts import sessions, tokens
from app.accounts.models import ApiToken, LoginSession, User
from app.core.config import get_settings
from app.core.errors import Forbidden, Unauthorized
from app.web.deps import Db, begin_work
from app.web.middleware import SAFE_METHODS
from app.web.ratelimit import count_request

Viewer = User | None
WRITING = ("generate", "train", "publish", "admin")


@dataclass(frozen=True)
class PageViewer:
    """What templates may know of the viewer: a copy, so that it outlives a rolled-back transaction."""

    id: int
    username: str
    role: str
    preferences: dict[str, Any] = field(default_factory=dict)

    @property
    def is_admin(self) -> bool:
        return self.role == "admin"


@dataclass(frozen=True)
class Identity:
    user: User | None = None
    token: ApiToken | None = None
    session: LoginSession | None = None
    refused: bool = False
    """A token was sent and is not valid."""

    @property
    def scopes(self) -> list[str]:
        if self.token is not None:
            return list(self.token.scopes)
        return tokens.user_scopes(self.user) if self.user else []


def cookie_name(request: Request) -> str:
    """One name per installation, because cookies do not know ports; `__Host-` only where browsers keep it."""
    name = f"bottega_{get_settings().installation}_{request.url.port or 0}"
    return f"__Host-{name}" if request.url.scheme == "https" else name


def session_secret(request: Request) -> str | None:
    return request.cookies.get(cookie_name(request)) if "cookie" in request.headers else None


async def _identify(request: Request, db: Session) -> Identity:
    """Find the viewer. A Bearer token wins, and then cookies do not count. Never refuses by itself."""
    if _bearer(request) is None and session_secret(request) is None:
        return _remember(request, Identity())
    return await run_in_threadpool(_find, request, db)


def _find(request: Request, db: Session) -> Identity:
    secret = _bearer(request)
    return _by_cookie(request, db) if secret is None else _by_token(request, db, secret)


def _bearer(request: Request) -> str | None:
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    return secret.strip() if scheme.lower() == "bearer" else None


def _by_token(request: Request, db: Session, secret: str) -> Identity:
    token = tokens.find_token(db, secret)
    found = Identity(refused=True) if token is None else Identity(user=token.user, token=token)
    return _remember(request, found)


def _by_cookie(request: Request, db: Session) -> Identity:
    secret = session_secret(request)
    session = sessions.find_session(db, secret) if secret else None
    return _remember(request, Identity(user=session.user, session=session) if session else Identity())


def _remember(request: Request, identity: Identity) -> Identity:
    user = identity.user
    request.state.identity = identity
    request.state.viewer = (
        PageViewer(user.id, user.username, user.role, dict(user.preferences)) if user else None
    )
    return identity


def show_viewer(request: Request) -> None:
    """For an error page of an address that no route has: the page's header knows the viewer all the same."""
    with suppress(SQLAlchemyError), begin_work(request) as db:
        _find(request, db)


async def guard(request: Request, db: Db) -> None:
    """For the whole application: knows the viewer, counts the request. Errors: RateLimited."""
    identity = await _identify(request, db)
    if identity.token is not None:
        who = f"token:{identity.token.id}"
    elif identity.user is not None:
        who = f"user:{identity.user.id}"
    else:
        who = f"address:{request.client.host if request.client else ''}"
    await count_request(request, who, browser=identity.session is not None)


async def _identified(request: Request) -> Identity:
    """What `guard` has found. A dependency that has none of its own costs the least."""
    found: Identity = request.state.identity
    return found


Identified = Annotated[Identity, Depends(_identified)]


def _need_user(identity: Identity) -> User:
    if identity.refused:
        words = "This token is not valid. Make a new one on the Settings page."
        raise Unauthorized(words, code="bad-token", error="Unauthorized")
    if identity.user is None:
        words = "Log in first, or send a token: Authorization: Bearer <token>."
        raise Unauthorized(words, error="Unauthorized")  # `error` is what Civitai's clients look for
    return identity.user


def _need_scope(identity: Identity, *scopes: str) -> None:
    if identity.token is not None and not set(scopes) & set(identity.token.scopes):
        words = " or ".join(scopes)
        raise Forbidden(f"This token may not do that: it needs the scope {words}.", code="insufficient-scope")


def _need_usual_scope(request: Request, identity: Identity) -> None:
    """Where a route names no scope: `read` to look; one that only reads never writes."""
    _need_scope(identity, *(("read",) if request.method in SAFE_METHODS else WRITING))


_scheme = HTTPBearer(auto_error=False, scheme_name="token", description="A token of the Settings page.")
_Documented = Security(_scheme)


async def _current_user(request: Request, identity: Identified, _: Annotated[object, _Documented]) -> User:
    user = _need_user(identity)
    _need_usual_scope(request, identity)
    return user


async def _optional_user(request: Request) -> Viewer:
    identity = await _identified(request)
    if identity.refused:
        _need_user(identity)
    _need_usual_scope(request, identity)
    return identity.user


async def _admin_user(identity: Identified, _: Annotated[object, _Documented]) -> User:
    user = _need_user(identity)
    _need_scope(identity, "admin")
    if not user.is_admin:
        raise Forbidden("Only an admin may see this.")
    return user


class _ScopedUser:
    def __init__(self, scope: str) -> None:
        if scope not in tokens.SCOPES:
            raise ValueError(f"unknown scope {scope!r}")
        self.scope = scope

    async def __call__(self, identity: Identified, _: Annotated[object, _Documented]) -> User:
        user = _need_user(identity)
        _need_scope(identity, self.scope)
        return user


def Scoped(scope: str) -> Any:  # noqa: N802 -- reads as a type: Annotated[User, Scoped("train")]
    """The logged-in user, whose token, if one was sent, has `scope`."""
    return Depends(_ScopedUser(scope))


def _compat_secret(request: Request) -> str:
    """A token as other programs send it: any scheme, Basic with the token as password, or ?token=."""
    scheme, _, rest = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(rest, validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            return ""
    return rest.strip() or request.query_params.get("token", "")


async def identify_leniently(request: Request, db: Db) -> Identity:
    """For compatible routes: a token that is not valid is nobody, as Civitai does it."""
    identity = await _identified(request)
    if identity.token is not None:
        return identity
    secret = _compat_secret(request)
    if not secret.startswith(tokens.PREFIX):
        return identity
    return await run_in_threadpool(_by_token, request, db, secret)


LenientlyIdentified = Annotated[Identity, Depends(identify_leniently)]


async def _compat_any_user(identity: LenientlyIdentified, _: Annotated[object, _Documented]) -> User:
    return _need_user(identity)


async def _compat_user(identity: LenientlyIdentified) -> Viewer:
    return identity.user if "read" in identity.scopes else None


async def _compat_reader(identity: LenientlyIdentified) -> Viewer:
    if identity.token is not None:
        _need_scope(identity, "read")
    return identity.user


class _CompatScopedUser:
    def __init__(self, *scopes: str) -> None:
        self.scopes = scopes

    async def __call__(self, identity: LenientlyIdentified, _: Annotated[object, _Documented]) -> User:
        user = _need_user(identity)
        _need_scope(identity, *self.scopes)
        return user


def CompatScoped(*scopes: str) -> Any:  # noqa: N802 -- as Scoped
    """As Scoped, on compatible routes: Basic and ?token= count too. Of several scopes one is enough."""
    return Depends(_CompatScopedUser(*scopes))


CompatReader = Depends(_compat_reader)
"""As CompatUser, but a token that is valid and may not read is refused instead of being nobody."""
NeedAdmin = Depends(_admin_user)
CurrentUser = Annotated[User, Depends(_current_user)]
OptionalUser = Annotated[User | None, Depends(_optional_user)]
AdminUser = Annotated[User, Depends(_admin_user)]
CompatUser = Annotated[User | None, Depends(_compat_user)]
CompatAnyUser = Annotated[User, Depends(_compat_any_user)]
