"""A1111's options, and its lists of models by their files and hashes."""

from pathlib import PurePosixPath
from typing import Annotated, Any

from fastapi import APIRouter, Body

from app.accounts.deps import LenientlyIdentified
from app.compat import a1111_options as options
from app.compat.a1111 import Maker, Reader
from app.compat.a1111_answers import A1111Route
from app.gallery.models import ModelFile
from app.gallery.picker import Choice, list_files
from app.web.deps import Db

router = APIRouter(prefix="/sdapi/v1", tags=["a1111"], route_class=A1111Route)
Json = dict[str, Any]


def _stem(file: ModelFile) -> str:
    return PurePosixPath(file.name).stem


@router.get("/options")
def get_options(db: Db, user: Reader, identity: LenientlyIdentified) -> Json:
    """The options that mean something here, as this token chose them."""
    return options.shown(db, user, options.get_options(identity))


@router.post("/options")
def set_options(db: Db, user: Maker, identity: LenientlyIdentified, said: Annotated[Json, Body()]) -> None:
    """Choose model, VAE and CLIP skip for this token; other options are ignored."""
    kept = options.get_options(identity)
    news = options.news(db, user, kept, said)
    options.keep_options(db, identity, options.changed(db, user, kept, news))


@router.get("/sd-models")
def list_models(db: Db, user: Reader) -> list[Json]:
    """Checkpoints that draw here."""
    return [
        {
            "title": options.title(file),
            "model_name": _stem(file),
            "hash": file.blob_sha256[:10],
            "sha256": file.blob_sha256,
            "filename": file.name,
            "config": None,
        }
        for _, file in options.list_checkpoints(db, user)
    ]


@router.get("/sd-vae")
def list_vaes(db: Db, user: Reader) -> list[Json]:
    return [{"model_name": file.name, "filename": file.name} for _, file in list_files(db, user, "VAE")]


@router.get("/loras")
def list_loras(db: Db, user: Reader) -> list[Json]:
    """LoRAs by the names that `<lora:name:weight>` takes; `alias` is the page's name."""
    return [
        {"name": _stem(file), "alias": choice.name, "path": file.name, "metadata": _metadata(choice, file)}
        for choice, file in list_files(db, user, "LORA")
    ]


def _metadata(choice: Choice, file: ModelFile) -> Json:
    """What kohya's trainer would write of it, as far as it is known here."""
    known = {
        "ss_output_name": _stem(file),
        "ss_sd_model_name": choice.base_model,
        "ss_network_dim": file.facts.get("rank"),
        "ss_network_alpha": file.facts.get("alpha"),
        "ss_trained_words": ", ".join(choice.trained_words),
    }
    return {name: str(value) for name, value in known.items() if value not in (None, "")}


@router.get("/embeddings")
def list_embeddings(db: Db, user: Reader) -> Json:
    """Textual inversions by the name that a prompt calls them."""
    unknown = dict.fromkeys(("step", "sd_checkpoint", "sd_checkpoint_name", "shape", "vectors"))
    found = list_files(db, user, "TextualInversion")
    return {"loaded": {_stem(file): dict(unknown) for _, file in found}, "skipped": {}}
