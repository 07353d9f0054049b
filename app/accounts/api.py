"""REST routes of the one who asks."""

from fastapi import APIRouter

from app.accounts import quotas
from app.accounts.deps import CompatAnyUser, LenientlyIdentified
from app.accounts.schemas import Limit, MeOut, me_out
from app.web.deps import Db

router = APIRouter(prefix="/api/v1/me", tags=["Account"])


@router.get("")
def get_me(db: Db, user: CompatAnyUser, identity: LenientlyIdentified) -> MeOut:
    """Who you are, what this token may do, and how much of your limits is used."""
    return me_out(user, identity.scopes, quotas.limits(db, user))


@router.get("/limits")
def get_limits(db: Db, user: CompatAnyUser) -> dict[str, Limit]:
    """Per kind: the limit, what is used of it, when it starts anew. A limit of null means none."""
    return {kind: Limit(**values) for kind, values in quotas.limits(db, user).items()}
