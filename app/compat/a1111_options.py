"""A1111's options: of its hundreds, the model, the VAE and CLIP skip mean something here.

A1111 has one model for everybody. Here the choice belongs to the token that made it, so two programs do
not disturb each other; a person's own browser keeps it with the person.
"""

from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy.orm import Session

from app.accounts import service as accounts
from app.accounts import tokens
from app.accounts.deps import Identity
from app.accounts.models import User
from app.core.errors import FieldError, Invalid, NotFound
from app.gallery.matching import runs_here
from app.gallery.models import ModelFile
from app.gallery.picker import Choice, list_files
from app.generation.names import find_version
from worker.families.catalog import specs

OWN_VAE = ("", "None", "Automatic")
"""What A1111 calls the VAE inside the checkpoint."""


@dataclass(frozen=True)
class Options:
    """Versions by number; None = the model's or the installation's own."""

    model: int | None = None
    vae: int | None = None
    clip_skip: int | None = None


def title(file: ModelFile) -> str:
    """What A1111 calls a checkpoint: its file and the first ten digits of its hash."""
    return f"{file.name} [{file.blob_sha256[:10]}]"


def list_checkpoints(
    db: Session, user: User, version_ids: list[int] | None = None, *, limit: int = 500
) -> list[tuple[Choice, ModelFile]]:
    """Those that draw pictures here and that this person may use."""
    found = list_files(db, user, "Checkpoint", version_ids=version_ids, limit=limit)
    return [(choice, file) for choice, file in found if draws_pictures(choice.family)]


def draws_pictures(family: str | None) -> bool:
    return family is not None and family in specs() and specs()[family].clips is None


def get_options(identity: Identity) -> Options:
    """What this token chose."""
    chooser = identity.token or identity.user
    kept = chooser.preferences if chooser else {}
    return Options(**kept.get("a1111", {}))


def keep_options(db: Session, identity: Identity, options: Options) -> None:
    said = {name: value for name, value in vars(options).items() if value is not None}
    if identity.token is not None:
        tokens.set_preference(db, identity.token, a1111=said)
    elif identity.user is not None:
        accounts.set_preference(db, identity.user, a1111=said)


def current(db: Session, user: User, options: Options) -> tuple[Choice, ModelFile]:
    """The chosen checkpoint; the installation's first where none was chosen or it is gone.

    Errors: NotFound when there is none at all.
    """
    chosen = [] if options.model is None else list_checkpoints(db, user, [options.model])
    found = chosen or list_checkpoints(db, user, limit=60)  # what ships with Bottega is among the first
    if not found:
        raise NotFound("No checkpoint that can draw is installed here.")
    return found[0]


def shown(db: Session, user: User, options: Options) -> dict[str, Any]:
    """The flat object of GET /options."""
    choice, file = current(db, user, options)
    vae = [] if options.vae is None else list_files(db, user, "VAE", version_ids=[options.vae])
    return {
        "sd_model_checkpoint": title(file),
        "sd_checkpoint_hash": file.blob_sha256,
        "sd_vae": vae[0][1].name if vae else "Automatic",
        "CLIP_stop_at_last_layers": options.clip_skip or specs()[choice.family or ""].generation.clip_skip,
        "samples_format": "png",
        "samples_save": True,
        "live_previews_enable": True,
        "enable_pnginfo": True,
    }


def changed(db: Session, user: User, options: Options, said: dict[str, Any]) -> Options:
    """The options with what a program says of those that mean something here. Errors: NotFound, Invalid."""
    if (name := said.get("sd_model_checkpoint")) is not None:
        options = replace(options, model=_model(db, user, _text("sd_model_checkpoint", name)))
    if (name := said.get("sd_vae")) is not None:
        options = replace(options, vae=_vae(db, user, _text("sd_vae", name)))
    if (number := said.get("CLIP_stop_at_last_layers")) is not None:
        if isinstance(number, bool) or not isinstance(number, int | float) or not 1 <= number <= 12:
            raise _wrong("CLIP_stop_at_last_layers", "give a number from 1 to 12")
        options = replace(options, clip_skip=int(number))
    return options


def news(db: Session, user: User, options: Options, said: dict[str, Any]) -> dict[str, Any]:
    """What differs from what is shown: programs send all options back to change one of them."""
    now = shown(db, user, options)
    return {name: value for name, value in said.items() if value != now.get(name)}


def _model(db: Session, user: User, name: str) -> int | None:
    if not name.strip():
        return None
    version = find_version(db, user, "Checkpoint", name)
    if version is None:
        raise NotFound(f"model {name[:100]!r} not found. GET /sdapi/v1/sd-models lists those that there are.")
    if not runs_here(version) or not draws_pictures(version.family):
        raise _wrong("sd_model_checkpoint", f"{version.model.name} cannot draw pictures here")
    return version.id


def _vae(db: Session, user: User, name: str) -> int | None:
    if name.strip() in OWN_VAE:
        return None
    version = find_version(db, user, "VAE", name)
    if version is None:
        raise NotFound(f"VAE {name[:100]!r} not found. GET /sdapi/v1/sd-vae lists those that there are.")
    return version.id


def _text(field: str, value: Any) -> str:
    if not isinstance(value, str):
        raise _wrong(field, "must be text")
    return value


def _wrong(field: str, words: str) -> Invalid:
    return Invalid(f"Please correct: {field}: {words}.", [FieldError(f"#/{field}", words)])
