"""AIRs: the names of models that Civitai's programs use, `urn:air:sdxl:lora:civitai:12@34`.

Ecosystem and type must be right too: a name that was copied from elsewhere must not find another model
here that happens to have the same numbers.
"""

import re
from dataclasses import dataclass
from functools import lru_cache

from sqlalchemy.orm import Session

from app.accounts.models import User
from app.core.errors import NotFound
from app.gallery.matching import primary_of
from app.gallery.models import Model, ModelVersion
from app.gallery.permissions import can_view_version
from app.recognition.bases import architectures_of
from worker.families.catalog import specs

AIR_TYPES = {
    "Checkpoint": "checkpoint", "LORA": "lora", "DoRA": "dora", "LoCon": "lycoris",
    "TextualInversion": "embedding",
    "Hypernetwork": "hypernet", "VAE": "vae", "Controlnet": "controlnet", "Upscaler": "upscaler",
    "MotionModule": "motion", "AestheticGradient": "ag", "TextEncoder": "text_encoders", "UNet": "unet",
    "CLIPVision": "clipvision",
}  # fmt: skip
SAME = {
    "sd15": "sd1", "sd14": "sd1", "pony": "sdxl", "illustrious": "sdxl", "noobai": "sdxl",
    "locon": "lycoris", "textualinversion": "embedding",
}  # fmt: skip
"""Other words for an ecosystem or a type."""
_AIR = re.compile(
    r"(?:urn:)?(?:air:)?(?P<ecosystem>[\w\-/]+):(?P<kind>[\w\-/]+):(?P<source>[\w\-/]+):"
    r"(?P<model>\d{1,9})(?:@(?P<version>\d{1,9}))?(?:\+(?P<file>\d{1,9}))?(?:\.\w+)?",
    re.ASCII | re.IGNORECASE,
)


@dataclass(frozen=True)
class Air:
    """A parsed name. Without `version` the newest one is meant; `file` is a file's id."""

    ecosystem: str
    kind: str
    source: str
    model: int
    version: int | None
    file: int | None


def air(version: ModelVersion) -> str:
    """The name of a version: ecosystem, type, model and version."""
    return f"urn:air:{ecosystem(version)}:{_kind(version)}:civitai:{version.model_id}@{version.id}"


def ecosystem(version: ModelVersion) -> str:
    return _ecosystem(version.family, version.base_model)


@lru_cache(maxsize=500)
def _ecosystem(family: str | None, base_model: str) -> str:
    spec = specs().get(family or "") or next(
        (s for s in specs().values() if s.base_model.lower() == base_model.lower()), None
    )
    return spec.air if spec else next(iter(sorted(architectures_of(base_model))), "other")


def _kind(version: ModelVersion) -> str:
    return AIR_TYPES.get(version.model.type, "other")


def parse_air(text: str) -> Air | None:
    match = _AIR.fullmatch(text.strip())
    if match is None:
        return None
    parts = match.groupdict()
    numbers = (int(parts[name]) if parts[name] else None for name in ("version", "file"))
    return Air(plain_word(parts["ecosystem"]), plain_word(parts["kind"]), parts["source"].lower(),
               int(parts["model"]), *numbers)  # fmt: skip


def plain_word(word: str) -> str:
    """Ecosystem or type in lower case, under its usual name."""
    return SAME.get(word.lower(), word.lower())


def find_air(db: Session, viewer: User | None, text: str) -> ModelVersion:
    """The version that an AIR names. Errors: NotFound, also for what this person may not see."""
    named = parse_air(text)
    version = _version(db, viewer, named) if named and named.source == "civitai" else None
    if version is None or named is None or not _is(version, named):
        words = f"There is no {text[:200]} here. GET /api/v1/models lists what there is, each with its air."
        raise NotFound(words, code="air-unknown")
    return version


def _version(db: Session, viewer: User | None, named: Air) -> ModelVersion | None:
    if named.version is None:
        model = db.get(Model, named.model)
        return next((v for v in model.versions if can_view_version(v, viewer)), None) if model else None
    version = db.get(ModelVersion, named.version)
    return version if version is not None and can_view_version(version, viewer) else None


def _is(version: ModelVersion, named: Air) -> bool:
    file = primary_of(version.files)
    return (
        version.model_id == named.model
        and _kind(version) == named.kind
        and plain_word(ecosystem(version)) == named.ecosystem
        and (named.file is None or (file is not None and file.id == named.file))
    )
