"""Facts about Wan 2.1 14B (text to video): what its smaller sister knows, with ten times the numbers."""

from worker.families.wan_facts import CLIPS, wan_spec

SPEC = wan_spec(
    __file__,
    CLIPS,
    name="wan_14b",
    title="Wan 2.1 14B",
    base_model="Wan Video 14B t2v",
    modelspec_architecture="wan2.1/lora",
    modelspec_implementation="https://github.com/Wan-Video/Wan2.1",
)
