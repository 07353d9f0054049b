"""Wan 2.1 14B: one transformer."""

from pathlib import Path

from worker.families.base import Family
from worker.families.wan_14b.spec import SPEC
from worker.families.wan_clips import Variant, Wan

FAMILY: Family = Wan(SPEC, Variant(), Path(__file__).with_name("config"))
