"""Wan 2.2 5B: an autoencoder of 48 channels."""

from pathlib import Path

from worker.families.base import Family
from worker.families.wan22_5b.spec import SPEC
from worker.families.wan_clips import Variant, Wan

FAMILY: Family = Wan(
    SPEC, Variant(latent_channels=48, each_token_timed=True), Path(__file__).with_name("config")
)
