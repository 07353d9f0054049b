"""People: making an account, logging in, roles, registration, leaving.

The rules of who may do what to whom are the `can_…` functions; routes ask nothing else.
"""

import re
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.accounts import links, sessions
from app.accounts.models import Setting, User
from app.accounts.passwords import MAX_LENGTH, check_new_password
from app.core import throttle
from app.core.config import get_settings
from app.core.db import utcnow
from app.core.errors import Conflict, FieldError, Forbidden, Invalid, NotFound, Unauthorized
from app.core.security import check_password, hash_password

USERNAME = re.compile(r"[A-Za-z0-9_-]{2,40}")
RESERVED = frozenset({"anonymous", "api", "bottega", "me", "null", "system", "undefined"})
ROLES = ("member", "admin")
REGISTRATION = ("open", "invite", "closed")
SYSTEM = "bottega"
WRONG = "The name or the password is not right."
WAIT = "Too many attempts to log in. Wait a few minutes, then try again."


def can_manage_users(actor: User) -> bool:
    return actor.is_admin


def can_edit_account(actor: User, user: User) -> bool:
    return actor.id == user.id or actor.is_admin


def _require_admin(actor: User) -> None:
    if not can_manage_users(actor):
        raise Forbidden("Only an admin may do this.")


def find_user(db: Session, username: str) -> User | None:
    """By name, whatever its case."""
    return db.scalar(select(User).where(func.lower(User.username) == username.strip().lower()))


def get_user(db: Session, user_id: int) -> User:
    user = db.get(User, user_id)
    if user is None:
        raise NotFound("There is no such person.")
    return user


def list_users(db: Session) -> list[User]:
    """All accounts that people use, by name."""
    query = select(User).where(User.username != SYSTEM).order_by(func.lower(User.username))
    return list(db.scalars(query))


def create_user(db: Session, username: str, password: str, *, role: str = "member") -> User:
    """Errors: Invalid for the name or the password, Conflict when the name is taken."""
    name = username.strip()
    _check_username(name)
    check_new_password(password, name)
    return _insert(db, User(username=name, password_hash=hash_password(password), role=role))


def _check_username(name: str) -> None:
    words = ""
    if not USERNAME.fullmatch(name):
        words = "A name has 2 to 40 letters, digits, - or _."
    elif name.lower() in RESERVED:
        words = "This name is reserved. Choose another one."
    if words:
        raise Invalid(words, [FieldError("#/username", words)])


def _insert(db: Session, user: User) -> User:
    try:
        with db.begin_nested():
            db.add(user)
    except IntegrityError as error:
        raise Conflict("This name is taken. Choose another one.", code="name-taken") from error
    return user


def get_system_user(db: Session) -> User:
    """Owner of what ships with Bottega. Nobody can log in as it."""
    return find_user(db, SYSTEM) or _insert(db, User(username=SYSTEM, password_hash="", disabled_at=utcnow()))


def login(db: Session, username: str, password: str, *, address: str) -> User:
    """The user, when the password is right.

    Errors: Unauthorized in the same words and time for an unknown name, a wrong password and a disabled
    account; RateLimited after too many attempts from this address, for this name or for many.
    """
    rule = get_settings().auth.login_attempts
    throttle.demand("200 per hour", WAIT, "login-address", address)
    key = ("login", address, username.strip().lower()[:80])
    throttle.demand(rule, WAIT, *key)
    user = find_user(db, username)
    hashed = user.password_hash or None if user and user.disabled_at is None else None
    right, renewed = check_password(password[: MAX_LENGTH + 1], hashed)
    if user is None or not right:
        raise Unauthorized(WRONG, code="login-failed")
    if renewed:
        user.password_hash = renewed
    throttle.forget(rule, *key)
    return user


def change_password(db: Session, user: User, current: str, new: str, *, keep_session: int | None) -> None:
    """Set a new password and end all other logins. Errors: Invalid at `#/current` or `#/password`."""
    rule = get_settings().auth.login_attempts
    throttle.demand(rule, WAIT, "password", str(user.id))
    right, _ = check_password(current[: MAX_LENGTH + 1], user.password_hash or None)
    if not right:
        raise Invalid(
            "The current password is not right.", [FieldError("#/current", "This is not your password.")]
        )
    check_new_password(new, user.username)
    throttle.forget(rule, "password", str(user.id))
    _set_password(db, user, new, keep_session)


