"""Facts about Wan 2.1 1.3B (text to video)."""

from worker.families.wan_facts import CLIPS, wan_spec

SPEC = wan_spec(
    __file__,
    CLIPS,
    name="wan",
    title="Wan 2.1 1.3B",
    base_model="Wan Video 1.3B t2v",
    modelspec_architecture="wan2.1/lora",
    modelspec_implementation="https://github.com/Wan-Video/Wan2.1",
)
