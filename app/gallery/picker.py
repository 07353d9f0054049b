"""What the wizard and the generator offer to choose from: versions that a person may use here."""

from dataclasses import dataclass

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from app.accounts.models import User
from app.gallery.models import Model, ModelVersion, VersionPicture


@dataclass(frozen=True)
class Choice:
    """One version as a card: `cover` is the id of a picture, None where it has none."""

    version_id: int
    model_id: int
    name: str
    version_name: str
    type: str
    base_model: str
    family: str | None
    trained_words: list[str]
    strength: float
    licence: str
    mine: bool
    cover: int | None


def list_choices(
    db: Session,
    viewer: User,
    kind: str,
    *,
    query: str = "",
    limit: int = 60,
    version_ids: list[int] | None = None,
) -> list[Choice]:
    """Versions of type `kind` (`Checkpoint` or `LORA`) that the viewer may use, newest first."""
    rows = (
        select(ModelVersion)
        .join(Model)
        .where(Model.type == kind, Model.taken_down_at.is_(None))
        .where(or_(Model.visibility == "public", Model.user_id == viewer.id))
        .where(or_(ModelVersion.status == "Published", Model.user_id == viewer.id))
        .order_by(Model.built_in.desc(), ModelVersion.id.desc())
        .limit(limit)
    )
    if query.strip():
        rows = rows.where(Model.name.icontains(query.strip(), autoescape=True))
    if version_ids is not None:
        rows = rows.where(ModelVersion.id.in_(version_ids))
    versions = list(db.scalars(rows).unique())
    covers = _covers(db, [v.id for v in versions])
    return [_choice(version, viewer, covers.get(version.id)) for version in versions]


def _covers(db: Session, version_ids: list[int]) -> dict[int, int]:
    rows = db.execute(
        select(VersionPicture.version_id, VersionPicture.image_id)
        .where(VersionPicture.version_id.in_(version_ids))
        .order_by(VersionPicture.position.desc())
    )
    return {row.version_id: row.image_id for row in rows}


def _choice(version: ModelVersion, viewer: User, cover: int | None) -> Choice:
    model = version.model
    return Choice(
        version_id=version.id,
        model_id=model.id,
        name=model.name,
        version_name=version.name,
        type=model.type,
        base_model=version.base_model,
        family=version.family,
        trained_words=version.trained_words,
        strength=version.strength,
        licence=model.licence,
        mine=model.user_id == viewer.id,
        cover=cover,
    )
