"""From what a person submitted to complete training settings, and the arithmetic of steps.

Torch-free: the web process calls it before a job exists. Nothing is ignored: a submitted value
ends up in `TrainParams` or is refused with its field's name and a sentence that says what to do.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from pydantic import TypeAdapter, ValidationError

from app.contract.clips import legal_length
from app.contract.family import FamilySpec, ParamLimits
from app.contract.jobs import PRESETS, TRAINING_TYPES, TrainParams
from worker.families.params import UNUSED

PRESET_FACTOR = {"quick": 0.4, "normal": 1.0, "best": 1.6}
"""How a preset scales the epochs, and so the steps, of a family's default run."""
MAX_STEPS = 10_000
MAX_EPOCHS_FROM_STEPS = 20
HOLDOUT_FROM = 8


class FieldError(NamedTuple):
    field: str
    message: str


class ParamErrors(ValueError):
    """Settings that cannot be trained with. `errors` holds one entry for each bad field."""

    def __init__(self, errors: Sequence[FieldError]) -> None:
        super().__init__("; ".join(f"{field}: {message}" for field, message in errors))
        self.errors = list(errors)


def resolve_params(
    spec: FamilySpec, type: str, preset: str, images: int, submitted: Mapping[str, Any], *,
    label_type: str = "tag",
) -> TrainParams:  # fmt: skip
    """Settings for `images` pictures: submitted values over the type's and the family's defaults.

    None or an empty string counts as not submitted. Raises ParamErrors with every bad field at once.
    """
    _check_frame(type, preset, images)
    values, errors = _parse(spec, submitted)
    given = set(values)
    values = _defaults(spec, type) | values
    _fill_rates(values, given)
    if values["conv_dim"] is not None and values["conv_alpha"] is None:
        values["conv_alpha"] = values["conv_dim"] / 2
    errors += _contradictions(values, given, label_type)
    errors += _clip_contradictions(spec, values, given)
    if errors:
        raise ParamErrors(errors)
    _fill_length(spec, values, given, images, PRESET_FACTOR[preset])
    params = TrainParams(**values)
    if steps_for(params, images) > MAX_STEPS:
        steps = steps_for(params, images)
        message = f"That makes {steps} steps; {MAX_STEPS} is the most. Lower epochs or repeats."
        raise ParamErrors([FieldError("epochs", message)])
    return params


def steps_for(params: TrainParams, images: int) -> int:
    """Optimizer steps of a run over `images` pictures, kept-out ones included."""
    if params.max_steps is not None:
        return params.max_steps
    return math.ceil(images * params.repeats * params.epochs / _batch(params))


def samples_seen(params: TrainParams, images: int) -> int:
    """How many pictures, counted with repetition, the run shows to the model."""
    if params.max_steps is not None:
        return params.max_steps * _batch(params)
    return images * params.repeats * params.epochs


def epoch_ends(params: TrainParams, images: int) -> dict[int, int]:
    """Last step of each epoch that adds one: {epoch: step}, both from 1. The last epoch is always there."""
    steps = steps_for(params, images)
    ends = {math.ceil(epoch * steps / params.epochs): epoch for epoch in range(1, params.epochs + 1)}
    return {epoch: step for step, epoch in ends.items()}


def saved_epochs(params: TrainParams, images: int) -> dict[int, int]:
    """Those of `epoch_ends` that become a checkpoint: every n-th, and always the last."""
    ends = epoch_ends(params, images)
    return {e: s for e, s in ends.items() if e % params.save_every_epochs == 0 or e == params.epochs}


