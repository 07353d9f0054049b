"""API tokens: shown once, stored as a hash, limited to scopes. A scope never gives more than the user may."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import or_, select, update
from sqlalchemy.orm import Session

from app.accounts.models import ApiToken, User
from app.core.db import utcnow
from app.core.errors import FieldError, Forbidden, Invalid, NotFound
from app.core.security import digest, new_secret

PREFIX = "bottega_"
SCOPES = ("read", "generate", "train", "publish", "admin")
MEMBER_SCOPES = ("read", "generate", "train", "publish")
SHOWN = len(PREFIX) + 6
MAX_TOKENS = 50
TOUCH = timedelta(minutes=1)


def user_scopes(user: User) -> list[str]:
    """All that a logged-in browser of this user may do."""
    return list(SCOPES if user.is_admin else MEMBER_SCOPES)


def create_token(
    db: Session, user: User, *, name: str, scopes: Sequence[str], days: int | None = None
) -> tuple[ApiToken, str]:
    """Answers the row and the secret, which nobody sees again.

    Errors: Invalid for an unknown scope, no scope or no name; Forbidden for `admin` of a member.
    """
    name = name.strip()
    if not name or len(name) > 64:
        raise Invalid(
            "Give the token a name of 1 to 64 characters.", [FieldError("#/name", "1 to 64 characters")]
        )
    chosen = [s for s in SCOPES if s in scopes]
    unknown = sorted(set(scopes) - set(SCOPES))
    if unknown or not chosen:
        words = f"Choose at least one of {', '.join(SCOPES)}."
        raise Invalid(words, [FieldError("#/scopes", f"unknown: {', '.join(unknown)}" if unknown else words)])
    if "admin" in chosen and not user.is_admin:
        raise Forbidden("Only an admin can make a token with the scope admin.")
    if days is not None and not 1 <= days <= 3650:
        raise Invalid("A token lasts 1 to 3650 days.", [FieldError("#/days", "1 to 3650")])
    if len(list_tokens(db, user)) >= MAX_TOKENS:
        raise Invalid(f"You have {MAX_TOKENS} tokens already. Delete one that you no longer use.")
    return _add(db, user, name, chosen, days)


def _add(db: Session, user: User, name: str, scopes: list[str], days: int | None) -> tuple[ApiToken, str]:
    secret = new_secret(PREFIX)
    token = ApiToken(
        user=user,
        name=name,
        prefix=secret[:SHOWN],
        secret_hash=digest(secret),
        scopes=scopes,
        expires_at=utcnow() + timedelta(days=days) if days else None,
    )
    db.add(token)
    db.flush()
    return token, secret


def find_token(db: Session, secret: str) -> ApiToken | None:
    """The token with this secret, if it has not expired and its user is not disabled."""
    if not secret.startswith(PREFIX):
        return None
    live = or_(ApiToken.expires_at.is_(None), ApiToken.expires_at > utcnow())
    token = db.scalar(select(ApiToken).where(ApiToken.secret_hash == digest(secret), live))
    if token is None or token.user.disabled_at is not None:
        return None
    if token.last_used_at is None or token.last_used_at < utcnow() - TOUCH:
        _touch(db, token.id)
    return token


def _touch(db: Session, token_id: int) -> None:
    """Never waits: a slow request with the same token may hold the row."""
    free = select(ApiToken.id).where(ApiToken.id == token_id).with_for_update(skip_locked=True, of=ApiToken)
    db.execute(update(ApiToken).where(ApiToken.id.in_(free)).values(last_used_at=utcnow()))


def set_preference(db: Session, token: ApiToken, **values: Any) -> None:
    token.preferences = {**token.preferences, **values}
    db.flush()


def list_tokens(db: Session, user: User) -> list[ApiToken]:
    """Newest first."""
    return list(db.scalars(select(ApiToken).where(ApiToken.user_id == user.id).order_by(ApiToken.id.desc())))


def delete_token(db: Session, user: User, token_id: int) -> None:
    """Errors: NotFound when it is not a token of `user`."""
    token = db.get(ApiToken, token_id)
    if token is None or token.user_id != user.id:
        raise NotFound("There is no such token.")
    db.delete(token)
    db.flush()
