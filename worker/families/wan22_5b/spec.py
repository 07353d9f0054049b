"""Facts about Wan 2.2 5B (text or a picture to video): 24 frames a second, and an autoencoder of its own with
48 channels that shrinks sides to a sixteenth."""

from app.contract.family import ClipDefaults, ClipRule, FamilySpec, GenerationDefaults
from worker.families.memory import read_memory
from worker.families.params import clip_params, limited
from worker.families.wan_facts import ASPECTS, NEGATIVE

CLIPS = ClipDefaults(
    rule=ClipRule(fps=24),
    window=49,
    max_window=121,
    length=73,
    max_length=121,
    shift=5.0,
    first_frame=True,
)
SPEC = FamilySpec(
    name="wan22_5b",
    title="Wan 2.2 5B",
    base_model="Wan Video 2.2 TI2V-5B",
    air="wanvideo",
    ss_base_model_version="wan",
    modelspec_architecture="wan2.2-ti2v-5b/lora",
    modelspec_implementation="https://github.com/Wan-Video/Wan2.2",
    licence="Apache-2.0",
    media=("image", "video"),
    resolution=640,
    memory=read_memory(__file__),
    bucket_multiple=32,
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
        multiple=32,
        max_quantity=4,
        precision={"cpu": "bf16", "cuda": "bf16"},
    ),
    aspects=ASPECTS,
    sample_negative_prompt=NEGATIVE,
)
