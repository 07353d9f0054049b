"""What the specs of Wan's models share. No torch: the web process reads them.

Defaults follow the model cards and Civitai's trainer; alpha is half of the dim as everywhere here, since 1
makes a rank of 32 learn next to nothing.
"""

from app.contract.family import (
    Aspect,
    ClipDefaults,
    ClipRule,
    FamilySpec,
    GenerationDefaults,
    ParamLimits,
)
from worker.families.memory import read_memory
from worker.families.params import clip_params, limited

CLIPS = ClipDefaults(
    rule=ClipRule(fps=16),
    window=33,
    max_window=81,
    length=49,
    max_length=121,
    shift=5.0,
)
"""Of Wan 2.1; of 2.2 what its specs say."""
_SIDES = ((640, 640), (480, 832), (832, 480))
_ASPECTS = tuple(
    Aspect(name=name, width=width, height=height)
    for name, (width, height) in zip(("square", "portrait", "landscape"), _SIDES, strict=True)
)
_NEGATIVE = (
    "bad quality, low quality, worst quality, jpeg artifacts, blurry, pixelated, out of focus, "
    "watermark, text, signature"
)


def wan_spec(
    spec_file: str, clips: ClipDefaults, *, multiple: int = 16, cfg_scale: float = 5.0, **names: str
) -> FamilySpec:
    """The spec of one model: `names` are its name, title, base model and the names in its LoRAs' metadata.

    `multiple`: of sides in pixels. Its memory is told in `memory.json` beside `spec_file`.
    """
    return FamilySpec.model_validate(
        {
            **names,
            "air": "wanvideo",
            "ss_base_model_version": "wan",
            "licence": "Apache-2.0",
            "media": ("image", "video"),
            "resolution": 640,
            "memory": read_memory(spec_file),
            "bucket_multiple": multiple,
            "token_limit": 510,
            "step_target": 200,
            "clips": clips,
            "params": _params(clips),
            "generation": _generation(multiple, cfg_scale),
            "aspects": _ASPECTS,
            "sample_negative_prompt": _NEGATIVE,
        }
    )


def _params(clips: ClipDefaults) -> dict[str, ParamLimits]:
    return clip_params(
        clips,
        resolution=limited("resolution", default=640, minimum=256, maximum=960, step=32),
        batch_size=limited("batch_size", default=1, maximum=4),
        network_dim=32,
        network_alpha=16.0,
        unet_lr=2e-4,
        lr_scheduler="constant",
        flow_shift=3.0,
        gradient_checkpointing=True,
        precision="bf16",
    )


def _generation(multiple: int, cfg_scale: float) -> GenerationDefaults:
    return GenerationDefaults(
        sampler="UniPC",
        steps=30,
        cfg_scale=cfg_scale,
        width=832,
        height=480,
        max_side=1280,
        min_side=256,
        multiple=multiple,
        max_quantity=4,
        precision={"cpu": "bf16", "cuda": "bf16"},
    )
