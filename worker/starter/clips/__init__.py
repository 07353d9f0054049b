"""The small video starter: scenes that move, its training, its judge, its weights.

Nothing here imports torch. The weights are found through WEIGHTS; BOTTEGA_VIDEO_STARTER points elsewhere.
"""

import os
from pathlib import Path

BASE_MODEL = "Video Starter 1"
"""The base model name in files and catalogues: never one of Wan, for its LoRAs do not fit one."""
WEIGHTS = Path(os.environ.get("BOTTEGA_VIDEO_STARTER") or Path(__file__).parent / "weights")
"""A folder that `WanPipeline.from_pretrained` reads."""

__all__ = ["BASE_MODEL", "WEIGHTS"]
