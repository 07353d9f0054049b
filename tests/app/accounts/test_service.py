"""Names, passwords, logging in, registration, roles: the rules themselves."""

from datetime import timedelta

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.accounts import links, service, sessions, tokens
from app.accounts.models import LoginSession, OneTimeLink, User
from app.accounts.passwords import check_new_password
from app.core import security, throttle
from app.core.config import get_settings
from app.core.db import utcnow
from app.core.errors import Conflict, Forbidden, Invalid, NotFound, RateLimited, Unauthorized
from app.core.security import digest
from tests.factories import PASSWORD, make_admin, make_user

GOOD = "olive trees at noon"


@pytest.mark.parametrize("name", ["ab", "Anna-Maria_2", "x" * 40, " anna "])
def test_good_names(db: Session, name: str) -> None:
    assert service.create_user(db, name, GOOD).username == name.strip()


@pytest.mark.parametrize(
    "name", ["", "a", "x" * 41, "a b", "anna!", "ännä", "../x", "a\nb", "me", "Bottega", "<b>"]
)
def test_bad_names(db: Session, name: str) -> None:
    with pytest.raises(Invalid) as caught:
        service.create_user(db, name, GOOD)
    assert caught.value.errors[0].pointer == "#/username"


def test_names_are_unique_whatever_their_case(db: Session) -> None:
    service.create_user(db, "Anna", GOOD)
    with pytest.raises(Conflict):
        service.create_user(db, "aNNa", GOOD)
    assert [u.username for u in service.list_users(db)] == ["Anna"]


@pytest.mark.parametrize(
    "password",
    ["", "short", "123456789", "1234567890", "Password123", "aaaaaaaaaaaa", "x" * 1025, "annaannaanna"],
)
def test_passwords_that_are_refused(password: str) -> None:
    with pytest.raises(Invalid):
        check_new_password(password, "annaannaanna")


@pytest.mark.parametrize("password", ["olive trees", "x" * 500 + "abc", "пароль-длинный", "    spaces    "])
def test_passwords_that_are_taken(password: str) -> None:
    check_new_password(password, "anna")


def test_login_takes_the_name_in_any_case(db: Session) -> None:
    user = make_user(db, "Anna")
    assert service.login(db, " aNNa ", PASSWORD, address="1.2.3.4") is user


def test_every_refusal_says_the_same(db: Session) -> None:
    gone = make_user(db, "gone", disabled_at=utcnow())
    system = service.get_system_user(db)
    said = set()
    for name, password in [
        ("nobody", PASSWORD),
        ("Anna", "wrong"),
        (gone.username, PASSWORD),
        (system.username, ""),
    ]:
        with pytest.raises(Unauthorized) as caught:
            service.login(db, name, password, address="1.2.3.4")
        said.add((caught.value.detail, caught.value.code))
    assert said == {(service.WRONG, "login-failed")}


