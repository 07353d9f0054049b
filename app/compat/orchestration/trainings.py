"""Steps that train: `training` (ai-toolkit) and `imageResourceTraining` (kohya) → our own request.

Only settings that mean the same here are taken over; what is left out is the family's default.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from app.accounts.models import User
from app.compat.orchestration import blobs
from app.compat.orchestration.pictures import check_ecosystem
from app.compat.orchestration.reading import read, refuse, told_at
from app.compat.orchestration.schemas import AiToolkitIn, KohyaIn
from app.core.blobs import blob_key
from app.core.errors import AppError
from app.core.storage import Storage
from app.datasets.archives import is_zip
from app.gallery.airs import find_air, plain_word
from app.gallery.models import ModelVersion
from app.gallery.picker import list_choices
from app.gallery.refs import get_version
from app.training.schemas import TrainingIn
from app.uploads import service as uploads
from app.uploads.models import Upload
from worker.families.catalog import specs

KOHYA = {
    "maxTrainEpochs": "epochs", "numRepeats": "repeats", "trainBatchSize": "batch_size",
    "resolution": "resolution", "enableBucket": "enable_bucket", "shuffleCaption": "shuffle_tags",
    "keepTokens": "keep_tokens", "clipSkip": "clip_skip", "flipAugmentation": "flip", "unetLR": "unet_lr",
    "textEncoderLR": "text_encoder_lr", "lrScheduler": "lr_scheduler", "lrSchedulerNumCycles": "lr_cycles",
    "minSnrGamma": "min_snr_gamma", "networkDim": "network_dim", "networkAlpha": "network_alpha",
    "noiseOffset": "noise_offset", "optimizerType": "optimizer",
}  # fmt: skip
AI_TOOLKIT = {
    "steps": "max_steps", "epochs": "epochs", "batchSize": "batch_size", "lr": "unet_lr",
    "textEncoderLr": "text_encoder_lr", "lrScheduler": "lr_scheduler", "optimizerType": "optimizer",
    "networkDim": "network_dim", "networkAlpha": "network_alpha", "noiseOffset": "noise_offset",
    "minSnrGamma": "min_snr_gamma", "flipAugmentation": "flip", "shuffleTokens": "shuffle_tags",
    "keepTokens": "keep_tokens",
}  # fmt: skip
"""Their settings → ours."""
OPTIMIZERS = {"adamw8bit": "adamw", "adam8bit": "adamw", "prodigy8bit": "prodigy"}
"""The same methods with less memory: here there is only the exact one."""
FOREIGN = (
    f"this server fetches nothing from other addresses; send the zip with POST {blobs.PATH} and name its url"
)
SOME = 20
"""Pictures that a step is checked with which does not say how many it has."""


@dataclass(frozen=True)
class Wanted:
    """A training that can start once its pictures are there. `body` still names no set."""

    body: dict[str, Any]
    upload: Upload
    count: int
    names: Mapping[str, str]
    """Our fields → theirs, for errors."""


def training(db: Session, storage: Storage, user: User, data: Mapping[str, Any], pointer: str) -> Wanted:
    """Errors: Invalid with every wrong field, NotFound for AIRs and blobs."""
    asked = read(AiToolkitIn, data, pointer)
    base = find_air(db, user, asked.model) if asked.model else _usual_base(db, user, asked.ecosystem, pointer)
    check_ecosystem(base, asked.ecosystem, f"{pointer}/ecosystem")
    params = _params(asked.model_dump(by_alias=True), AI_TOOLKIT)
    if asked.train_text_encoder is False:
        params["text_encoder_lr"] = 0
    samples = asked.samples
    body = {
        "base": {"model_version_id": base.id},
        "name": _name(asked.lora_name, asked.trigger_word),
        "trigger_word": asked.trigger_word or "",
        "params": params,
        "sample_prompts": _prompts(samples.prompts, samples.negative_prompt) if samples else None,
        "continue_from": _earlier(db, user, asked.continue_from, f"{pointer}/continueFrom"),
    }
    upload = _upload(db, storage, user, asked.training_data.source_url, f"{pointer}/trainingData/sourceUrl")
    return _wanted(body, upload, asked.training_data.count, AI_TOOLKIT, pointer)


def _usual_base(db: Session, user: User, word: str | None, pointer: str) -> ModelVersion:
    """What is meant without a name: the checkpoint that ships with this server, else the newest."""
    for choice in list_choices(db, user, "Checkpoint"):
        if word and choice.family and specs()[choice.family].air == plain_word(word):
            return get_version(db, user, choice.version_id)
    words = "name the base: GET /api/v1/models?types=Checkpoint lists them with their air"
    raise refuse(f"{pointer}/model", words, "missing")


def resource_training(
    db: Session, storage: Storage, user: User, data: Mapping[str, Any], pointer: str
) -> Wanted:
    """As training."""
    asked = read(KohyaIn, data, pointer)
    body = {
        "base": {"model_version_id": find_air(db, user, asked.model).id},
        "name": _name(asked.lora_name),
        "params": _params(asked.model_dump(by_alias=True), KOHYA),
        "sample_prompts": _prompts(asked.sample_prompts, asked.negative_prompt),
    }
    upload = _upload(db, storage, user, asked.training_data, f"{pointer}/trainingData")
    return _wanted(body, upload, asked.training_data_images_count, KOHYA, pointer)


def _wanted(
    body: dict[str, Any], upload: Upload, count: int | None, table: Mapping[str, str], pointer: str
) -> Wanted:
    names = {ours: theirs for theirs, ours in table.items()}
    names |= {"base": "model", "trigger_word": "triggerWord", "sample_prompts": "samples", "name": "loraName"}
    with told_at(pointer, names):
        given = {name: value for name, value in body.items() if value is not None}
        whole = TrainingIn.model_validate({"type": "concept", "dataset": "", **given})
    return Wanted(whole.model_dump(mode="json", exclude={"dataset"}), upload, count or SOME, names)


def _params(asked: Mapping[str, Any], table: Mapping[str, str]) -> dict[str, Any]:
    params = {ours: asked[theirs] for theirs, ours in table.items() if asked.get(theirs) is not None}
    for name in ("lr_scheduler", "optimizer"):
        if name in params:
            params[name] = str(params[name]).lower()
    if "optimizer" in params:
        params["optimizer"] = OPTIMIZERS.get(params["optimizer"], params["optimizer"])
    return params


def _name(*words: str | None) -> str:
    chosen = next((" ".join(word.split()) for word in words if word and word.strip()), "LoRA")
    return chosen[:60]


def _prompts(prompts: list[str] | None, negative: str | None) -> list[dict[str, Any]] | None:
    if not prompts:
        return None
    return [
        {"prompt": prompt, "negative_prompt": negative, "seed": n + 1} for n, prompt in enumerate(prompts)
    ]


def _earlier(db: Session, user: User, air: str | None, pointer: str) -> dict[str, Any] | None:
    """The epoch that a LoRA of this server was published from."""
    if not air:
        return None
    version = find_air(db, user, air)
    epoch = (version.training_details or {}).get("epoch")
    if version.training_job_id is None or epoch is None:
        words = f"{version.model.name} was not trained here, so it cannot be trained further"
        raise refuse(pointer, words, "not-trained-here")
    return {"training": version.training_job_id, "epoch": epoch}


def _upload(db: Session, storage: Storage, user: User, text: str, pointer: str) -> Upload:
    blob_id = blobs.id_in(text)
    if blob_id is None or not blob_id.startswith("up_"):
        raise refuse(pointer, FOREIGN, "foreign-url")
    try:
        upload = uploads.get_complete(db, user, blob_id)
    except AppError as error:
        raise refuse(pointer, error.detail, error.code) from error
    if not is_zip(b"".join(storage.stream(blob_key(upload.blob_sha256 or ""), 0, 8))):
        raise refuse(pointer, "is no zip; send one with pictures and their .txt files", "not-a-zip")
    return upload
