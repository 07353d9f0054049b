"""Models, versions and files as JSON in Civitai's fields and units, for writes and compatible reads.

Decisions: `allowCommercialUse` is a list; descriptions are never null; sizes are bytes/1024 unrounded;
hashes upper case; exactly one file is primary, the others say false; counters that do not exist here are 0.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import quote, urlencode

from fastapi import Request

from app.accounts.models import User
from app.core.errors import NotFound
from app.core.hashing import TENSOR
from app.gallery.airs import air as air
from app.gallery.files import Wanted, choose_file
from app.gallery.matching import primary_of
from app.gallery.models import Model, ModelFile, ModelVersion
from app.gallery.permissions import (
    can_download_here,
    can_download_model,
    can_edit_model,
    can_view_version,
)
from app.gallery.service import primary_file
from app.images.models import Image
from app.images.permissions import can_view_image
from app.images.shapes import version_image_out
from app.web.links import origin
from app.web.templating import markdown
from app.web.times import iso

FILE_TYPES = (
    "Model", "Text Encoder", "Vision Encoder", "Pruned Model", "Negative", "Training Data", "VAE", "Config",
    "Archive", "UNet", "Diffusion Model", "CLIPVision", "ControlNet", "Workflow", "Upscaler",
    "Enhancement LoRA", "Other",
)  # fmt: skip
BASE_MODEL_TYPES = {"inpaint": "Inpainting", "refiner": "Refiner", "pix2pix": "Pix2Pix"}
MAX_IMAGES = 10
EVERYTHING = 63
"""All bits of ratings."""
RESERVED = {"edit"}
_WORD = re.compile(r"[^\W_]+")


@dataclass(frozen=True)
class Shown:
    """Which ratings of pictures are shown (bit mask), and the key of an unlisted model's link."""

    level: int = EVERYTHING
    key: str | None = None
    details: bool = True
    """Of pictures: how they were made, too."""
    base_models: Sequence[str] = ()
    """Of the versions those for one of these alone; all without any."""


WHOLE = Shown()


def slug(name: str) -> str:
    """The readable part of a page's address."""
    joined = quote("-".join(_WORD.findall(name.lower()))[:60]) or "model"
    return f"{joined}-model" if joined in RESERVED else joined


def model_path(model: Model, *, version: ModelVersion | None = None, with_key: bool = False) -> str:
    """Address of the page; `with_key` adds the key of an unlisted model, for its owner to hand on."""
    query = {"version": version.id} if version is not None else {}
    if with_key and model.visibility == "unlisted" and model.share_key:
        query["key"] = model.share_key  # type: ignore[assignment]
    return f"/models/{model.id}/{slug(model.name)}" + (f"?{urlencode(query)}" if query else "")


def download_path(file: ModelFile, key: str | None = None) -> str:
    """The primary file needs no query, another says what it is, and its number where others are alike."""
    query = "" if file.is_primary else _said_of(file.type, file.format, file.precision, file.fp)
    if not file.is_primary and _has_doubles(file):
        query += f"&fileId={file.id}"
    if key:
        query += f"&{urlencode({'key': key})}"
    path = f"/api/download/models/{file.version_id}"
    return f"{path}?{query.removeprefix('&')}" if query else path


@lru_cache(maxsize=1000)
def _said_of(kind: str, file_format: str, precision: str | None, fp: str | None) -> str:
    told = {"type": kind, "format": file_format, "size": precision, "fp": fp}
    return urlencode({name: value for name, value in told.items() if value})


def _has_doubles(file: ModelFile) -> bool:
    """Whether what it says of itself means another file."""
    alike = [f for f in file.version.files if f.type == file.type and f.format == file.format]
    wanted = Wanted(file.type, file.format, file.precision or "", file.fp or "")
    return len(alike) > 1 and choose_file(alike, wanted) is not file


def shown_hashes(file: ModelFile) -> dict[str, str]:
    return {kind: value for kind, value in file.hash_values.items() if kind != TENSOR}