def kept_out(hashes: Collection[str]) -> frozenset[str]:
    """Which pictures stay out of training to measure over-fitting: one in eight, by their sha256.

    The choice depends on the pictures alone, so that it is the same in the form and in the run.
    """
    if len(hashes) < HOLDOUT_FROM:
        return frozenset()
    return frozenset(sorted(hashes)[: len(hashes) // HOLDOUT_FROM])


def _batch(params: TrainParams) -> int:
    return params.batch_size * params.gradient_accumulation


def _check_frame(type: str, preset: str, images: int) -> None:
    errors = []
    if type not in TRAINING_TYPES:
        errors.append(FieldError("type", f"Choose one of {', '.join(TRAINING_TYPES)}."))
    if preset not in PRESETS:
        errors.append(FieldError("preset", f"Choose one of {', '.join(PRESETS)}."))
    if images < 1:
        errors.append(FieldError("dataset", "The set has no pictures. Add at least one."))
    if errors:
        raise ParamErrors(errors)


def _parse(spec: FamilySpec, submitted: Mapping[str, Any]) -> tuple[dict[str, Any], list[FieldError]]:
    values: dict[str, Any] = {}
    errors: list[FieldError] = []
    unused = UNUSED[spec.clips is not None]
    for name, raw in submitted.items():
        asked = raw is not None and raw != ""
        if name not in spec.params and not (name in unused and (not asked or raw == unused[name])):
            errors.append(FieldError(name, f"{spec.title} has no setting of this name."))
        elif asked and name in spec.params:
            value, problem = _value(name, raw, spec.params[name])
            if problem:
                errors.append(FieldError(name, problem))
            else:
                values[name] = value
    return values, errors


def _value(name: str, raw: Any, limits: ParamLimits) -> tuple[Any, str | None]:
    """The value in its field's type, or a sentence that says what is wrong with it."""
    annotation: Any = TrainParams.model_fields[name].annotation
    wants_switch = isinstance(limits.default, bool)
    if isinstance(raw, bool) and not wants_switch:
        return None, "Give a number." if not limits.choices else f"Choose one of {', '.join(limits.choices)}."
    try:
        value = TypeAdapter(annotation).validate_python(raw)
    except ValidationError:
        return None, _wanted(limits, whole=annotation in (int, int | None), switch=wants_switch)
    if limits.choices and value not in limits.choices:
        return None, f"Choose one of {', '.join(limits.choices)}."
    if limits.minimum is not None and not value >= limits.minimum:
        return None, f"Give at least {limits.minimum:g}."
    if limits.maximum is not None and not value <= limits.maximum:
        return None, f"Give at most {limits.maximum:.10g}."
    if name == "resolution" and limits.step and value % limits.step:
        return None, f"Give a multiple of {limits.step:g}."
    return value, None


def _wanted(limits: ParamLimits, *, whole: bool, switch: bool) -> str:
    if limits.choices:
        return f"Choose one of {', '.join(limits.choices)}."
    if switch:
        return "Give true or false."
    return "Give a whole number." if whole else "Give a number."


def _defaults(spec: FamilySpec, type: str) -> dict[str, Any]:
    values: dict[str, Any] = dict(UNUSED[spec.clips is not None])
    values |= {name: limits.default for name, limits in spec.params.items()}
    return values | spec.by_type.get(type, {})


def _fill_rates(values: dict[str, Any], given: set[str]) -> None:
    """Prodigy estimates the rate itself and takes 1.0 for all it trains."""
    if values["optimizer"] != "prodigy":
        return
    if "unet_lr" not in given:
        values["unet_lr"] = 1.0
    if "text_encoder_lr" not in given and values["text_encoder_lr"]:
        values["text_encoder_lr"] = values["unet_lr"]


def _fill_length(
    spec: FamilySpec, values: dict[str, Any], given: set[str], images: int, factor: float
) -> None:
    if values["repeats"] is None:
        values["repeats"] = min(5000, math.ceil(spec.step_target / images))
    if "epochs" in given:
        return
    epochs = max(1, round(values["epochs"] * factor))
    if values["max_steps"] is not None:
        seen = values["max_steps"] * values["batch_size"] * values["gradient_accumulation"]
        passes = math.ceil(seen / (images * values["repeats"]))
        epochs = min(passes, MAX_EPOCHS_FROM_STEPS)
    values["epochs"] = epochs


def _contradictions(values: dict[str, Any], given: set[str], label_type: str) -> list[FieldError]:
    """Values that would have no effect, or that the chosen parts cannot work with."""
    errors: list[FieldError] = []

    def refuse(field: str, message: str) -> None:
        errors.append(FieldError(field, message))

    if values["keep_tokens"] and not values["shuffle_tags"]:
        refuse("keep_tokens", "Has an effect only with shuffle_tags. Switch that on, or set this to 0.")
    if values["shuffle_tags"] and label_type != "tag":
        refuse("shuffle_tags", "Sentences cannot be shuffled. Switch it off, or label with tags.")
    if values["lr_cycles"] > 1 and values["lr_scheduler"] != "cosine_with_restarts":
        refuse("lr_cycles", "Has an effect only with cosine_with_restarts. Choose that, or set this to 1.")
    if values["conv_alpha"] is not None and values["conv_dim"] is None:
        refuse("conv_alpha", "Has an effect only with conv_dim. Give that too, or leave this empty.")
    _rate_contradictions(values, refuse)
    if values["max_steps"] is not None and "epochs" in given and values["epochs"] > values["max_steps"]:
        refuse("epochs", "There are fewer steps than epochs. Lower epochs or raise max_steps.")
    return errors


def _clip_contradictions(spec: FamilySpec, values: dict[str, Any], given: set[str]) -> list[FieldError]:
    """Lengths that the family cannot take, and figures that the way of cutting does not look at."""
    if spec.clips is None:
        return []
    errors = []
    mode, length, rule = values["clip_windows"], values["clip_frames"], spec.clips.rule
    if length != legal_length(length, rule):
        words = f"Give a multiple of {rule.step} and 1: {legal_length(length, rule)}, for example."
        errors.append(FieldError("clip_frames", words))
    for name, used in (
        ("clip_count", mode == "uniform"),
        ("clip_stride", mode == "sliding"),
        ("clip_frames", mode != "full"),
    ):
        # Defaults come back with the settings that a finished training names.
        if name in given and not used and values[name] != spec.params[name].default:
            words = f"Has no effect with clip_windows {mode}. Choose another way of cutting, or leave it out."
            errors.append(FieldError(name, words))
    return errors


def _rate_contradictions(values: dict[str, Any], refuse: Any) -> None:
    unet, text = values["unet_lr"], values["text_encoder_lr"]
    if not unet and not text:
        refuse("unet_lr", "With both rates at 0 nothing would be trained. Raise one of them.")
    if values["optimizer"] == "prodigy":
        if unet and text and unet != text:
            refuse("text_encoder_lr", "Prodigy uses one rate for all parts. Give the same as unet_lr, or 0.")
        return
    for field, rate in (("unet_lr", unet), ("text_encoder_lr", text)):
        if rate >= 0.1:
            refuse(field, "Rates of 0.1 and more work with Prodigy only. Give less than 0.1.")
