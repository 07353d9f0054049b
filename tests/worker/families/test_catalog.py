import subprocess
import sys

import pytest

from app.contract.family import FamilySpec
from app.contract.jobs import TRAINING_TYPES, TrainParams
from app.contract.samplers import SAMPLERS, split_sampler
from worker.families import catalog
from worker.families.params import image_params, limited


def test_families_are_found_by_their_folders() -> None:
    assert {"starter", "sd1"} <= set(catalog.specs())


def test_the_starter_never_passes_for_stable_diffusion() -> None:
    spec = catalog.specs()["starter"]
    names = (spec.base_model, spec.air, spec.ss_base_model_version, spec.modelspec_architecture)
    assert names == ("Starter 1", "starter1", "bottega_starter_1", "bottega-starter-1/lora")


@pytest.mark.parametrize("spec", catalog.specs().values(), ids=lambda spec: spec.name)
def test_a_spec_describes_every_setting(spec: FamilySpec) -> None:
    assert set(spec.params) == set(TrainParams.model_fields)
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