def file_out(
    request: Request, file: ModelFile, primary: ModelFile | None, key: str | None = None
) -> dict[str, Any]:
    safe = file.format in ("SafeTensor", "Diffusers", "GGUF")
    metadata = {"format": file.format, "size": file.precision, "fp": file.fp}
    return {
        "id": file.id,
        "sizeKB": file.size / 1024,
        "name": file.name,
        "type": file.type,
        "pickleScanResult": "Success" if safe else "Pending",
        "pickleScanMessage": "No pickle imports" if safe else None,
        "virusScanResult": "Pending",
        "virusScanMessage": None,
        "scannedAt": None,
        "metadata": {name: value for name, value in metadata.items() if value},
        "hashes": shown_hashes(file),
        "downloadUrl": origin(request) + download_path(file, key),
        "primary": file is primary,
    }


def version_pictures(version: ModelVersion, viewer: User | None) -> list[Image]:
    """Pictures of the carousel that this person may see. Who sees the page sees its own pictures."""
    images = (p.image for p in version.pictures)
    return [i for i in images if _belongs_to_page(i) or can_view_image(i, viewer)]


def _belongs_to_page(image: Image) -> bool:
    return image.origin == "page" and image.taken_down_at is None and image.rating != 0


def _version_core(
    request: Request, version: ModelVersion, viewer: User | None, shown: Shown
) -> dict[str, Any]:
    given = can_download_model(version.model, viewer)
    primary = primary_file(version) if given else None
    visible = version_pictures(version, viewer)
    pictures = [i for i in visible if shown.level == EVERYTHING or i.rating & shown.level][:MAX_IMAGES]
    return {
        "id": version.id,
        "name": version.name,
        "baseModel": version.base_model,
        "baseModelType": _base_model_type(version),
        "publishedAt": iso(version.published_at),
        "createdAt": iso(version.created_at),
        "updatedAt": iso(version.updated_at),
        "status": version.status,
        "availability": availability(version.model),
        "nsfwLevel": _level(version.model, visible),
        "description": str(markdown(version.description)),
        "trainedWords": version.trained_words,
        "earlyAccessConfig": {},
        "earlyAccessEndsAt": None,
        "paidAccess": None,
        "flags": 0,
        "vaeId": None,
        "air": air(version),
        "uploadType": version.upload_type,
        "usageControl": "Download",
        "stats": {
            "downloadCount": version.download_count, "thumbsUpCount": 0, "thumbsDownCount": 0,
            "ratingCount": 0, "rating": 0,
        },
        "files": [file_out(request, file, primary, shown.key) for file in version.files] if given else [],
        "images": [version_image_out(request, image, details=shown.details) for image in pictures],
        **({"downloadUrl": origin(request) + download_path(primary, shown.key)} if primary else {}),
    }  # fmt: skip


def _base_model_type(version: ModelVersion) -> str | None:
    """Civitai's word for the variant of a checkpoint; None for everything else."""
    if version.model.type != "Checkpoint":
        return None
    variants = (file.facts.get("variant") for file in version.files)
    return next((BASE_MODEL_TYPES[v] for v in variants if v in BASE_MODEL_TYPES), "Standard")


def _mode(model: Model) -> dict[str, str]:
    """Civitai leaves the key out where there is nothing to say."""
    return {"mode": "Archived"} if model.archived_at is not None else {}


def availability(model: Model) -> str:
    return {"public": "Public", "unlisted": "Unsearchable"}.get(model.visibility, "Private")


def _level(model: Model, pictures: Sequence[Image]) -> int:
    level = model.rating
    for picture in pictures:
        level |= picture.rating
    return level


