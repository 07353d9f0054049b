"""Models by what prompts and pictures from elsewhere call them: a file's stem, a model's name, a hash."""

import re
from collections.abc import Sequence

from sqlalchemy import ColumnElement, func, or_, select
from sqlalchemy.orm import Session

from app.accounts.models import User
from app.gallery.models import Model, ModelFile, ModelVersion
from app.gallery.picker import KINDS, LORA_TYPES, usable_by
from app.gallery.queries import find_by_hash

EMBEDDING = "TextualInversion"
_TITLED = re.compile(r"(?P<name>.{0,300}?)\s*\[(?P<hash>[0-9A-Fa-f]{8,64})\]")


def _stem() -> ColumnElement[str]:
    return func.lower(func.regexp_replace(ModelFile.name, r"\.[A-Za-z0-9]{2,12}$", ""))


def find_loras(db: Session, user: User, name: str) -> list[ModelVersion]:
    """LoRAs whose file or page is called so, in any case: one's own first, then the newest."""
    return find_versions(db, user, LORA_TYPES, name)


def find_versions(db: Session, user: User, types: Sequence[str], name: str) -> list[ModelVersion]:
    """The same of any types of pages; a file may be named with its ending."""
    whole = name.strip().lower()
    wanted = whole.removesuffix(".safetensors")
    by_file = or_(_stem() == wanted, func.lower(ModelFile.name) == whole)
    query = (
        usable_by(select(ModelVersion).join(Model).join(ModelVersion.files), user, types)
        .where(or_(by_file, func.lower(Model.name) == wanted))
        .order_by((Model.user_id == user.id).desc(), by_file.desc(), ModelVersion.id.desc())
        .limit(20)
    )
    return list(db.scalars(query).unique())


def find_version(db: Session, user: User, kind: str, called: str) -> ModelVersion | None:
    """The one that other programs call `name.safetensors [hash]`, or by a hash, a file or a page alone.

    `kind` is a key of KINDS; None for what is not there or not shared with this person.
    """
    types = KINDS[kind]
    titled = _TITLED.fullmatch(called.strip())
    name, digits = (titled["name"], titled["hash"]) if titled else (called.strip(), called.strip())
    found = find_by_hash(db, user, digits)
    if found is not None and found.model.type in types:
        return found
    return next(iter(find_versions(db, user, types, name)), None) if name else None


def stands_in(text: str, name: str) -> bool:
    """Whether `name` stands in `text` as a word of its own, in any case."""
    return re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text, re.IGNORECASE) is not None
