"""Facts about LTX-Video: clips of 8 · n + 1 frames, sides in multiples of 32. Defaults follow its model card
and Civitai's trainer."""

from app.contract.family import Aspect, ClipDefaults, ClipRule, FamilySpec, GenerationDefaults
from worker.families.memory import read_memory
from worker.families.params import clip_params, limited

CLIPS = ClipDefaults(
    rule=ClipRule(fps=24, step=8),
    window=49,
    max_window=121,
    length=97,
    max_length=257,
    shift=4.0,
    first_frame=True,
)
SPEC = FamilySpec(
    name="ltx",
    title="LTX-Video",
    base_model="LTXV",
    air="ltxv",
    ss_base_model_version="ltxv",
    modelspec_architecture="ltx-video/lora",
    modelspec_implementation="https://github.com/Lightricks/LTX-Video",
    licence="LTX-Video Open Weights License",
    media=("image", "video"),
    resolution=640,
    memory=read_memory(__file__),
    bucket_multiple=32,
    token_limit=127,
    step_target=200,
    clips=CLIPS,
    params=clip_params(
        CLIPS,
        resolution=limited("resolution", default=640, minimum=256, maximum=960, step=32),
        batch_size=limited("batch_size", default=1, maximum=4),
        network_dim=32,
        network_alpha=16.0,
        unet_lr=2e-4,
        lr_scheduler="constant",
        flow_shift=3.0,
        gradient_checkpointing=True,
        precision="bf16",
    ),
    generation=GenerationDefaults(
        sampler="Euler",
        steps=30,
        cfg_scale=3.0,
        width=768,
        height=512,
        max_side=1280,
        min_side=256,
        multiple=32,
        max_quantity=4,
        precision={"cpu": "bf16", "cuda": "bf16"},
    ),
    aspects=(
        Aspect(name="square", width=640, height=640),
        Aspect(name="portrait", width=512, height=768),
        Aspect(name="landscape", width=768, height=512),
    ),
    sample_negative_prompt=(
        "worst quality, inconsistent motion, blurry, jittery, distorted, watermark, text, signature"
    ),
)
