"""Facts about the small checkpoint for clips that ships with Bottega: Wan's architecture, 64 pixels, two
seconds. Its names are its own, so that nobody takes a LoRA of it for one of Wan."""

from app.contract.family import Aspect, ClipDefaults, ClipRule, FamilySpec, GenerationDefaults
from worker.families.memory import read_memory
from worker.families.params import clip_params, limited

CLIPS = ClipDefaults(
    rule=ClipRule(fps=8),
    window=17,
    max_window=17,
    length=17,
    max_length=33,
    shift=2.0,
)
SPEC = FamilySpec(
    name="video_starter",
    title="Bottega Video Starter",
    base_model="Video Starter 1",
    air="videostarter1",
    ss_base_model_version="bottega_video_starter_1",
    modelspec_architecture="bottega-video-starter-1/lora",
    modelspec_implementation="diffusers",
    licence="CC0-1.0",
    media=("image", "video"),
    resolution=64,
    memory=read_memory(__file__),
    bucket_multiple=16,
    token_limit=63,
    step_target=240,
    clips=CLIPS,
    params=clip_params(
        CLIPS,
        resolution=limited("resolution", default=64, minimum=32, maximum=128, step=16),
        unet_lr=1e-3,
        clip_count=2,
        flow_shift=2.0,
    ),
    generation=GenerationDefaults(
        sampler="Euler",
        steps=20,
        cfg_scale=4.0,
        width=64,
        height=64,
        max_side=128,
        min_side=32,
        multiple=16,
        max_quantity=4,
    ),
    aspects=(
        Aspect(name="square", width=64, height=64),
        Aspect(name="portrait", width=64, height=80),
        Aspect(name="landscape", width=80, height=64),
    ),
)
