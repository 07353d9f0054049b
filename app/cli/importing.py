"""`bottega import FOLDER`: a checkpoint that lies on the server's disk becomes a model page there.

Straight in the database and the storage, as `bottega user`: whoever may read the installation is trusted.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from app.cli.accounts import transaction

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from app.accounts.models import User

AUDIENCES = ("private", "unlisted", "public")


def import_folder(
    folder: Annotated[Path, typer.Argument(help="A diffusers folder: the one with model_index.json.")],
    user: Annotated[str, typer.Option(help="Whose page it becomes; empty = the first admin's.")] = "",
    name: Annotated[str, typer.Option(help="Name of the page; empty = that of the folder.")] = "",
    base_model: Annotated[str, typer.Option(help="SD 1.5, SDXL 1.0, …; empty = as recognised.")] = "",
    publish: Annotated[str, typer.Option(help="private (a draft), unlisted or public.")] = "private",
) -> None:
    """Make a checkpoint's page from a diffusers folder on this machine."""
    from app.core.errors import Invalid
    from app.core.storage import get_storage
    from app.gallery import importing
    from app.gallery.shapes import model_path
    from app.images.schemas import Visibility

    with transaction() as db:
        if publish not in AUDIENCES:
            raise Invalid(f"--publish is private, unlisted or public, not “{publish}”.")
        owner = _owner(db, user)
        typer.echo(f"Packing {folder} …", err=True)
        version = importing.import_folder(
            db, get_storage(), owner, folder, name=name, base_model=base_model,
            publish=cast(Visibility, publish),
        )  # fmt: skip
        runs = "can be used here" if version.family else "is kept, and cannot be used here yet"
        words = f"{version.model.name} ({version.base_model}, {publish}, by {owner.username}) {runs}"
        typer.echo(f"{words}: {model_path(version.model)}")


def _owner(db: "Session", name: str) -> "User":
    from app.accounts import service
    from app.core.errors import NotFound

    if name:
        found = service.find_user(db, name)
        words = f"There is no account {name}. Make it with: bottega user create {name}"
    else:
        admins = [each for each in service.list_users(db) if each.is_admin and each.disabled_at is None]
        found = min(admins, key=lambda each: each.id, default=None)
        words = "There is no admin account yet. Make one with: bottega user create NAME --admin"
    if found is None:
        raise NotFound(words)
    return found
