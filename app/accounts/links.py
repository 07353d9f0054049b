"""Links that work once. `setup` makes the first admin, `invite` an account, `reset` a new password."""

from datetime import timedelta

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from app.accounts.models import OneTimeLink, User
from app.core.db import utcnow
from app.core.errors import NotFound
from app.core.security import digest, new_key

LIFETIME = {"setup": timedelta(days=7), "invite": timedelta(days=7), "reset": timedelta(days=1)}
PATHS = {"setup": "/setup", "invite": "/register", "reset": "/reset"}
GONE = {
    "setup": "This link has been used or is too old. Log in, or make an account on the server with: "
    "./dev bottega user create NAME --admin",
    "invite": "This invitation has been used or is too old. Ask the admin for a new one.",
    "reset": "This link has been used or is too old. Ask the admin for a new one.",
}


def create_link(db: Session, purpose: str, user: User | None = None) -> str:
    """The path of a new link. A new setup or reset link replaces the old one (of the same user)."""
    if purpose != "invite":
        owner = OneTimeLink.user_id == user.id if user else OneTimeLink.user_id.is_(None)
        db.execute(delete(OneTimeLink).where(OneTimeLink.purpose == purpose, owner))
    key = new_key()
    expires_at = utcnow() + LIFETIME[purpose]
    user_id = user.id if user else None
    db.add(OneTimeLink(purpose=purpose, secret_hash=digest(key), user_id=user_id, expires_at=expires_at))
    db.flush()
    return f"{PATHS[purpose]}/{key}"


def create_setup_link(db: Session) -> str | None:
    """Path of the link that makes the first admin; None when there is an admin."""
    return None if has_admin(db) else create_link(db, "setup")


def has_admin(db: Session) -> bool:
    return bool(db.scalar(select(select(User.id).where(User.role == "admin").exists())))


def get_link(db: Session, purpose: str, key: str, *, lock: bool = False) -> OneTimeLink:
    """Errors: NotFound when the link is unknown, used or too old. `lock` lets only one request use it."""
    query = select(OneTimeLink).where(
        OneTimeLink.purpose == purpose,
        OneTimeLink.secret_hash == digest(key),
        OneTimeLink.used_at.is_(None),
        OneTimeLink.expires_at > utcnow(),
    )
    link = db.scalar(query.with_for_update() if lock else query)
    if link is None:
        raise NotFound(GONE[purpose], code="link-gone")
    return link


def use_link(db: Session, purpose: str, key: str) -> OneTimeLink:
    """Take the link in this transaction. Errors: NotFound."""
    link = get_link(db, purpose, key, lock=True)
    link.used_at = utcnow()
    return link
