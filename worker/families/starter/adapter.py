"""The starter checkpoint: Stable Diffusion 1's architecture in small."""

from worker.families.base import Family
from worker.families.clip_unet import ClipUNet
from worker.families.starter.spec import SPEC

FAMILY: Family = ClipUNet(SPEC)
