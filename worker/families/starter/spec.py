"""Facts about the small checkpoint that ships with Bottega. Its names are its own, never sd_v1:
other tools must not take a LoRA for 128-pixel pictures for one of Stable Diffusion 1.
"""

from app.contract.family import Aspect, FamilySpec, GenerationDefaults
from worker.families.memory import read_memory
from worker.families.params import image_params, limited

SPEC = FamilySpec(
    name="starter",
    title="Bottega Starter",
    base_model="Starter 1",
    air="starter1",
    ss_base_model_version="bottega_starter_1",
    modelspec_architecture="bottega-starter-1/lora",
    modelspec_implementation="diffusers",
    licence="CC0-1.0",
    resolution=128,
    memory=read_memory(__file__),
    bucket_multiple=8,
    step_target=240,
    params=image_params(
        resolution=limited("resolution", default=128, minimum=64, maximum=256, step=8),
        unet_lr=1e-3,
        clip_skip=limited("clip_skip", maximum=2),
    ),
    by_type={
        # Measured with worker.starter.bench on the example set: mirroring and full alpha bring the
        # pictures nearer to the style at less cost to what the prompt says.
        "style": {"caption_dropout": 0.1, "network_alpha": 16.0, "flip": True},
        "character": {"network_dim": 8, "network_alpha": 4.0},
        "concept": {},
    },
    generation=GenerationDefaults(
        sampler="DPM++ 2M Karras",
        steps=20,
        cfg_scale=5.0,
        width=128,
        height=128,
        max_side=256,
        min_side=64,
    ),
    aspects=(
        Aspect(name="square", width=128, height=128),
        Aspect(name="portrait", width=104, height=152),
        Aspect(name="landscape", width=152, height=104),
    ),
)
