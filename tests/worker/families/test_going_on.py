"""A training goes on from a LoRA in any spelling; the names are those of true models."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.worker.families.single import empty_models, layout_of, single_file, true_modules
from worker.families import catalog

Tensors = dict[str, Tensor]
KOHYA, PEFT = (".lora_down.weight", ".lora_up.weight"), (".lora_A.weight", ".lora_B.weight")


class Names:
    """A family's adapted modules, and what they are called elsewhere."""

    def __init__(self, family: str) -> None:
        self.sdxl = family == "sdxl"
        self.family: Any = catalog.load(family)
        models = empty_models(layout_of(family))
        self.modules = true_modules(family, models)
        self.files = single_file(family, models)
        self.state: Tensors = {}
        for number, module in enumerate(self.modules):
            self.state[f"{module}.lora_down.weight"] = torch.full((2, 3), float(number))
            self.state[f"{module}.lora_up.weight"] = torch.full((3, 2), -float(number))
            self.state[f"{module}.alpha"] = torch.tensor(4.0)

    def text(self, module: str, first: str, second: str) -> str:
        part, _, path = module.partition(".")
        return f"{second if part == 'text_encoder_2' else first}text_model.{path.removeprefix('text_model.')}"

    def kohya(self, module: str) -> str:
        unet = f"lora_unet_{module.removeprefix('model.')}"
        first = "lora_te1_" if self.sdxl else "lora_te_"
        return (unet if module.startswith("model.") else self.text(module, first, "lora_te2_")).replace(
            ".", "_"
        )

    def kohya_te1(self, module: str) -> str:
        return self.kohya(module).replace("lora_te_", "lora_te1_")

    def sgm(self, module: str) -> str:
        named = f"lora_unet_{self.files[module]}".replace(".", "_") if module in self.files else ""
        return named or self.kohya(module)

    def dotted(self, module: str) -> str:
        unet = f"unet.{module.removeprefix('model.')}"
        return unet if module.startswith("model.") else self.text(module, "text_encoder.", "text_encoder_2.")

    def wrapped(self, module: str) -> str:
        return f"base_model.model.{self.dotted(module)}"

    def one_trainer(self, module: str) -> str:
        unet = f"lora_unet.{module.removeprefix('model.')}"
        first = "lora_te1." if self.sdxl else "lora_te."
        return unet if module.startswith("model.") else self.text(module, first, "lora_te2.")

    def omi(self, module: str) -> str:
        return (
            f"unet.{self.files[module]}" if module in self.files else self.text(module, "clip_l.", "clip_g.")
        )

    def written(self, name: Callable[[str], str], ends: tuple[str, str], *, alpha: bool) -> Tensors:
        tensors: Tensors = {}
        for module in self.modules:
            tensors[name(module) + ends[0]] = self.state[f"{module}.lora_down.weight"]
            tensors[name(module) + ends[1]] = self.state[f"{module}.lora_up.weight"]
            if alpha:
                tensors[f"{name(module)}.alpha"] = self.state[f"{module}.alpha"]
        return tensors


@pytest.fixture(scope="module", params=["sd1", "sdxl"])
def names(request: pytest.FixtureRequest) -> Names:
    return Names(request.param)


def equal(found: Tensors, expected: Tensors) -> bool:
    return found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in found)


@pytest.mark.parametrize("spelling", ["kohya", "kohya_te1", "sgm", "one_trainer", "omi"])
def test_any_spelling_comes_back_with_its_alphas(spelling: str, names: Names) -> None:
    tensors = names.written(getattr(names, spelling), KOHYA, alpha=True)
    assert len(tensors) == len(names.state)
    assert equal(names.family.import_keys(tensors, names.modules, {}), names.state)


@pytest.mark.parametrize("spelling", ["dotted", "wrapped"])
@pytest.mark.parametrize("said", [None, 8.0])
def test_alphas_that_peft_keeps_elsewhere(spelling: str, said: float | None, names: Names) -> None:
    tensors = names.written(getattr(names, spelling), PEFT, alpha=False)
    parts = ("unet", "text_encoder", "text_encoder_2")
    header = {"lora_adapter_metadata": json.dumps({f"{part}.lora_alpha": said for part in parts})}
    alpha = torch.tensor(said or 2.0)  # with none, the change is the product itself: alpha is the rank
    expected = {n: alpha if n.endswith(".alpha") else tensor for n, tensor in names.state.items()}
    found = names.family.import_keys(tensors, names.modules, header if said else {})
    assert equal(found, expected)


def test_what_we_export_comes_back(names: Names) -> None:
    exported = names.family.export_keys(names.state)
    assert equal(names.family.import_keys(exported, names.modules, {}), names.state)


@pytest.mark.parametrize(
    "change",
    [
        lambda tensors: tensors | {"lora_unet_nowhere.lora_up.weight": torch.ones(1)},
        lambda tensors: tensors | {"emphasis": torch.ones(1)},
        lambda tensors: tensors | {"lora_unet_conv_in.dora_scale": torch.ones(1)},
        lambda tensors: dict(list(tensors.items())[:-1]),
        lambda tensors: tensors | {"unet.mid_block.attentions.0.proj_in.lora_A.weight": torch.ones(2, 3)},
    ],
)
def test_other_layers_are_refused(change: Callable[[Tensors], Tensors], names: Names) -> None:
    tensors = names.written(names.sgm, KOHYA, alpha=False)
    with pytest.raises(ValueError, match="other layers than this training"):
        names.family.import_keys(change(tensors), names.modules, {})
