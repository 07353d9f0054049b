"""`bottega user …` and `bottega token …`: accounts from the server machine, straight in the database.

Whoever may read the installation's folder is trusted as the admin is, so nothing is asked.
"""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.process import SetupError

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from app.accounts.models import User

user_app = typer.Typer(no_args_is_help=True, help="Make accounts and passwords on this server.")
token_app = typer.Typer(no_args_is_help=True, help="Make API tokens on this server.")
ALL = "read,generate,train,publish"
Name = Annotated[str, typer.Argument(help="Name of the account.")]


@contextmanager
def transaction() -> Iterator["Session"]:
    """The installation's database; what goes wrong is a sentence on stderr and exit code 1."""
    from app.cli.environment import database
    from app.core.db import unit_of_work
    from app.core.errors import AppError

    try:
        with database() as url:
            _ensure_tables(url)
            with unit_of_work() as db:
                yield db
    except (AppError, SetupError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error


def _ensure_tables(url: str) -> None:
    """An installation that was never started has none."""
    from sqlalchemy import inspect

    from app import models
    from app.cli.migrate import migrate
    from app.core.db import get_engine

    assert models  # all tables are known now
    if not inspect(get_engine()).has_table("user"):
        migrate(url)


def _find(db: "Session", name: str) -> "User":
    from app.accounts.service import find_user
    from app.core.errors import NotFound

    user = find_user(db, name)
    if user is None:
        raise NotFound(f"There is no account {name}. Make it with: bottega user create {name}")
    return user


def _read_password(from_stdin: bool) -> str:
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    if not sys.stdin.isatty():
        raise typer.BadParameter("Give the password on standard input with --password-stdin.")
    return str(typer.prompt("Password (at least 10 characters)", hide_input=True, confirmation_prompt=True))


@user_app.command("create")
def create_user(
    name: Name,
    admin: Annotated[bool, typer.Option("--admin", help="May manage the others.")] = False,
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password from standard input.")
    ] = False,
) -> None:
    """Make an account."""
    from app.accounts import service

    password = _read_password(password_stdin)
    with transaction() as db:
        user = service.create_user(db, name, password, role="admin" if admin else "member")
        typer.echo(f"Made the account {user.username} ({user.role}).")


@user_app.command("list")
def list_users(as_json: Annotated[bool, typer.Option("--json", help="JSON on stdout.")] = False) -> None:
    """Show all accounts."""
    from app.accounts import service

    with transaction() as db:
        users = service.list_users(db)
        if as_json:
            rows = [
                {"id": u.id, "username": u.username, "role": u.role, "disabled": u.disabled_at is not None}
                for u in users
            ]
            typer.echo(json.dumps(rows))
        for user in [] if as_json else users:
            typer.echo(f"{user.username}  {user.role}{'  disabled' if user.disabled_at else ''}")


@user_app.command("reset")
def reset_user(name: Name) -> None:
    """Print a link that sets a new password. It works once, for one day."""
    from app.accounts import links
    from app.core.config import get_settings

    with transaction() as db:
        typer.echo(get_settings().address + links.create_link(db, "reset", _find(db, name)))


@token_app.command("create")
def create_token(
    name: Name,
    scopes: Annotated[str, typer.Option(help="Comma list of read, generate, train, publish, admin.")] = ALL,
    label: Annotated[
        str, typer.Option(help="What the token is called on the Settings page.")
    ] = "command line",
    days: Annotated[int | None, typer.Option(help="Days after which it ends; never if not given.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One line of JSON.")] = False,
) -> None:
    """Make an API token of an account and print it, this once."""
    from app.accounts import tokens

    wanted = [scope.strip() for scope in scopes.split(",") if scope.strip()]
    with transaction() as db:
        token, secret = tokens.create_token(db, _find(db, name), name=label, scopes=wanted, days=days)
        said = {"token": secret, "id": token.id, "scopes": token.scopes}
    typer.echo(json.dumps(said) if as_json else secret)
