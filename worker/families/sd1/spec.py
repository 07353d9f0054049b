"""Facts about Stable Diffusion 1.x and its many descendants. Defaults follow Civitai's trainer."""

from app.contract.family import Aspect, FamilySpec, GenerationDefaults
from worker.families.memory import read_memory
from worker.families.params import image_params

SPEC = FamilySpec(
    name="sd1",
    title="Stable Diffusion 1.5",
    base_model="SD 1.5",
    air="sd1",
    ss_base_model_version="sd_v1",
    modelspec_architecture="stable-diffusion-v1/lora",
    modelspec_implementation="diffusers",
    licence="CreativeML Open RAIL-M",
    resolution=512,
    memory=read_memory(__file__),
    bucket_multiple=64,
    step_target=400,
    params=image_params(unet_lr=5e-4, precision="bf16"),
    by_type={
        "style": {"network_dim": 32, "network_alpha": 16.0},
        "character": {"network_dim": 16, "network_alpha": 8.0},
        "concept": {},
    },
    generation=GenerationDefaults(
        sampler="DPM++ 2M Karras",
        steps=30,
        cfg_scale=7.0,
        width=512,
        height=512,
        min_side=256,
        precision={"cuda": "fp16"},
    ),
    aspects=(
        Aspect(name="square", width=512, height=512),
        Aspect(name="portrait", width=512, height=768),
        Aspect(name="landscape", width=768, height=512),
    ),
    sample_negative_prompt=(
        "bad quality, low quality, worst quality, jpeg artifacts, blurry, pixelated, out of focus, "
        "watermark, text, signature"
    ),
)