def _set_password(db: Session, user: User, password: str, keep_session: int | None = None) -> None:
    user.password_hash = hash_password(password)
    sessions.revoke_sessions(db, user, keep=keep_session)
    db.flush()


def setup_admin(db: Session, key: str, username: str, password: str) -> User:
    """The first account, by its link. Errors: NotFound for the link, Conflict when there is an admin."""
    links.use_link(db, "setup", key)
    if links.has_admin(db):
        raise Conflict("There is an admin already. Log in, or ask them for an invitation.")
    return create_user(db, username, password, role="admin")


def reset_password(db: Session, key: str, password: str) -> User:
    """A new password by a one-time link; ends every login."""
    link = links.use_link(db, "reset", key)
    user = get_user(db, link.user_id or 0)
    check_new_password(password, user.username)
    _set_password(db, user, password)
    return user


def get_registration(db: Session) -> str:
    """`open`, `invite` or `closed`."""
    row = db.get(Setting, "registration")
    return str(row.value["mode"]) if row else get_settings().server.registration


def set_registration(db: Session, actor: User, mode: str) -> None:
    _require_admin(actor)
    if mode not in REGISTRATION:
        raise Invalid(f"Registration is one of {', '.join(REGISTRATION)}.", [FieldError("#/mode", "unknown")])
    db.merge(Setting(key="registration", value={"mode": mode}))
    db.flush()


def check_registration(db: Session, invite: str | None) -> None:
    """Errors: Forbidden when nobody may register this way, NotFound for a bad invitation."""
    mode = get_registration(db)
    if invite and mode != "closed":
        links.get_link(db, "invite", invite)
    elif mode != "open":
        words = "New accounts need an invitation." if mode == "invite" else "Registration is closed."
        raise Forbidden(f"{words} Ask the admin of this site.", code="registration-closed")


def register(
    db: Session, username: str, password: str, *, invite: str | None = None, address: str = ""
) -> User:
    """A new member. Errors: as check_registration and create_user."""
    check_registration(db, invite)
    throttle.demand(
        "20 per hour", "Too many new accounts from your address. Try again later.", "register", address
    )
    if invite:
        links.use_link(db, "invite", invite)
    return create_user(db, username, password)


def create_invite(db: Session, actor: User) -> str:
    """Path of a link that makes one account."""
    _require_admin(actor)
    return links.create_link(db, "invite")


def create_reset_link(db: Session, actor: User, user: User) -> str:
    """Path of a link that sets a new password of `user`."""
    _require_admin(actor)
    return links.create_link(db, "reset", user)


def set_role(db: Session, actor: User, user: User, role: str) -> None:
    """Errors: Conflict when the last admin would go."""
    _require_admin(actor)
    if role not in ROLES:
        raise Invalid("A role is member or admin.", [FieldError("#/role", "unknown")])
    if role != "admin":
        keep_an_admin(db, user)
    user.role = role
    db.flush()


def set_disabled(db: Session, actor: User, user: User, disabled: bool) -> None:
    """A disabled person is logged out at once, and no token of theirs works."""
    _require_admin(actor)
    if disabled:
        keep_an_admin(db, user)
        sessions.revoke_sessions(db, user)
    user.disabled_at = utcnow() if disabled else None
    db.flush()


def set_quota(db: Session, actor: User, user: User, size: int | None) -> None:
    """Bytes that `user` may keep; None = the default of this site."""
    _require_admin(actor)
    if size is not None and not 0 <= size < 2**60:
        raise Invalid("Give the quota in whole gigabytes.", [FieldError("#/quota", "0 or more")])
    user.quota_bytes = size
    db.flush()


def keep_an_admin(db: Session, leaving: User) -> None:
    query = select(User.id).where(User.role == "admin", User.disabled_at.is_(None)).with_for_update()
    if leaving.is_admin and set(db.scalars(query)) <= {leaving.id}:
        raise Conflict("This is the only admin. Make somebody else an admin first.", code="last-admin")


def set_preference(db: Session, user: User, **values: Any) -> None:
    user.preferences = {**user.preferences, **values}
    db.flush()
