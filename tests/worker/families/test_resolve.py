import math
from typing import Any

import pytest

from app.contract.family import FamilySpec
from app.contract.jobs import TrainParams
from worker.families.catalog import specs
from worker.families.resolve import (
    ParamErrors,
    epoch_ends,
    kept_out,
    resolve_params,
    samples_seen,
    saved_epochs,
    steps_for,
)

STARTER, SD1, WAN = specs()["starter"], specs()["sd1"], specs()["wan"]


def resolve(submitted: dict[str, Any] | None = None, **frame: Any) -> TrainParams:
    values: dict[str, Any] = {"spec": STARTER, "type": "concept", "preset": "normal", "images": 15} | frame
    return resolve_params(**values, submitted=submitted or {})


def fields(submitted: dict[str, Any], **frame: Any) -> list[str]:
    with pytest.raises(ParamErrors) as caught:
        resolve(submitted, **frame)
    assert all(message.endswith(".") for _, message in caught.value.errors)
    return [field for field, _ in caught.value.errors]


@pytest.mark.parametrize(("preset", "steps"), [("quick", 240), ("normal", 600), ("best", 960)])
def test_presets_scale_the_six_hundred_steps_of_the_starter(preset: str, steps: int) -> None:
    params = resolve(preset=preset)
    assert (params.batch_size, params.repeats) == (4, 16)
    assert steps_for(params, 15) == steps
    assert samples_seen(params, 15) == steps * 4


def test_steps_follow_the_rule_of_the_api() -> None:
    params = resolve(spec=SD1)
    assert params.repeats == math.ceil(400 / 15)
    assert steps_for(params, 15) == math.ceil(15 * 27 * 10 / 4)
    params = resolve({"repeats": 3, "epochs": 7, "batch_size": 2, "gradient_accumulation": 2})
    assert steps_for(params, 15) == math.ceil(15 * 3 * 7 / 4)


def test_null_and_absent_are_the_defaults_of_the_type() -> None:
    nothing = dict.fromkeys(TrainParams.model_fields)
    for kind in ("style", "character", "concept"):
        params = resolve(nothing, type=kind)
        assert params == resolve(type=kind)
        for name, value in STARTER.by_type[kind].items():
            assert getattr(params, name) == value
    assert resolve({"seed": ""}).seed == 42


def test_a_form_s_text_is_read_as_numbers_and_switches() -> None:
    params = resolve({"network_dim": "8", "unet_lr": "2e-4", "flip": "on", "holdout": "false"})
    assert (params.network_dim, params.unet_lr, params.flip, params.holdout) == (8, 2e-4, True, False)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("network_dim", "many"), ("network_dim", 1.5), ("network_dim", True), ("network_dim", 0),
        ("network_dim", 10**9), ("unet_lr", float("nan")), ("unet_lr", float("inf")), ("unet_lr", -1),
        ("unet_lr", 0.5), ("flip", "perhaps"), ("optimizer", "magic"), ("optimizer", True),
        ("lr_scheduler", 3), ("resolution", 130), ("resolution", 8192), ("seed", -1), ("seed", [1]),
        ("learning_rate", 1), ("max_steps", 0), ("precision", "fp16"), ("keep_tokens", 1),
        ("lr_cycles", 2), ("conv_alpha", 4), ("epochs", {}),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_refused_by_name(name: str, value: Any) -> None:
    assert fields({name: value}) == [name]


def test_all_bad_fields_are_told_at_once() -> None:
    assert fields({"seed": "x", "flip": 7, "wax": 1}) == ["seed", "flip", "wax"]
    assert fields({}, type="wax", preset="slow", images=0) == ["type", "preset", "dataset"]


def test_contradictions_are_refused() -> None:
    assert fields({"unet_lr": 0}) == ["unet_lr"]
    assert fields({"max_steps": 5, "epochs": 6}) == ["epochs"]
    assert fields({"epochs": 50, "repeats": 5000}) == ["epochs"]
    assert fields({"optimizer": "prodigy", "text_encoder_lr": 0.5}) == ["text_encoder_lr"]
    with pytest.raises(ParamErrors, match="Sentences"):
        resolve_params(STARTER, "style", "normal", 4, {"shuffle_tags": True}, label_type="caption")


def test_partners_make_a_field_count() -> None:
    assert resolve({"keep_tokens": 2, "shuffle_tags": True}).keep_tokens == 2
    assert resolve({"lr_cycles": 3, "lr_scheduler": "cosine_with_restarts"}).lr_cycles == 3
    assert resolve({"conv_dim": 8, "conv_alpha": 2}).conv_alpha == 2
    assert resolve({"conv_dim": 8}).conv_alpha == 4
    assert resolve({"unet_lr": 0, "text_encoder_lr": 1e-4}).unet_lr == 0


