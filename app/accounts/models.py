"""Tables of people and of what proves who they are. Secrets are stored as hashes only."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, String, func, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from app.core.db import Base, Created


class User(Base, Created):
    __tablename__ = "user"
    __table_args__ = (Index("uq_user_lower_username", text("lower(username)"), unique=True),)

    id: Mapped[int] = mapped_column(primary_key=True)
    username: Mapped[str] = mapped_column(String(40))
    password_hash: Mapped[str] = mapped_column(String(255))
    role: Mapped[str] = mapped_column(String(20), default="member")
    """`admin` or `member`."""
    disabled_at: Mapped[datetime | None]
    quota_bytes: Mapped[int | None] = mapped_column(BigInteger)
    preferences: Mapped[dict[str, Any]] = mapped_column(default=dict, server_default=text("'{}'"))

    @property
    def is_admin(self) -> bool:
        return self.role == "admin"


class LoginSession(Base, Created):
    __tablename__ = "login_session"

    id: Mapped[int] = mapped_column(primary_key=True)
    secret_hash: Mapped[str] = mapped_column(String(64), unique=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("user.id", ondelete="CASCADE"), index=True)
    user: Mapped["User"] = relationship(lazy="joined")
    last_seen_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime]
    agent: Mapped[str] = mapped_column(String(200), default="")


class ApiToken(Base, Created):
    __tablename__ = "api_token"

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("user.id", ondelete="CASCADE"), index=True)
    user: Mapped["User"] = relationship(lazy="joined")
    name: Mapped[str] = mapped_column(String(64))
    prefix: Mapped[str] = mapped_column(String(16))
    """First characters, to tell tokens apart in a list."""
    secret_hash: Mapped[str] = mapped_column(String(64), unique=True)
    scopes: Mapped[list[str]]
    preferences: Mapped[dict[str, Any]] = mapped_column(default=dict, server_default=text("'{}'"))
    """What the program that uses it has chosen, e.g. its model."""
    last_used_at: Mapped[datetime | None]
    expires_at: Mapped[datetime | None]


class OneTimeLink(Base, Created):
    """A link that works once: `setup` makes the first admin, `invite` an account, `reset` a new password."""

    __tablename__ = "one_time_link"

    id: Mapped[int] = mapped_column(primary_key=True)
    purpose: Mapped[str] = mapped_column(String(20))
    secret_hash: Mapped[str] = mapped_column(String(64), unique=True)
    user_id: Mapped[int | None] = mapped_column(ForeignKey("user.id", ondelete="CASCADE"))
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]


class Setting(Base):
    """What an admin changes at run time, e.g. `registration`."""

    __tablename__ = "setting"

    key: Mapped[str] = mapped_column(String(60), primary_key=True)
    value: Mapped[dict[str, Any]]
