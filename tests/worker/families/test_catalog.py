import subprocess
import sys

import pytest

from app.contract.clips import legal_length
from app.contract.family import FamilySpec
from app.contract.jobs import TRAINING_TYPES, TrainParams
from app.contract.samplers import SAMPLERS, split_sampler
from worker.families import catalog
from worker.families.params import UNUSED, clip_params, image_params, limited


def test_families_are_found_by_their_folders() -> None:
    assert {"starter", "sd1"} <= set(catalog.specs())


def test_the_starter_never_passes_for_stable_diffusion() -> None:
    spec = catalog.specs()["starter"]
    names = (spec.base_model, spec.air, spec.ss_base_model_version, spec.modelspec_architecture)
    assert names == ("Starter 1", "starter1", "bottega_starter_1", "bottega-starter-1/lora")


@pytest.mark.parametrize("spec", catalog.specs().values(), ids=lambda spec: spec.name)
def test_a_spec_describes_every_setting(spec: FamilySpec) -> None:
    unused = UNUSED[spec.clips is not None]
    assert not unused.keys() & spec.params.keys()
    assert unused.keys() | spec.params.keys() == TrainParams.model_fields.keys()
    assert set(spec.by_type) <= set(TRAINING_TYPES)
    for name, limits in spec.params.items():
        assert limits.label, name
        assert limits.help.endswith("."), name
        number = isinstance(limits.default, float | int) and not isinstance(limits.default, bool)
        if number:
            assert limits.minimum is not None, name
            assert limits.maximum is not None, name
            assert limits.minimum <= float(limits.default or 0) <= limits.maximum, name
        if limits.default is None:
            assert limits.nullable, name
    assert split_sampler(spec.generation.sampler)[0] in SAMPLERS
    assert {aspect.name for aspect in spec.aspects} == {"square", "portrait", "landscape"}
    for aspect in spec.aspects:
        assert aspect.width % spec.generation.multiple == aspect.height % spec.generation.multiple == 0


@pytest.mark.parametrize("spec", [s for s in catalog.specs().values() if s.clips], ids=lambda spec: spec.name)
def test_lengths_of_a_family_of_clips_are_legal(spec: FamilySpec) -> None:
    clips = spec.clips
    assert clips
    assert spec.media == ("image", "video")
    for length in (clips.window, clips.max_window, clips.length, clips.max_length):
        assert legal_length(length, clips.rule) == length
    assert clips.window <= clips.max_window
    assert clips.length <= clips.max_length
    for aspect in spec.aspects:
        assert aspect.width % spec.bucket_multiple == aspect.height % spec.bucket_multiple == 0


def test_specs_and_settings_need_no_torch() -> None:
    code = (
        "import sys; from worker.families.catalog import specs; import worker.families.resolve; specs();"
        "sys.exit(any(name in sys.modules for name in ('torch', 'diffusers', 'transformers', 'peft')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_unknown_family_is_named() -> None:
    with pytest.raises(catalog.UnknownFamily, match="wax"):
        catalog.load("wax")


def test_rows_are_changed_by_value_or_replaced() -> None:
    rows = image_params(unet_lr=0.5, clip_skip=limited("clip_skip", maximum=2))
    assert (rows["unet_lr"].default, rows["unet_lr"].maximum) == (0.5, 1)
    assert (rows["clip_skip"].default, rows["clip_skip"].maximum) == (1, 2)
    with pytest.raises(KeyError):
        image_params(colour=1)


def test_rows_of_clips_are_in_the_order_of_the_form() -> None:
    clips = catalog.specs()["wan"].clips
    assert clips
    rows = list(clip_params(clips, flow_shift=3.0))
    assert rows[rows.index("clip_frames") - 1] == "gradient_accumulation"
    assert rows[-2:] == ["flow_shift", "timestep_density"]
    with pytest.raises(KeyError):
        clip_params(clips, clip_skip=2)
