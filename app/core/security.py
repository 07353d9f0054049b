"""Secrets: passwords by Argon2id, random tokens that are stored only as hashes."""

import hashlib
import hmac
import secrets

from pwdlib import PasswordHash

_passwords = PasswordHash.recommended()
_DUMMY = _passwords.hash("a password that nobody has")


def hash_password(password: str) -> str:
    return _passwords.hash(password)


def check_password(password: str, hashed: str | None) -> tuple[bool, str | None]:
    """(right?, new hash when the old one is outdated). Takes as long for an unknown user (`hashed` None)."""
    if hashed is None:
        _passwords.verify(password, _DUMMY)
        return False, None
    return _passwords.verify_and_update(password, hashed)


def new_secret(prefix: str = "") -> str:
    """256 random bits, URL-safe, behind a prefix that secret scanners can find."""
    return prefix + secrets.token_urlsafe(32)


def new_key() -> str:
    """128 random bits for links that stand for a permission."""
    return secrets.token_urlsafe(16)


def digest(secret: str) -> str:
    """What is stored of a random secret: it has enough entropy for a plain hash."""
    return hashlib.sha256(secret.encode()).hexdigest()


def same(a: str, b: str) -> bool:
    return hmac.compare_digest(a.encode(), b.encode())
