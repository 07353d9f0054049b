"""Facts about Wan 2.1 1.3B (text to video). Defaults follow its model card and Civitai's trainer;
alpha is half of the dim as everywhere here, since 1 makes a rank of 32 learn next to nothing."""

from app.contract.family import ClipDefaults, ClipRule, FamilySpec, GenerationDefaults
from worker.families.memory import read_memory
from worker.families.params import clip_params, limited
from worker.families.wan_facts import ASPECTS, NEGATIVE

CLIPS = ClipDefaults(
    rule=ClipRule(fps=16),
    window=33,
    max_window=81,
    length=49,
    max_length=121,
    shift=5.0,
)
SPEC = FamilySpec(
    name="wan",
    title="Wan 2.1 1.3B",
    base_model="Wan Video 1.3B t2v",
    air="wanvideo",
    ss_base_model_version="wan",
    modelspec_architecture="wan2.1/lora",
    modelspec_implementation="https://github.com/Wan-Video/Wan2.1",
    licence="Apache-2.0",
    media=("image", "video"),
    resolution=640,
    memory=read_memory(__file__),
    bucket_multiple=16,
    token_limit=510,
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
        sampler="UniPC",
        steps=30,
        cfg_scale=5.0,
        width=832,
        height=480,
        max_side=1280,
        min_side=256,
        multiple=16,
        max_quantity=4,
        precision={"cpu": "bf16", "cuda": "bf16"},
    ),
    aspects=ASPECTS,
    sample_negative_prompt=NEGATIVE,
)
