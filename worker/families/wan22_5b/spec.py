"""Facts about Wan 2.2 5B (text or a picture to video): 24 frames a second, and an autoencoder of its own with
48 channels that shrinks sides to a sixteenth."""

from app.contract.family import ClipDefaults, ClipRule
from worker.families.wan_facts import wan_spec

SPEC = wan_spec(
    __file__,
    ClipDefaults(
        rule=ClipRule(fps=24),
        window=49,
        max_window=121,
        length=73,
        max_length=121,
        shift=5.0,
        first_frame=True,
    ),
    multiple=32,
    name="wan22_5b",
    title="Wan 2.2 5B",
    base_model="Wan Video 2.2 TI2V-5B",
    modelspec_architecture="wan2.2-ti2v-5b/lora",
    modelspec_implementation="https://github.com/Wan-Video/Wan2.2",
)
