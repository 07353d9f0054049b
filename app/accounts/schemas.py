"""What the REST routes of accounts say."""

from typing import Any, Literal

from pydantic import BaseModel


class Limit(BaseModel):
    limit: int | None
    used: int | None
    resets_at: str | None
    concurrent: int | None


class MeOut(BaseModel):
    """Civitai's fields, then ours."""

    id: int
    username: str
    tier: Literal["free"] = "free"
    status: Literal["active"] = "active"
    isMember: bool = False  # noqa: N815 -- Civitai's name
    subscriptions: list[str] = []
    role: str
    scopes: list[str]
    limits: dict[str, Limit]


def me_out(user: Any, scopes: list[str], limits: dict[str, dict[str, Any]]) -> MeOut:
    return MeOut(
        id=user.id,
        username=user.username,
        role=user.role,
        scopes=scopes,
        limits={kind: Limit(**values) for kind, values in limits.items()},
    )