def test_an_unknown_name_costs_a_hash_too(db: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same work is done, so that time tells nothing."""
    verified: list[str] = []
    real = security._passwords

    class Counting:
        def verify(self, password: str, hashed: str) -> bool:
            verified.append("verify")
            return real.verify(password, hashed)

        def verify_and_update(self, password: str, hashed: str) -> tuple[bool, str | None]:
            verified.append("verify")
            return real.verify_and_update(password, hashed)

    monkeypatch.setattr(security, "_passwords", Counting())
    make_user(db, "anna")
    for name in ("anna", "nobody"):
        with pytest.raises(Unauthorized):
            service.login(db, name, "wrong password", address="1.2.3.4")
    assert verified == ["verify", "verify"]


def test_an_old_hash_is_renewed_at_login(db: Session) -> None:
    from pwdlib import PasswordHash
    from pwdlib.hashers.argon2 import Argon2Hasher

    weak = PasswordHash([Argon2Hasher(time_cost=1, memory_cost=8, parallelism=1)]).hash(PASSWORD)
    user = make_user(db, "anna")
    user.password_hash = weak
    service.login(db, "anna", PASSWORD, address="1.2.3.4")
    assert user.password_hash != weak
    service.login(db, "anna", PASSWORD, address="1.2.3.4")


def test_guessing_is_slowed_down_per_name_and_address(db: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(get_settings().auth, "login_attempts", "3 per 5 minute")
    make_user(db, "anna")
    for _ in range(3):
        with pytest.raises(Unauthorized):
            service.login(db, "anna", "wrong", address="1.2.3.4")
    with pytest.raises(RateLimited) as caught:
        service.login(db, "ANNA", PASSWORD, address="1.2.3.4")
    assert 0 < caught.value.retry_after <= 300
    assert service.login(db, "anna", PASSWORD, address="5.6.7.8")


def test_a_success_starts_the_count_anew(db: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(get_settings().auth, "login_attempts", "3 per 5 minute")
    make_user(db, "anna")
    for _ in range(3):
        for _ in range(2):
            with pytest.raises(Unauthorized):
                service.login(db, "anna", "wrong", address="1.2.3.4")
        service.login(db, "anna", PASSWORD, address="1.2.3.4")


def test_login_is_refused_while_attempts_cannot_be_counted(
    db: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(get_settings().queue, "redis_url", "redis://127.0.0.1:1/0")
    make_user(db, "anna")
    with pytest.raises(throttle.CounterAway):
        service.login(db, "anna", PASSWORD, address="1.2.3.4")


def test_a_session_ends_by_age_and_by_idleness(db: Session) -> None:
    user = make_user(db)
    secret = sessions.create_session(db, user)
    row = db.scalars(select(LoginSession)).one()
    assert row.secret_hash == digest(secret)
    assert sessions.find_session(db, secret) is row
    row.last_seen_at = utcnow() - timedelta(days=get_settings().auth.idle_days, minutes=1)
    assert sessions.find_session(db, secret) is None
    row.last_seen_at, row.expires_at = utcnow(), utcnow() - timedelta(seconds=1)
    assert sessions.find_session(db, secret) is None


def test_use_is_noted_now_and_then(db: Session) -> None:
    secret = sessions.create_session(db, make_user(db))
    row = db.scalars(select(LoginSession)).one()
    row.last_seen_at = before = utcnow() - timedelta(hours=1)
    db.flush()
    sessions.find_session(db, secret)
    db.refresh(row)
    assert row.last_seen_at > before + timedelta(minutes=50)


def test_a_login_replaces_the_session_that_was_there(db: Session) -> None:
    user = make_user(db)
    first = sessions.create_session(db, user)
    second = sessions.create_session(db, user, replaces=first)
    assert first != second
    assert sessions.find_session(db, first) is None
    assert sessions.find_session(db, second)


def test_revoking_one_and_all(db: Session) -> None:
    user, other = make_user(db), make_user(db)
    here, there, theirs = (sessions.create_session(db, who) for who in (user, user, other))
    mine = {s.secret_hash: s.id for s in sessions.list_sessions(db, user)}
    with pytest.raises(NotFound):
        sessions.revoke_session(db, other, mine[digest(there)])
    sessions.revoke_sessions(db, user, keep=mine[digest(here)])
    assert sessions.find_session(db, here)
    assert not sessions.find_session(db, there)
    sessions.revoke_sessions(db, user)
    assert not sessions.find_session(db, here)
    assert sessions.find_session(db, theirs)


def test_a_new_password_ends_all_other_logins(db: Session) -> None:
    user = make_user(db, "anna")
    here, there = sessions.create_session(db, user), sessions.create_session(db, user)
    keep = sessions.find_session(db, here)
    assert keep is not None
    with pytest.raises(Invalid):
        service.change_password(db, user, "wrong", GOOD, keep_session=keep.id)
    service.change_password(db, user, PASSWORD, GOOD, keep_session=keep.id)
    assert sessions.find_session(db, here)
    assert not sessions.find_session(db, there)
    assert service.login(db, "anna", GOOD, address="1.2.3.4") is user


def test_one_time_links_work_once(db: Session) -> None:
    key = links.create_link(db, "invite").rsplit("/", 1)[-1]
    row = db.scalars(select(OneTimeLink)).one()
    assert row.secret_hash == digest(key)
    assert key not in row.secret_hash
    with pytest.raises(NotFound):
        links.get_link(db, "setup", key)
    assert links.use_link(db, "invite", key) is row
    with pytest.raises(NotFound):
        links.use_link(db, "invite", key)


def test_links_grow_old(db: Session) -> None:
    key = links.create_link(db, "invite").rsplit("/", 1)[-1]
    db.scalars(select(OneTimeLink)).one().expires_at = utcnow()
    with pytest.raises(NotFound):
        links.get_link(db, "invite", key)


def test_a_new_setup_or_reset_link_replaces_the_old_one(db: Session) -> None:
    anna, bea = make_user(db), make_user(db)
    old, others, new = (links.create_link(db, "reset", who).rsplit("/", 1)[-1] for who in (anna, bea, anna))
    links.get_link(db, "reset", others)
    links.get_link(db, "reset", new)
    with pytest.raises(NotFound):
        links.get_link(db, "reset", old)


def test_the_setup_link_is_worth_nothing_once_there_is_an_admin(db: Session) -> None:
    key = (links.create_setup_link(db) or "").rsplit("/", 1)[-1]
    make_admin(db)
    with pytest.raises(Conflict):
        service.setup_admin(db, key, "second", GOOD)
    assert links.create_setup_link(db) is None


@pytest.mark.parametrize(
    ("mode", "invited", "may"),
    [
        ("open", False, True),
        ("open", True, True),
        ("invite", False, False),
        ("invite", True, True),
        ("closed", False, False),
        ("closed", True, False),
    ],
)
def test_registration(db: Session, mode: str, invited: bool, may: bool) -> None:
    admin = make_admin(db)
    assert service.get_registration(db) == "closed"
    service.set_registration(db, admin, mode)
    key = service.create_invite(db, admin).rsplit("/", 1)[-1] if invited else None
    if may:
        assert service.register(db, "newcomer", GOOD, invite=key).role == "member"
    else:
        with pytest.raises(Forbidden):
            service.register(db, "newcomer", GOOD, invite=key)


def test_members_change_nothing_of_others(db: Session) -> None:
    member, other = make_user(db), make_user(db)
    for action in (
        lambda: service.set_role(db, member, member, "admin"),
        lambda: service.set_disabled(db, member, other, True),
        lambda: service.set_quota(db, member, member, None),
        lambda: service.set_registration(db, member, "open"),
        lambda: service.create_invite(db, member),
        lambda: service.create_reset_link(db, member, other),
        lambda: tokens.create_token(db, member, name="x", scopes=["admin"]),
    ):
        with pytest.raises(Forbidden):
            action()


def test_the_last_admin_stays(db: Session) -> None:
    admin = make_admin(db)
    with pytest.raises(Conflict):
        service.set_role(db, admin, admin, "member")
    with pytest.raises(Conflict):
        service.set_disabled(db, admin, admin, True)
    second = make_admin(db)
    service.set_disabled(db, admin, second, True)
    with pytest.raises(Conflict):
        service.set_role(db, admin, admin, "member")
    service.set_disabled(db, admin, second, False)
    service.set_role(db, admin, admin, "member")
    assert [u.id for u in db.scalars(select(User).where(User.role == "admin"))] == [second.id]


@pytest.mark.parametrize(
    ("name", "scopes", "days"),
    [
        ("", ["read"], None),
        ("x" * 65, ["read"], None),
        ("x", [], None),
        ("x", ["root"], None),
        ("x", ["read"], 0),
        ("x", ["read"], 4000),
    ],
)
def test_tokens_that_are_refused(db: Session, name: str, scopes: list[str], days: int | None) -> None:
    with pytest.raises(Invalid):
        tokens.create_token(db, make_user(db), name=name, scopes=scopes, days=days)


def test_use_of_a_token_is_noted(db: Session) -> None:
    token, secret = tokens.create_token(db, make_user(db), name="x", scopes=["read"], days=2)
    assert tokens.list_tokens(db, token.user)[0].last_used_at is None
    assert tokens.find_token(db, secret) is token
    db.refresh(token)
    assert tokens.list_tokens(db, token.user)[0].last_used_at is not None
    assert tokens.find_token(db, secret[:-1]) is None
    assert tokens.find_token(db, "") is None
