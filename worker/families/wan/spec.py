"""Facts about Wan 2.1 1.3B (text to video)."""

from worker.families.wan_facts import WAN_2_1, wan_spec

SPEC = wan_spec(
    __file__,
    name="wan",
    title="Wan 2.1 1.3B",
    base_model="Wan Video 1.3B t2v",
    **WAN_2_1,
)
