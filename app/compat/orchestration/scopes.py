"""What a token needs depends on what it asks for: drawing, training, or both."""

from collections.abc import Iterable

from app.accounts.deps import Identity
from app.core.errors import Forbidden


def check_scopes(identity: Identity, scopes: Iterable[str]) -> None:
    """All of them. Errors: Forbidden that names what is missing."""
    if missing := sorted(set(scopes) - set(identity.scopes)):
        raise _lacking(" and ".join(missing))


def check_any_scope(identity: Identity, scopes: Iterable[str]) -> None:
    """One of them. Errors: Forbidden."""
    if not set(scopes) & set(identity.scopes):
        raise _lacking(" or ".join(scopes))


def _lacking(words: str) -> Forbidden:
    return Forbidden(f"This token may not do that: it needs the scope {words}.", code="insufficient-scope")
