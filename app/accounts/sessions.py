"""Logged-in browsers. The cookie holds a random secret; the row holds its hash.

A session ends after days without use, after a longest time in any case, and when it is revoked.
"""

from datetime import timedelta

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from app.accounts.models import LoginSession, User
from app.core.config import get_settings
from app.core.db import utcnow
from app.core.errors import NotFound
from app.core.security import digest, new_secret

TOUCH = timedelta(minutes=5)
"""`last_seen_at` is written at most this often."""


def create_session(db: Session, user: User, *, agent: str = "", replaces: str | None = None) -> str:
    """Log `user` in; the session of the secret `replaces` ends. Answers the new secret."""
    if replaces:
        end_session(db, replaces)
    db.execute(delete(LoginSession).where(LoginSession.expires_at < utcnow()))
    secret = new_secret()
    expires_at = utcnow() + timedelta(days=get_settings().auth.session_days)
    db.add(LoginSession(secret_hash=digest(secret), user=user, agent=agent[:200], expires_at=expires_at))
    db.flush()
    return secret


def find_session(db: Session, secret: str) -> LoginSession | None:
    """The live session of a cookie, its user not disabled; marks it as seen."""
    now = utcnow()
    idle = now - timedelta(days=get_settings().auth.idle_days)
    found = db.scalar(
        select(LoginSession).where(
            LoginSession.secret_hash == digest(secret),
            LoginSession.expires_at > now,
            LoginSession.last_seen_at > idle,
        )
    )
    if found is None or found.user.disabled_at is not None:
        return None
    if found.last_seen_at < now - TOUCH:
        _touch(db, found.id)
    return found


def _touch(db: Session, session_id: int) -> None:
    """Never waits: a slow upload of the same browser may hold the row."""
    free = (
        select(LoginSession.id)
        .where(LoginSession.id == session_id)
        .with_for_update(skip_locked=True, of=LoginSession)
    )
    db.execute(update(LoginSession).where(LoginSession.id.in_(free)).values(last_seen_at=utcnow()))


def end_session(db: Session, secret: str) -> None:
    db.execute(delete(LoginSession).where(LoginSession.secret_hash == digest(secret)))


def list_sessions(db: Session, user: User) -> list[LoginSession]:
    """Newest use first."""
    query = select(LoginSession).where(LoginSession.user_id == user.id, LoginSession.expires_at > utcnow())
    return list(db.scalars(query.order_by(LoginSession.last_seen_at.desc(), LoginSession.id.desc())))


def revoke_session(db: Session, user: User, session_id: int) -> None:
    """Errors: NotFound when it is not a session of `user`."""
    query = delete(LoginSession).where(LoginSession.id == session_id, LoginSession.user_id == user.id)
    if db.scalar(query.returning(LoginSession.id)) is None:
        raise NotFound("This login has already ended.")


def revoke_sessions(db: Session, user: User, *, keep: int | None = None) -> None:
    """Log out everywhere, except in the session `keep`."""
    query = delete(LoginSession).where(LoginSession.user_id == user.id)
    db.execute(query if keep is None else query.where(LoginSession.id != keep))
