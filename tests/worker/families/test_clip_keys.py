"""LoRA files of video transformers: as diffusers reads ours, and in any spelling on the way back."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers import LTXPipeline, LTXVideoTransformer3DModel, WanPipeline, WanTransformer3DModel
from torch import Tensor

from worker.families import catalog
from worker.families.clip_latents import block_targets

Tensors = dict[str, Tensor]
WAN_LAYERS = {
    "attn1.to_q": "self_attn.q", "attn1.to_k": "self_attn.k", "attn1.to_v": "self_attn.v",
    "attn1.to_out.0": "self_attn.o", "attn2.to_q": "cross_attn.q", "attn2.to_k": "cross_attn.k",
    "attn2.to_v": "cross_attn.v", "attn2.to_out.0": "cross_attn.o", "ffn.net.0.proj": "ffn.0",
    "ffn.net.2": "ffn.2",
}  # fmt: skip
"""diffusers' names → those of the published files, written from the format's description."""


class Layers:
    """A family's adapted layers at true depth, with an adapter of rank 2 and alpha 1."""

    def __init__(self, name: str) -> None:
        self.family: Any = catalog.load(name)
        self.ltx = name == "ltx"
        with torch.device("meta"):
            model = LTXVideoTransformer3DModel() if self.ltx else WanTransformer3DModel(num_layers=30)
        self.modules = [
            f"model.{path}" for path in block_targets(model, "transformer_blocks" if self.ltx else "blocks")
        ]
        self.state: Tensors = {}
        for number, module in enumerate(self.modules):
            self.state[f"{module}.lora_down.weight"] = torch.full((2, 3), number + 1.0)
            self.state[f"{module}.lora_up.weight"] = torch.full((3, 2), -number - 1.0)
            self.state[f"{module}.alpha"] = torch.tensor(1.0)

    def original(self, module: str) -> str:
        path = module.removeprefix("model.")
        if self.ltx:
            return path
        _, number, layer = path.split(".", 2)
        return f"blocks.{number}.{WAN_LAYERS[layer]}"

    def written(self, name: Callable[[str], str], ends: tuple[str, str], *, alpha: bool) -> Tensors:
        tensors: Tensors = {}
        for module in self.modules:
            tensors[name(module) + ends[0]] = self.state[f"{module}.lora_down.weight"]
            tensors[name(module) + ends[1]] = self.state[f"{module}.lora_up.weight"]
            if alpha:
                tensors[f"{name(module)}.alpha"] = self.state[f"{module}.alpha"]
        return tensors


@pytest.fixture(scope="module", params=["wan", "ltx"])
def layers(request: pytest.FixtureRequest) -> Layers:
    return Layers(request.param)


def products(tensors: Tensors) -> Tensors:
    """Up times down, alphas in, of a state with our names."""
    modules = {name.rsplit(".lora_", 1)[0] for name in tensors if ".lora_" in name}
    return {
        m: tensors[f"{m}.lora_up.weight"] @ tensors[f"{m}.lora_down.weight"] * (tensors[f"{m}.alpha"] / 2)
        for m in modules
    }


def equal(found: Tensors, expected: Tensors) -> bool:
    return found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in found)


def test_every_layer_of_a_block_has_its_published_name(layers: Layers) -> None:
    assert len(layers.modules) == 10 * (28 if layers.ltx else 30)
    written = layers.family.export_keys(layers.state)
    ends = (".lora_A.weight", ".lora_B.weight")
    names = {f"diffusion_model.{layers.original(module)}{end}" for module in layers.modules for end in ends}
    assert written.keys() == names


def test_diffusers_takes_every_tensor_of_our_file(layers: Layers) -> None:
    written = layers.family.export_keys(layers.state)
    pipeline = LTXPipeline if layers.ltx else WanPipeline
    read = pipeline.lora_state_dict(dict(written))
    for module in layers.modules:
        path = module.replace("model.", "transformer.", 1)
        product = read.pop(f"{path}.lora_B.weight") @ read.pop(f"{path}.lora_A.weight")
        assert torch.equal(product, products(layers.state)[module])
    assert read == {}


@pytest.mark.parametrize("spelling", ["musubi", "comfy", "diffusers", "wrapped"])
def test_any_spelling_comes_back_with_its_alphas(spelling: str, layers: Layers) -> None:
    def name(module: str) -> str:
        original, path = layers.original(module), module.removeprefix("model.")
        return {
            "musubi": f"lora_unet_{original}".replace(".", "_"),
            "comfy": f"diffusion_model.{original}",
            "diffusers": f"transformer.{path}",
            "wrapped": f"base_model.model.{path}",
        }[spelling]

    tensors = layers.written(name, (".lora_down.weight", ".lora_up.weight"), alpha=True)
    assert equal(layers.family.import_keys(tensors, layers.modules, {}), layers.state)


def test_what_we_export_comes_back_with_the_alpha_that_metadata_names(layers: Layers) -> None:
    exported = layers.family.export_keys(layers.state)
    back = layers.family.import_keys(exported, layers.modules, {"ss_network_alpha": "1.0"})
    assert equal(back, layers.state)
    silent = layers.family.import_keys(exported, layers.modules, {})
    assert {float(tensor) for name, tensor in silent.items() if name.endswith(".alpha")} == {2.0}
    for found in (products(silent), products(back)):
        assert equal(found, products(layers.state))


@pytest.mark.parametrize("said", ["", "None", "nan", "-1", "inf", "0"])
def test_an_alpha_that_is_none_is_not_believed(said: str, layers: Layers) -> None:
    exported = layers.family.export_keys(layers.state)
    found = layers.family.import_keys(exported, layers.modules, {"ss_network_alpha": said})
    assert equal(products(found), products(layers.state))


def test_other_layers_are_refused(layers: Layers) -> None:
    exported = layers.family.export_keys(layers.state)
    short = dict(list(exported.items())[:-1])
    foreign = exported | {"diffusion_model.blocks.0.cross_attn.k_img.lora_A.weight": torch.ones(2, 3)}
    for wrong in (short, foreign, {}):
        with pytest.raises(ValueError, match="other layers than this training"):
            layers.family.import_keys(wrong, layers.modules, {})
