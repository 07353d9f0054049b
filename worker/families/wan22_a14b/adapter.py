"""Wan 2.2 A14B: two transformers."""

from pathlib import Path

from worker.families.base import Family
from worker.families.wan22_a14b.spec import SPEC
from worker.families.wan_clips import Variant, Wan

FAMILY: Family = Wan(SPEC, Variant(experts=True), Path(__file__).with_name("config"))