def test_prodigy_takes_one_as_its_rate() -> None:
    assert resolve({"optimizer": "prodigy"}).unet_lr == 1.0
    assert resolve({"optimizer": "prodigy", "unet_lr": 0.5}).unet_lr == 0.5
    assert resolve({"optimizer": "prodigy", "text_encoder_lr": 1.0}).text_encoder_lr == 1.0


def test_max_steps_are_the_steps_and_epochs_the_files() -> None:
    params = resolve({"max_steps": 20}, preset="quick")
    assert (params.epochs, steps_for(params, 15), samples_seen(params, 15)) == (1, 20, 80)
    assert saved_epochs(params, 15) == {1: 20}
    params = resolve({"max_steps": 20, "epochs": 4})
    assert saved_epochs(params, 15) == {1: 5, 2: 10, 3: 15, 4: 20}
    assert resolve({"max_steps": 10_000}).epochs == 20


def test_epochs_end_where_they_should_and_the_last_is_always_saved() -> None:
    params = resolve({"repeats": 1, "epochs": 5, "batch_size": 4, "save_every_epochs": 2})
    assert epoch_ends(params, 15) == {1: 4, 2: 8, 3: 12, 4: 16, 5: 19}
    assert saved_epochs(params, 15) == {2: 8, 4: 16, 5: 19}
    few = resolve({"repeats": 1, "epochs": 6, "batch_size": 4}, images=1)
    assert epoch_ends(few, 1) == {3: 1, 6: 2}


def test_one_in_eight_is_kept_out_by_its_hash() -> None:
    hashes = [f"{number:064x}" for number in range(17, 0, -1)]
    assert kept_out(hashes[:7]) == frozenset()
    assert len(kept_out(hashes[:8])) == len(kept_out(hashes[:15])) == 1
    assert kept_out(hashes) == kept_out(hashes[::-1]) == {f"{1:064x}", f"{2:064x}"}


@pytest.mark.parametrize("spec", [spec for spec in specs().values() if spec.clips], ids=lambda s: s.name)
def test_defaults_of_families_of_clips(spec: FamilySpec) -> None:
    params = resolve(dict.fromkeys(TrainParams.model_fields), spec=spec)
    assert spec.clips
    assert params.clip_frames == spec.clips.window
    assert (params.min_snr_gamma, params.noise_offset, params.text_encoder_lr) == (0, 0, 0)
    assert (params.clip_skip, params.conv_dim) == (1, None)
    assert resolve({"text_encoder_lr": 0, "clip_skip": 1}, spec=spec) == params


@pytest.mark.parametrize(
    ("submitted", "field"),
    [
        ({"clip_skip": 2}, "clip_skip"), ({"min_snr_gamma": 5}, "min_snr_gamma"),
        ({"noise_offset": 0.1}, "noise_offset"), ({"text_encoder_lr": 1e-4}, "text_encoder_lr"),
        ({"conv_dim": 4}, "conv_dim"), ({"clip_frames": 32}, "clip_frames"),
        ({"clip_frames": 85}, "clip_frames"),
        ({"clip_frames": 0}, "clip_frames"), ({"clip_windows": "middle"}, "clip_windows"),
        ({"clip_windows": "head", "clip_count": 2}, "clip_count"), ({"clip_stride": 4}, "clip_stride"),
        ({"clip_windows": "full", "clip_frames": 17}, "clip_frames"), ({"flow_shift": 0}, "flow_shift"),
        ({"timestep_density": "normal"}, "timestep_density"),
    ],
)  # fmt: skip
def test_settings_that_clips_cannot_be_trained_with(submitted: dict[str, Any], field: str) -> None:
    assert fields(submitted, spec=WAN) == [field]


def test_settings_of_clips_are_refused_for_pictures() -> None:
    given = {"clip_frames": 5, "flow_shift": 3, "timestep_density": "logit_normal", "clip_windows": "head"}
    assert fields(given) == list(given)


def test_ways_of_cutting_take_their_own_figures() -> None:
    assert resolve({"clip_windows": "sliding", "clip_stride": 8}, spec=WAN).clip_stride == 8
    assert resolve({"clip_count": 9, "clip_frames": "17"}, spec=WAN).clip_frames == 17
    assert resolve({"clip_windows": "full"}, spec=WAN).clip_windows == "full"


def test_resolved_settings_of_clips_can_be_submitted_again() -> None:
    for mode in ("head", "uniform", "chunks", "sliding", "full"):
        first = resolve({"clip_windows": mode}, spec=WAN)
        assert resolve(first.model_dump(), spec=WAN) == first
