"""Payloads of jobs for the light child: complete, but their files are never read."""

import hashlib
from typing import Any

from app.contract.jobs import BlobRef, CheckpointRef, FilesJob, GenerateJob, TrainJob, TrainParams
from app.core.storage import get_storage

BASE = b"a base checkpoint"


def base_ref(content: bytes = BASE) -> CheckpointRef:
    """A checkpoint whose file lies in the storage of the current settings."""
    sha256 = hashlib.sha256(content).hexdigest()
    if get_storage().size(f"blobs/{sha256}") is None:
        get_storage().put(f"blobs/{sha256}", content)
    file = BlobRef(sha256=sha256, size=len(content), name="base.safetensors")
    return CheckpointRef(file=file, format="SafeTensor", family="starter", name="Base", base_model="Starter")


def generate_payload(words: str, pictures: int = 1, base: bytes = BASE) -> dict[str, Any]:
    """`words` tell the light child what to do."""
    job = GenerateJob(
        base=base_ref(base), prompt=words, sampler="Euler a", steps=1, cfg_scale=1, width=64, height=64,
        seeds=tuple(range(pictures)),
    )  # fmt: skip
    return job.model_dump(mode="json")


def train_payload(name: str, words: str) -> dict[str, Any]:
    params = TrainParams(
        resolution=64, epochs=1, repeats=1, batch_size=1, unet_lr=1e-4, network_dim=4, network_alpha=4
    )
    job = TrainJob(
        name=name,
        output_name=name,
        type="style",
        base=base_ref(),
        items=(),
        trigger_word=words,
        params=params,
    )
    return job.model_dump(mode="json")


def files_payload(task: str, upload: str) -> dict[str, Any]:
    return FilesJob(task=task, upload=upload).model_dump(mode="json")
