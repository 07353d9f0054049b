"""Published things for the tests of the gallery."""

import json
import struct
from typing import Any

from sqlalchemy.orm import Session

from app.accounts.models import User
from app.contract.jobs import BlobRef, CheckpointRef
from app.core.hashing import hash_stream
from app.gallery import service
from app.gallery.models import Model, ModelVersion
from tests.factories import make_blob

BASE = CheckpointRef(
    file=BlobRef(sha256="0" * 64, size=1, name="base.zip"), format="Diffusers", family="starter",
    name="Starter 1", base_model="Starter 1",
)  # fmt: skip


def safetensors(tensors: bytes = b"\0\1\2\3") -> bytes:
    """A small file of that form."""
    tensors += b"\0" * (len(tensors) % 2)
    entry = {"dtype": "F16", "shape": [len(tensors) // 2], "data_offsets": [0, len(tensors)]}
    header = json.dumps({"__metadata__": {"ss_network_dim": "16"}, "w": entry}).encode()
    return struct.pack("<Q", len(header)) + header + tensors


def trained(db: Session, user: User, content: bytes | None = None, **options: Any) -> ModelVersion:
    """A version as a training publishes it, still private."""
    data = content or safetensors(options.pop("tensors", user.username.encode()))
    values: dict[str, Any] = {
        "blob": make_blob(db, data),
        "file_name": "tuscany.safetensors",
        "tensor_sha256": hash_stream([data])["Tensor"].lower(),
        "base": BASE,
        "name": "Tuscany",
        "version_name": "v1",
        "category": "style",
        "tags": ["Architecture", "italy"],
        "trained_words": ["tuscany"],
        "training_details": {"images": 15, "steps": 600, "epoch": 8, "epochs": 10},
    }
    return service.create_trained_version(db, user, **values | options)


def published(db: Session, user: User, visibility: str = "public", **options: Any) -> Model:
    version = trained(db, user, **options)
    return service.publish_version(db, user, version, visibility)
