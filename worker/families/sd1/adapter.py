"""The SD1 family at full size. Checkpoints come as diffusers folders."""

from worker.families.base import Family
from worker.families.clip_unet import ClipUNet
from worker.families.sd1.spec import SPEC

FAMILY: Family = ClipUNet(SPEC)
