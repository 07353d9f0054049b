"""The video starter: Wan's architecture in small. It comes as a folder only."""

from worker.families.base import Family
from worker.families.video_starter.spec import SPEC
from worker.families.wan_clips import Variant, Wan

FAMILY: Family = Wan(SPEC, Variant())
