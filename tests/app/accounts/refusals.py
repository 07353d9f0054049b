"""Who may use the routes of accounts."""

from typing import Any

from app.accounts import links, sessions, tokens
from app.accounts.models import Setting
from tests.app.refusals import World, row

PASSWORD = "a long enough password"


def a_setup_link(world: World) -> dict[str, Any]:
    return {"key": (links.create_setup_link(world.db) or "").rsplit("/", 1)[-1]}


def an_invite(world: World) -> dict[str, Any]:
    world.db.merge(Setting(key="registration", value={"mode": "invite"}))
    return {"invite": links.create_link(world.db, "invite").rsplit("/", 1)[-1]}


def open_registration(world: World) -> dict[str, Any]:
    world.db.merge(Setting(key="registration", value={"mode": "open"}))
    return {}


def a_reset_link(world: World) -> dict[str, Any]:
    return {"key": links.create_link(world.db, "reset", world.owner).rsplit("/", 1)[-1]}


def a_login(world: World) -> dict[str, Any]:
    sessions.create_session(world.db, world.owner, agent="Firefox")
    return {"session_id": sessions.list_sessions(world.db, world.owner)[-1].id}


def a_token(world: World) -> dict[str, Any]:
    return {"token_id": tokens.create_token(world.db, world.owner, name="laptop", scopes=["read"])[0].id}


def _form(**data: Any) -> dict[str, Any]:
    return {"data": data}


ACCOUNT = _form(username="newcomer", password=PASSWORD)
ROWS = [
    row("GET", "/api/v1/me", anonymous=401, other=200, owner=200),
    row("GET", "/api/v1/me/limits", anonymous=401, other=200, owner=200),
    row("GET", "/login", anonymous=200, other=303, owner=303),
    row("POST", "/login", anonymous=401, other=401, owner=401, **_form(username="owner", password="wrong")),
    row("POST", "/logout", anonymous=303, other=303, owner=303),
    row("GET", "/setup/{key}", anonymous=200, other=200, owner=200, make=a_setup_link),
    # The first who has the link takes it; afterwards it is gone for everybody.
    row("POST", "/setup/{key}", anonymous=303, other=404, owner=404, make=a_setup_link, **ACCOUNT),
    row("GET", "/register", anonymous=403, other=403, owner=403),
    row("POST", "/register", anonymous=303, other=409, owner=409, make=open_registration, **ACCOUNT),
    row("GET", "/register/{invite}", anonymous=200, other=200, owner=200, make=an_invite),
    row("POST", "/register/{invite}", anonymous=303, other=404, owner=404, make=an_invite, **ACCOUNT),
    row("GET", "/reset/{key}", anonymous=200, other=200, owner=200, make=a_reset_link),
    row(
        "POST",
        "/reset/{key}",
        anonymous=303,
        other=404,
        owner=404,
        make=a_reset_link,
        **_form(password=PASSWORD),
    ),
    row("GET", "/settings", anonymous=303, other=200, owner=200),
    row("POST", "/settings/theme", anonymous=401, other=303, owner=303, **_form(theme="dark")),
    row("POST", "/settings/pictures", anonymous=401, other=303, owner=303, **_form(embed_data="on")),
    row(
        "POST",
        "/settings/password",
        anonymous=401,
        other=422,
        owner=422,
        **_form(current="x", password=PASSWORD),
    ),
    row("POST", "/settings/logins/end-others", anonymous=401, other=303, owner=303),
    row("POST", "/settings/logins/{session_id:int}/end", anonymous=401, other=404, owner=303, make=a_login),
    row("POST", "/settings/tokens", anonymous=401, other=200, owner=200, **_form(name="x", scopes=["read"])),
    row("POST", "/settings/tokens/{token_id:int}/delete", anonymous=401, other=404, owner=303, make=a_token),
    row("POST", "/settings/delete", anonymous=401, other=422, owner=303, **_form(confirm="owner")),
]
