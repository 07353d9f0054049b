"""What a safetensors file says of itself, read from its header alone."""

import json
from collections import Counter
from typing import Any

from app.core.blobs import Blob
from app.core.storage import Storage

MAX_HEADER = 16 << 20
"""Bytes; larger headers are not read, which costs nothing but these facts."""
WORDS = {"F32": "fp32", "F16": "fp16", "BF16": "bf16", "F8_E4M3": "fp8", "F8_E5M2": "fp8", "I8": "int8"}
KEPT = ("ss_network_dim", "ss_network_alpha", "ss_network_module", "ss_base_model_version", "ss_output_name")


def read_facts(storage: Storage, blob: Blob) -> dict[str, Any]:
    """`fp`, number of `tensors`, the few fields that pages show; empty for what is not safetensors."""
    try:
        length = int.from_bytes(b"".join(storage.stream(blob.key, 0, min(8, blob.size))), "little")
        if not 2 <= length <= min(MAX_HEADER, blob.size - 8):
            return {}
        header = json.loads(b"".join(storage.stream(blob.key, 8, 8 + length)))
    except (ValueError, RecursionError):
        return {}
    return _facts(header) if isinstance(header, dict) else {}


def _facts(header: dict[str, Any]) -> dict[str, Any]:
    metadata = header.pop("__metadata__", None)
    metadata = metadata if isinstance(metadata, dict) else {}
    kinds = Counter(str(t.get("dtype")) for t in header.values() if isinstance(t, dict))
    commonest = kinds.most_common(1)[0][0] if kinds else ""
    facts = {name: str(metadata[name])[:200] for name in KEPT if metadata.get(name)}
    return {"tensors": len(header), "fp": WORDS.get(commonest), **facts}
