"""Facts about Wan 2.2 A14B (text to video): the architecture of Wan 2.1 14B twice, one network for high
noise and one for low. Its LoRA is two files, and every step trains one of them."""

from worker.families.wan_facts import CLIPS, wan_spec

SPEC = wan_spec(
    __file__,
    CLIPS.model_copy(update={"shift": 8.0, "experts": True}),
    cfg_scale=3.5,
    name="wan22_a14b",
    title="Wan 2.2 A14B",
    base_model="Wan Video 2.2 T2V-A14B",
    modelspec_architecture="wan2.2-t2v-a14b/lora",
    modelspec_implementation="https://github.com/Wan-Video/Wan2.2",
)
