"""One hash for one JSON document, however its keys are ordered."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any


def body_hash(body: Mapping[str, Any]) -> str:
    """sha256 of the body in canonical JSON: the order of keys does not matter."""
    canonical = json.dumps(body, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(canonical.encode()).hexdigest()
