"""What the wizard and the generator offer to choose from: versions that a person may use here."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Select, case, or_, select
from sqlalchemy.orm import Session

from app.accounts.models import User
from app.gallery.matching import (
    Fit,
    Nature,
    fit,
    fit_text,
    fit_vae,
    nature_named,
    nature_of,
    runs_here,
    why_not,
)
from app.gallery.models import Model, ModelFile, ModelVersion, VersionPicture
from worker.families.catalog import specs

Query = TypeVar("Query", bound="Select[*tuple[Any, ...]]")
LORA_TYPES = ("LORA", "LoCon", "DoRA")
KINDS: dict[str, tuple[str, ...]] = {
    "Checkpoint": ("Checkpoint",),
    "LORA": LORA_TYPES,
    "VAE": ("VAE",),
    "TextEncoder": ("TextEncoder",),
    "TextualInversion": ("TextualInversion",),
}
"""What can be chosen, and which types of pages hold it."""


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
    """None also where the family is not installed."""
    trained_words: list[str]
    strength: float
    licence: str
    mine: bool
    cover: int | None
    nature: Nature
    obstacle: str = ""
    """Why a checkpoint cannot be used here, as what follows its name; empty where it can."""
    file: str = ""
    """Name of its file without the ending: what prompts call it."""
    missing: str = ""
    """What a checkpoint lacks here that somebody could bring, in words."""

    @property
    def reason(self) -> str:
        """The obstacle, or what is missing, as a sentence."""
        if self.missing:
            return self.missing
        return f"It {self.obstacle.partition(') ')[2] or self.obstacle}." if self.obstacle else ""


@dataclass(frozen=True)
class Fitting:
    """A card and whether it can be used with the chosen base."""

    choice: Choice
    fit: Fit


def _shipped_first() -> tuple[ColumnElement[Any], ...]:
    """What ships with Bottega stands first, its pictures before its clips; then the newest."""
    of_clips = [key for key, spec in specs().items() if spec.clips]
    return (
        Model.built_in.desc(),
        case((Model.built_in, ModelVersion.family.in_(of_clips))),
        ModelVersion.id.desc(),
    )


def usable_by(query: Query, viewer: User, types: Sequence[str]) -> Query:
    """Of a query over ModelVersion and Model: those of these types that the viewer may use."""
    return (
        query.where(Model.type.in_(types), Model.taken_down_at.is_(None))
        .where(or_(Model.visibility == "public", Model.user_id == viewer.id))
        .where(or_(ModelVersion.status == "Published", Model.user_id == viewer.id))
    )


def list_choices(
    db: Session,
    viewer: User,
    kind: str,
    *,
    query: str = "",
    limit: int = 60,
    version_ids: list[int] | None = None,
) -> list[Choice]:
    """Versions of a kind (a key of KINDS) that the viewer may use, newest first."""
    rows = (
        usable_by(select(ModelVersion).join(Model), viewer, KINDS[kind])
        .order_by(*_shipped_first())
        .limit(limit)
    )
    if query.strip():
        rows = rows.where(Model.name.icontains(query.strip(), autoescape=True))
    if version_ids is not None:
        rows = rows.where(ModelVersion.id.in_(version_ids))
    versions = list(db.scalars(rows).unique())
    covers = _covers(db, [v.id for v in versions])
    return [_choice(version, viewer, covers.get(version.id)) for version in versions]


def list_files(
    db: Session, viewer: User, kind: str, *, limit: int = 500, version_ids: list[int] | None = None
) -> list[tuple[Choice, ModelFile]]:
    """Versions of a kind with their primary files, as list_choices has them, for lists of other programs."""
    rows = (
        usable_by(select(ModelVersion, ModelFile).join(ModelVersion.files).join(Model), viewer, KINDS[kind])
        .where(ModelFile.is_primary)
        .order_by(*_shipped_first())
        .limit(limit)
    )
    if version_ids is not None:
        rows = rows.where(ModelVersion.id.in_(version_ids))
    return [(_choice(version, viewer, None), file) for version, file in db.execute(rows).unique()]


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
        family=version.family if runs_here(version) else None,
        trained_words=version.trained_words,
        strength=version.strength,
        licence=model.licence,
        mine=model.user_id == viewer.id,
        cover=cover,
        nature=nature_of(version),
        obstacle=why_not(version) if model.type == "Checkpoint" else "",
        file=next((f.name.rsplit(".", 1)[0] for f in version.files if f.is_primary), ""),
    )


def list_fitting(
    db: Session, viewer: User, kind: str, *, base: int | None = None, base_model: str = "", query: str = ""
) -> list[Fitting]:
    """Cards of a kind, those that can be used first.

    A checkpoint is held against this installation; all else against the checkpoint `base` (a version's
    id), or against the name of a base model where no id is known.
    """
    choices = list_choices(db, viewer, kind, query=query)
    if kind == "Checkpoint":
        found = [Fitting(c, Fit(c.family is not None, c.reason)) for c in choices]
    else:
        nature = nature_of_choice(db, viewer, base) or nature_named("this model", base_model)
        judge = {"VAE": fit_vae, "TextEncoder": fit_text}.get(kind, fit)
        found = [Fitting(c, judge(nature, c.nature)) for c in choices]
    return sorted(found, key=lambda each: not each.fit.usable)


def nature_of_choice(db: Session, viewer: User, version_id: int | None) -> Nature | None:
    """Of a checkpoint that the viewer may use; None for all else."""
    if version_id is None:
        return None
    found = list_choices(db, viewer, "Checkpoint", version_ids=[version_id])
    return found[0].nature if found else None


def find_base_for(db: Session, viewer: User, lora: Choice) -> Choice | None:
    """A checkpoint to use a LoRA with: one of its very name before a relative."""
    able = [
        c for c in list_choices(db, viewer, "Checkpoint") if c.family and fit(c.nature, lora.nature).usable
    ]
    return next((c for c in able if c.base_model == lora.base_model), able[0] if able else None)
