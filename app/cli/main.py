"""`bottega`: the command line. Commands of the server machine are in their own modules.

Imports that cost time are made inside the commands, so that `bottega --help` is quick.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from app.cli import remote
from app.cli.accounts import token_app, user_app
from app.cli.importing import import_folder
from app.cli.inspection import inspect
from app.cli.jobs import jobs_app
from app.cli.process import SetupError
from app.cli.upload import upload

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
app.add_typer(remote.app)
app.command()(inspect)
app.command()(upload)
app.command("import")(import_folder)
app.add_typer(jobs_app, name="jobs")
app.add_typer(user_app, name="user")
app.add_typer(token_app, name="token")


@contextmanager
def plain_errors() -> Iterator[None]:
    """A mistake in the set-up is a sentence and exit code 1, not a traceback."""
    try:
        yield
    except SetupError as error:
        typer.echo(f"\n{error}", err=True)
        raise typer.Exit(1) from error


@app.command()
def up(
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show every log line.")] = False,
    workers: Annotated[bool, typer.Option(help="Start a train and a generate worker too.")] = True,
) -> None:
    """Start everything on this machine and keep it running until Ctrl-C."""
    from app.cli.up import up as run

    with plain_errors():
        run(verbose=verbose, workers=workers)


@app.command()
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout, nothing else.")] = False,
) -> None:
    """Say what is used, what is missing and how to mend it. Exit code 1 if something does not work."""
    from app.cli.doctor import doctor as look

    findings = look()
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in findings], indent=2, ensure_ascii=False))
    for finding in [] if as_json else findings:
        typer.echo(f"{finding.state:<5} {finding.what}" + (f"\n      {finding.fix}" if finding.fix else ""))
    if any(finding.state == "bad" for finding in findings):
        raise typer.Exit(1)


@app.command()
def migrate() -> None:
    """Bring the database up to date and install the starter model, as `up` does before it starts."""
    from app.cli.environment import Layout, database
    from app.cli.prepare import prepare_data, setup_link
    from app.core.config import get_settings

    with plain_errors(), database():
        layout = Layout(get_settings().home)
        layout.make()
        prepare_data(layout)
        link = setup_link()
    typer.echo("The database is up to date.")
    if link:
        typer.echo(f"Make the admin account with this link (it works once): {link}")


@app.command("worker-health", hidden=True)
def worker_health() -> None:
    """Exit code 0 when a worker of this machine was heard of lately (for containers)."""
    import socket

    from app import models as models  # all tables, so that relationships resolve
    from app.core.db import unit_of_work
    from app.jobs.workers import list_workers

    with unit_of_work() as db:
        hosts = {worker.host for worker in list_workers(db, alive=True)}
    raise typer.Exit(0 if socket.gethostname() in hosts else 1)


@app.command()
def backup(folder: Annotated[Path, typer.Argument(help="Folder to write to; made if missing.")]) -> None:
    """Write the database, all files and the settings into a folder."""
    from app.cli.backup import backup as run
    from app.cli.environment import database

    with plain_errors(), database() as url:
        run(url, folder.resolve(), typer.echo)


@app.command()
def restore(
    folder: Annotated[Path, typer.Argument(exists=True, help="Folder that a backup was written to.")],
) -> None:
    """Fill a new, empty installation from a backup."""
    from app.cli.backup import restore as run
    from app.cli.environment import database

    with plain_errors(), database() as url:
        run(url, folder.resolve(), typer.echo)


@app.command()
def reset(yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False) -> None:
    """Delete all data of this installation: accounts, pictures, models, jobs."""
    from app.cli.reset import folders
    from app.cli.reset import reset as run
    from app.core.config import get_settings

    home = get_settings().home
    found = folders(home)
    if not found:
        typer.echo(f"There is nothing to delete in {home}.")
        return
    typer.echo("This deletes " + ", ".join(str(path) for path in found))
    if not yes:
        typer.confirm("Delete all of it?", abort=True)
    with plain_errors():
        run(home)
    typer.echo("Deleted.")


if __name__ == "__main__":
    app()
