"""Versions that came before their family did: told again which family runs them, when families change.

A Flux checkpoint may be kept for a year before Flux can run here. What its row says was right on that day;
at the first start with new families the headers of such files are read again, and only theirs.
"""

import logging

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from app.accounts.models import Setting
from app.core.blobs import Blob
from app.core.storage import Storage
from app.gallery.files import family_of
from app.gallery.headers import facts_of, recognise_blob, recognised_from
from app.gallery.models import Model, ModelFile, ModelVersion
from app.gallery.picker import KINDS
from app.recognition import HeaderRefused, Recognised
from app.recognition.bases import BASES
from worker.families.catalog import specs

log = logging.getLogger("bottega.gallery")
KEY = "families"
RULES = 2
"""Counted up when `recognise` lets more files of a family run than before."""


def refresh_families(db: Session, storage: Storage) -> int:
    """Look again at all versions that nothing could run; gives how many can be run now.

    Does nothing while the families are those of the last time. A file that is away is left as it is.
    """
    mark = {"rules": RULES, "installed": sorted(specs()), "known": {k: b.family for k, b in BASES.items()}}
    row = db.get(Setting, KEY)
    if row is not None and row.value == mark:
        return 0
    found = sum(_look_again(db, storage, version) for version in _idle(db))
    db.merge(Setting(key=KEY, value=mark))
    if found:
        log.info("%d versions can be used here now.", found)
    return found


def _idle(db: Session) -> list[ModelVersion]:
    query = (
        select(ModelVersion)
        .join(Model)
        .where(Model.type.in_([*KINDS["Checkpoint"], *KINDS["LORA"]]))
        .where(or_(ModelVersion.family.is_(None), ModelVersion.family.not_in(list(specs()))))
    )
    return list(db.scalars(query).unique())


def _look_again(db: Session, storage: Storage, version: ModelVersion) -> bool:
    for file in version.files:
        seen = recognised_from(file.facts)
        if seen is not None and seen.family is None and _family_of(seen) in specs():
            _recognise_again(db, storage, file)
    version.family = family_of(version.model.type, version.base_model, version.files)
    return version.family is not None


def _family_of(seen: Recognised) -> str | None:
    return BASES[seen.architecture].family if seen.architecture in BASES else None


def _recognise_again(db: Session, storage: Storage, file: ModelFile) -> None:
    try:
        seen = recognise_blob(storage, db.get_one(Blob, file.blob_sha256))
    except (HeaderRefused, OSError) as error:
        log.warning("%s could not be looked at again: %s", file.name, error)
        return
    others = {name: fact for name, fact in file.facts.items() if name not in Recognised.model_fields}
    file.facts = others | facts_of(seen)
