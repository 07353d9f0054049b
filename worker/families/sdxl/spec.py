"""Facts about Stable Diffusion XL and its descendants (Pony, Illustrious, …). Defaults follow Civitai's
trainer, but for memory: bf16, gradient checkpointing and small batches."""

from app.contract.family import Aspect, FamilySpec, GenerationDefaults
from worker.families.memory import read_memory
from worker.families.params import image_params, limited

SPEC = FamilySpec(
    name="sdxl",
    title="Stable Diffusion XL",
    base_model="SDXL 1.0",
    air="sdxl",
    ss_base_model_version="sdxl_base_v1-0",
    modelspec_architecture="stable-diffusion-xl-v1-base/lora",
    modelspec_implementation="https://github.com/Stability-AI/generative-models",
    licence="CreativeML Open RAIL++-M",
    resolution=1024,
    memory=read_memory(__file__),
    bucket_multiple=64,
    step_target=200,
    params=image_params(
        resolution=limited("resolution", default=1024, maximum=1536),
        unet_lr=5e-4,
        precision="bf16",
        gradient_checkpointing=True,
        clip_skip=limited(
            "clip_skip",
            help="SDXL always skips the last layer: 1 and 2 are the same, 3 skips two.",
        ),
    ),
    by_type={
        "style": {"network_dim": 32, "network_alpha": 16.0},
        "character": {"network_dim": 16, "network_alpha": 8.0},
        "concept": {},
    },
    generation=GenerationDefaults(
        sampler="DPM++ 2M Karras",
        steps=30,
        cfg_scale=6.0,
        width=1024,
        height=1024,
        max_side=1536,
        min_side=256,
        precision={"cpu": "bf16", "cuda": "fp16"},
    ),
    aspects=(
        Aspect(name="square", width=1024, height=1024),
        Aspect(name="portrait", width=832, height=1216),
        Aspect(name="landscape", width=1216, height=832),
    ),
    sample_negative_prompt="bad quality, low quality, worst quality, jpeg artifacts, blurry, watermark, text",
)
