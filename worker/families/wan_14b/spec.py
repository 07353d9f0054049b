"""Facts about Wan 2.1 14B (text to video): what its smaller sister knows, with ten times the numbers."""

from worker.families.wan_facts import WAN_2_1, wan_spec

SPEC = wan_spec(
    __file__,
    name="wan_14b",
    title="Wan 2.1 14B",
    base_model="Wan Video 14B t2v",
    **WAN_2_1,
)
