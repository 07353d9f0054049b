"""The starter checkpoint: Stable Diffusion 1's architecture in small. It comes as a folder only."""

from worker.families.base import Family
from worker.families.clip_unet import ClipUNet, layout
from worker.families.starter.spec import SPEC

FAMILY: Family = ClipUNet(SPEC, layout(SPEC.title))
