"""The samplers of the generator by the names that people know, free of torch: forms, REST and worker read it.

Sampler and schedule (how the noise levels are spaced) are two fields, as A1111 has them since 1.9.
The old joined names ("DPM++ 2M Karras") are still what Civitai writes, so they are taken everywhere.
Families that predict a flow have samplers of their own: what a name means there differs.
"""

from app.contract.family import Frozen

AUTOMATIC = "Automatic"
NORMAL = "Normal"
"""The model's own noise levels."""
SCHEDULES = (AUTOMATIC, "Karras", "Exponential", "SGM Uniform", "Simple", "Beta", NORMAL)
SUFFIXES = ("Karras", "Exponential", "Beta")
"""Schedules that joined names end with."""


class SamplerSpec(Frozen):
    """One sampler. `automatic` is the schedule that `Automatic` means for it."""

    name: str
    automatic: str = NORMAL
    schedules: tuple[str, ...] = SCHEDULES
    usual: bool = False
    """Shown first; the others stand under "More"."""
    twice: bool = False
    """Asks the model twice a step, the last one apart."""
    flow: bool = False
    """Draws clips too: with models that predict a flow."""
    help: str = ""


PLAIN = (AUTOMATIC, NORMAL, "SGM Uniform", "Simple")
"""Of samplers that know no other noise levels than the model's own."""
OWN = (AUTOMATIC, NORMAL)
"""Of samplers that know no other spacing either."""

_TABLE = (
    SamplerSpec(name="Euler a", schedules=PLAIN, usual=True, help="Fast; more steps change the picture."),
    SamplerSpec(name="Euler", usual=True, flow=True),
    SamplerSpec(name="DPM++ 2M", automatic="Karras", usual=True, flow=True, help="The usual choice."),
    SamplerSpec(name="DPM++ 2M SDE", automatic="Exponential", usual=True),
    SamplerSpec(name="DPM++ SDE", automatic="Karras", usual=True, twice=True),
    SamplerSpec(name="Heun", twice=True, usual=True),
    SamplerSpec(name="UniPC", usual=True, flow=True),
    SamplerSpec(name="DDIM", schedules=PLAIN, usual=True),
    SamplerSpec(name="LCM", schedules=OWN, usual=True, help="For LCM LoRAs: CFG 1-2, 4-8 steps."),
    SamplerSpec(name="LMS"),
    SamplerSpec(name="DPM2", automatic="Karras", twice=True),
    SamplerSpec(name="DPM2 a", automatic="Karras", twice=True),
    SamplerSpec(
        name="DPM++ 2S a",
        automatic="Karras",
        schedules=(AUTOMATIC, "Karras", "Exponential", "Beta", NORMAL),
        help="The nearest method that there is here.",
    ),
    SamplerSpec(name="DPM++ 2M SDE Heun", automatic="Exponential"),
    SamplerSpec(name="DPM++ 3M SDE", automatic="Exponential"),
    SamplerSpec(name="DEIS"),
    SamplerSpec(name="PLMS", schedules=PLAIN, help="Old; wants 30 steps or more."),
    SamplerSpec(name="TCD", schedules=OWN, help="For TCD models and LoRAs."),
)
SAMPLERS = {sampler.name: sampler for sampler in _TABLE}
FLOW_SAMPLERS = {
    sampler.name: sampler.model_copy(update={"automatic": NORMAL, "schedules": OWN, "help": ""})
    for sampler in _TABLE
    if sampler.flow
}
"""For models of clips. Their noise levels are spaced by `shift` alone."""


def split_sampler(name: str, schedule: str = AUTOMATIC) -> tuple[str, str]:
    """A plain or joined name → (sampler, schedule); a schedule that is said wins over a joined one.

    Nothing is checked: unknown names come back as they are.
    """
    for suffix in SUFFIXES:
        if name not in SAMPLERS and name.endswith(f" {suffix}"):
            return name.removesuffix(f" {suffix}"), suffix if schedule == AUTOMATIC else schedule
    return name, schedule


def resolve_schedule(name: str, schedule: str) -> str:
    """What a schedule means for this sampler: never `Automatic`. Errors: KeyError for an unknown sampler."""
    return SAMPLERS[name].automatic if schedule == AUTOMATIC else schedule


def joined_name(name: str, schedule: str) -> str:
    """As Civitai and old A1111 write it: "DPM++ 2M" and "Karras" → "DPM++ 2M Karras"."""
    resolved = resolve_schedule(name, schedule) if name in SAMPLERS else schedule
    return f"{name} {resolved}" if resolved in SUFFIXES else name


def model_calls(name: str, steps: int) -> int:
    """How often the model is asked for so many steps. Errors: KeyError for an unknown sampler."""
    name, _ = split_sampler(name)
    if name == "PLMS":
        return steps + 1 if steps > 1 else steps
    return max(0, 2 * steps - 1) if SAMPLERS[name].twice else steps
