"""The SD1 family at full size: diffusers folders, and files as most people have them."""

from pathlib import Path

from worker.families.base import Family
from worker.families.clip_unet import ClipUNet, layout
from worker.families.sd1.spec import SPEC

FAMILY: Family = ClipUNet(SPEC, layout(SPEC.title, Path(__file__).with_name("config")))