def version_out(
    request: Request, version: ModelVersion, viewer: User | None = None, *, key: str | None = None
) -> dict[str, Any]:
    """A version on its own, as GET /model-versions/:id answers it; `key` is kept in its download links."""
    model = version.model
    trained = version.upload_type == "Trained"
    return {
        **_version_core(request, version, viewer, Shown(key=key)),
        "modelId": model.id,
        "trainingStatus": "Approved" if trained else None,
        "trainingDetails": version.training_details,
        "licensingFee": None,
        "model": {
            "name": model.name, "type": model.type, "nsfw": model.rating > 2, "poi": model.poi,
            **_mode(model),
        },
    }  # fmt: skip


def mini_out(
    request: Request, version: ModelVersion, viewer: User | None, *, file_id: int | None = None
) -> dict[str, Any]:
    """What a program needs to fetch one file. Errors: NotFound when there is none, or not this one."""
    model = version.model
    files = version.files if can_download_model(model, viewer) else []
    wanted = primary_of(files) if file_id is None else next((f for f in files if f.id == file_id), None)
    if wanted is None:
        raise NotFound("Missing model file", code="file-not-found")
    return {
        "air": air(version),
        "versionName": version.name,
        "modelName": model.name,
        "userId": model.user_id,
        "baseModel": version.base_model,
        "availability": availability(model),
        "publishedAt": iso(version.published_at),
        "size": wanted.size / 1024,
        "fileType": wanted.type,
        "fileName": wanted.name,
        "hashes": shown_hashes(wanted),
        "downloadUrls": [origin(request) + download_path(wanted)],
        "format": wanted.format,
        "canGenerate": version.family is not None,
        "isFeatured": False,
        "requireAuth": model.visibility != "public" or not can_download_here(None),
        "checkPermission": model.visibility != "public",
        "additionalResourceCharge": False,
        "minor": False,
        "sfwOnly": False,
        "fees": [],
        "payoutEnabled": False,
    }


def model_out(request: Request, model: Model, viewer: User | None, how: Shown = WHOLE) -> dict[str, Any]:
    """A model with the versions that the viewer may see, and of their pictures what is to be shown."""
    shown = [v for v in model.versions if can_view_version(v, viewer, how.key)]
    bases = how.base_models or {v.base_model for v in shown}
    out = [
        _version_in_model(request, v, viewer, n, how) for n, v in enumerate(shown) if v.base_model in bases
    ]
    pictures = [picture for v in shown for picture in version_pictures(v, viewer)]
    return {
        "id": model.id,
        "name": model.name,
        "description": str(markdown(model.description)),
        "type": model.type,
        "allowNoCredit": model.allow_no_credit,
        "allowCommercialUse": model.allow_commercial_use,
        "allowDerivatives": model.allow_derivatives,
        "allowDifferentLicense": model.allow_different_license,
        "minor": False,
        "sfwOnly": False,
        "poi": model.poi,
        "nsfw": model.rating > 2,
        "nsfwLevel": _level(model, pictures),
        **_mode(model),
        "availability": availability(model),
        "userId": model.user_id,
        "cosmetic": None,
        "baseModels": list(dict.fromkeys(v.base_model for v in shown)),
        "supportsGeneration": any(v.family is not None for v in shown),
        "stats": model_stats(model),
        "creator": {"username": model.username, "image": None},
        "tags": [tag.tag for tag in model.tags],
        "modelVersions": out,
        "url": origin(request) + model_path(model, with_key=can_edit_model(model, viewer)),
    }


def _version_in_model(
    request: Request, version: ModelVersion, viewer: User | None, index: int, shown: Shown
) -> dict[str, Any]:
    runs = version.family is not None
    return {
        **_version_core(request, version, viewer, shown),
        "index": index,
        "covered": runs,
        "supportsGeneration": runs,
    }


def model_stats(model: Model) -> dict[str, int]:
    return {
        "downloadCount": model.download_count, "thumbsUpCount": 0, "thumbsDownCount": 0, "commentCount": 0,
        "tippedAmountCount": 0, "favoriteCount": 0, "ratingCount": 0, "rating": 0,
    }  # fmt: skip
