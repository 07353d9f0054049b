"""The small text-to-image checkpoint that ships with Bottega, and how it was made.

Nothing here imports torch, so that the web process may read the names and draw the
example set. The weights are found through WEIGHTS; BOTTEGA_STARTER points elsewhere.
"""

import os
from pathlib import Path

TITLE = "Bottega Starter"
BASE_MODEL = "Starter 1"
"""The base model name in files and catalogues: never an SD 1 name, for its LoRAs do not fit one."""
LICENCE = "CC0-1.0"
WEIGHTS = Path(os.environ.get("BOTTEGA_STARTER") or Path(__file__).parent / "weights")
"""A folder that `StableDiffusionPipeline.from_pretrained` reads."""

__all__ = ["BASE_MODEL", "LICENCE", "TITLE", "WEIGHTS"]
