"""Addresses that lend a person's eyes: signed for one thing and some time, so that a plain GET can have it.

Nothing is stored but the server's secret, which is made at the first use. Whose account is disabled has none.
"""

import hashlib
import hmac
import secrets
import time
from dataclasses import dataclass

from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.accounts.models import Setting, User
from app.core.security import same

LIFETIME = 24 * 3600
"""Seconds, at least."""
ROUND = 3600
"""Ends are whole hours, so that whoever asks often gets the same address."""


@dataclass(frozen=True)
class Signer:
    """Signs for one person; made once for many addresses. `until` is in seconds since 1970."""

    user_id: int
    key: bytes
    until: int

    def query(self, words: str) -> str:
        """What an address has behind its `?`; `words` say what it opens."""
        return f"user={self.user_id}&until={self.until}&sig={_signature(self.key, words, self.until)}"


def make_signer(db: Session, user_id: int, *, lifetime: int = LIFETIME) -> Signer:
    until = (int(time.time()) + lifetime) // ROUND * ROUND + ROUND
    return Signer(user_id, _key(db, user_id), until)


def find_signer(db: Session, words: str, user_id: int, until: int, signature: str) -> User | None:
    """The person who signed; None where the time is over or anything is not as it was signed."""
    user = db.get(User, user_id) if 0 < user_id < 1 << 31 else None
    if user is None or user.disabled_at is not None or until < time.time():
        return None
    return user if same(signature, _signature(_key(db, user_id), words, until)) else None


def _signature(key: bytes, words: str, until: int) -> str:
    return hmac.new(key, f"{words} until {until}".encode(), hashlib.sha256).hexdigest()


def _key(db: Session, user_id: int) -> bytes:
    row = insert(Setting).values(key="link_key", value={"hex": secrets.token_hex(32)})
    db.execute(row.on_conflict_do_nothing())
    secret = bytes.fromhex(db.get_one(Setting, "link_key").value["hex"])
    return hmac.new(secret, f"links of {user_id}".encode(), hashlib.sha256).digest()
