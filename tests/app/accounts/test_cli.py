"""`bottega user` and `bottega token` as somebody on the server types them."""

import json

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session
from typer.testing import CliRunner, Result

from app.accounts import service, tokens
from app.accounts.models import User
from app.cli.main import app
from app.core.db import unit_of_work

runner = CliRunner()
PASSWORD = "olive trees at noon"


def run(*args: str, input: str | None = None) -> Result:
    return runner.invoke(app, list(args), input=input)


def test_a_user_then_a_token(real_db: str) -> None:
    made = run("user", "create", "maria", "--admin", "--password-stdin", input=PASSWORD + "\n")
    assert (made.exit_code, made.output) == (0, "Made the account maria (admin).\n")
    answer = run("token", "create", "MARIA", "--scopes", "read,train,admin", "--json")
    assert answer.exit_code == 0
    said = json.loads(answer.output)
    assert list(said) == ["token", "id", "scopes"]
    assert said["scopes"] == ["read", "train", "admin"]
    with unit_of_work() as db:
        token = tokens.find_token(db, said["token"])
        assert token is not None
        assert token.id == said["id"]
        assert token.user.is_admin
        assert service.login(db, "maria", PASSWORD, address="here").username == "maria"
    plain = run("token", "create", "maria")
    assert plain.output.startswith("bottega_")
    assert plain.output.count("\n") == 1
    assert run("user", "list").output == "maria  admin\n"


def test_a_reset_link_sets_a_new_password(real_db: str) -> None:
    run("user", "create", "maria", "--password-stdin", input=PASSWORD + "\n")
    link = run("user", "reset", "maria").output.strip()
    assert link.startswith("http://127.0.0.1:8000/reset/")
    with unit_of_work() as db:
        service.reset_password(db, link.rsplit("/", 1)[-1], "another long password")
        assert service.login(db, "maria", "another long password", address="here")


@pytest.mark.parametrize(
    ("args", "input", "code", "words"),
    [
        (["user", "create", "maria", "--password-stdin"], "short\n", 1, "at least 10 characters"),
        (["user", "create", "ma ria", "--password-stdin"], PASSWORD + "\n", 1, "2 to 40 letters"),
        (["user", "create", "maria"], "", 2, "--password-stdin"),
        (["token", "create", "nobody"], None, 1, "There is no account nobody"),
        (["user", "reset", "nobody"], None, 1, "There is no account nobody"),
    ],
)
def test_mistakes_are_one_sentence(
    real_db: str, args: list[str], input: str | None, code: int, words: str
) -> None:
    said = run(*args, input=input)
    assert said.exit_code == code
    assert words in said.output
    assert "Traceback" not in said.output
    with unit_of_work() as db:
        assert list(db.scalars(select(User))) == []


def test_a_member_gets_no_admin_token(real_db: str) -> None:
    run("user", "create", "maria", "--password-stdin", input=PASSWORD + "\n")
    said = run("token", "create", "maria", "--scopes", "admin")
    assert (said.exit_code, said.output) == (1, "Only an admin can make a token with the scope admin.\n")


def test_the_setup_link_is_there_until_there_is_an_admin(db: Session) -> None:
    from app.accounts.links import create_setup_link

    first, second = create_setup_link(db), create_setup_link(db)
    assert first
    assert second
    assert first != second
    user = service.setup_admin(db, second.rsplit("/", 1)[-1], "maria", PASSWORD)
    assert user.is_admin
    assert create_setup_link(db) is None
