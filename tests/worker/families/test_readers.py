"""Our LoRA files in other programs: diffusers and PEFT themselves, ComfyUI and A1111 by their rules.

The rules are facts about those programs, written here apart from our exporter; they are held at true
size, where every name has to lead to the layer that it is meant for.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
from diffusers.utils import (
    convert_state_dict_to_diffusers,
    convert_state_dict_to_peft,
    convert_unet_state_dict_to_peft,
)
from diffusers.utils import logging as diffusers_logging
from safetensors.torch import load_file, save_file
from torch import Tensor

from app.recognition.unet_names import ARCHITECTURES
from tests.worker.families.single import empty_models, file_tensors, layout_of, single_file, true_modules
from tests.worker.tiny import tiny_base, tiny_job, tiny_pictures
from tests.worker.training.conftest import merged_deltas
from worker.draws import Draws
from worker.families import catalog
from worker.families.latent_unet import text_targets
from worker.starter import WEIGHTS
from worker.starter.unet import build_unet
from worker.training.lora import inject

CPU = torch.device("cpu")
ALPHAS = {4: 1.0, 2: 3.0}
"""By rank: convolutions have their own."""
TrueSize = tuple[str, dict[str, Any], dict[str, str]]
PARTS = {"model": "unet", "text_encoder": "text_encoder", "text_encoder_2": "text_encoder_2"}


class Exported:
    """A LoRA with convolutions, text encoders and alphas unlike the ranks, as its file and as it acts."""

    def __init__(self, family: str, folder: Path) -> None:
        self.family: Any = catalog.load(family)
        self.base = tiny_base(folder / "base", family)
        parts = self.family.load(self.base, CPU, torch.float32)
        ranks = {"network_dim": 4, "network_alpha": ALPHAS[4], "conv_dim": 2, "conv_alpha": ALPHAS[2]}
        params = tiny_job(tiny_pictures(folder, 1), text_encoder_lr=1e-3, **ranks).params
        adapter = inject(parts, self.family.lora_targets(parts), params, Draws(0))
        made = torch.Generator().manual_seed(4)
        for layer in adapter.layers.values():
            layer.lora_B["default"].weight.data.normal_(generator=made)
        self.path = folder / "ours.safetensors"
        tensors = self.family.export_keys(adapter.state())
        save_file(tensors, self.path)
        named = {self.written(module): module for module in adapter.layers}
        self.deltas = {named[stem]: delta for stem, delta in merged_deltas(tensors).items()}
        assert len(self.deltas) == len(adapter.layers)

    def written(self, module: str) -> str:
        (name,) = self.family.export_keys({f"{module}.alpha": torch.zeros(())})
        return str(name.removesuffix(".alpha"))


@pytest.fixture(scope="module", params=["sd1", "sdxl"])
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return Exported(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """What diffusers and PEFT warn of: keys that they do not expect are said there."""
    diffusers_logging.enable_propagation()
    with caplog.at_level("WARNING"):
        yield caplog
    diffusers_logging.disable_propagation()


def check(exported: Exported, found: dict[str, Tensor]) -> None:
    assert found.keys() == exported.deltas.keys()
    for module, delta in exported.deltas.items():
        np.testing.assert_allclose(found[module].numpy(), delta.numpy(), rtol=1e-4, atol=1e-5, err_msg=module)


def changes_of(part: str, model: Any) -> dict[str, Tensor]:
    """What PEFT's layers in a model add to its weights, by our modules."""
    return {
        f"{part}.{name}": layer.get_delta_weight("ours").detach().double()
        for name, layer in model.named_modules()
        if hasattr(layer, "get_delta_weight")
    }


def test_diffusers_takes_every_key(exported: Exported, said: pytest.LogCaptureFixture) -> None:
    pipe = exported.family.pipeline(exported.base, torch.float32)
    pipe.load_lora_weights(exported.path, adapter_name="ours")
    found: dict[str, Tensor] = {}
    for ours, theirs in PARTS.items():
        found |= changes_of(ours, getattr(pipe, theirs)) if hasattr(pipe, theirs) else {}
    check(exported, found)
    assert not [record.message for record in said.records if "key" in record.message.lower()]


def test_peft_takes_every_key(exported: Exported, said: pytest.LogCaptureFixture) -> None:
    """PEFT's names, as diffusers turns our file into them, in models that PEFT itself has prepared."""
    pipe = exported.family.pipeline(exported.base, torch.float32)
    state, _ = type(pipe).lora_state_dict(exported.path, unet_config=pipe.unet.config)
    assert len(state) == 2 * len(exported.deltas)
    found: dict[str, Tensor] = {}
    for ours, theirs in PARTS.items():
        own = {k.removeprefix(f"{theirs}."): t for k, t in state.items() if k.startswith(f"{theirs}.")}
        if own:
            if ours == "model":
                own = convert_unet_state_dict_to_peft(own)
            else:
                own = convert_state_dict_to_peft(convert_state_dict_to_diffusers(own))
            load_with_peft(getattr(pipe, theirs), own)
            found |= changes_of(ours, getattr(pipe, theirs))
    check(exported, found)
    assert [record.message for record in said.records if "key" in record.message] == []


def load_with_peft(model: Any, own: dict[str, Tensor]) -> None:
    if not hasattr(model, "text_model"):  # transformers 5 has it in one of its text encoders only
        own = {name.removeprefix("text_model."): tensor for name, tensor in own.items()}
    ranks = {name.removesuffix(".lora_A.weight"): len(t) for name, t in own.items() if ".lora_A." in name}
    config = peft.LoraConfig(
        target_modules=list(ranks),
        rank_pattern={f"^{re.escape(name)}": rank for name, rank in ranks.items()},
        alpha_pattern={f"^{re.escape(name)}": ALPHAS[rank] for name, rank in ranks.items()},
    )
    peft.inject_adapter_in_model(config, model, "ours")
    result = peft.set_peft_model_state_dict(model, own, "ours")
    assert result.unexpected_keys == []
    assert not [key for key in result.missing_keys if "lora" in key]


@pytest.fixture(scope="module", params=["sd1", "sdxl"])
def true_size(request: pytest.FixtureRequest) -> TrueSize:
    """The family, its models without memory, and our modules by their names in our files."""
    models = empty_models(layout_of(request.param))
    family: Any = catalog.load(request.param)
    modules = true_modules(request.param, models)
    written = family.export_keys({f"{module}.alpha": torch.zeros(()) for module in modules})
    named = dict(zip((name.removesuffix(".alpha") for name in written), modules, strict=True))
    assert len(modules) == len(named)
    attention = sum(".attentions." in name for name in modules)
    text = sum(name.startswith("text_encoder") for name in modules)
    assert (attention, text) == {"sd1": (192, 72), "sdxl": (722, 72 + 192)}[request.param]
    return request.param, models, named


def comfy_keys(family: str, modules: list[str], files: dict[str, str]) -> dict[str, str]:
    """ComfyUI's map: `lora_unet_` + the single file's name, or diffusers', flattened; text by layer."""
    table: dict[str, str] = {}
    for module in modules:
        part, _, path = module.partition(".")
        if part == "model":
            table["lora_unet_" + files[module].replace(".", "_")] = module
            table["lora_unet_" + path.replace(".", "_")] = module
            continue
        layer = path.removeprefix("text_model.").replace(".", "_")
        if part == "text_encoder":
            table[f"lora_te_text_model_{layer}"] = table[f"lora_te1_text_model_{layer}"] = module
        else:
            table[f"lora_te2_text_model_{layer}"] = module
    return table


def test_comfyui_s_map_leads_every_name_to_its_layer(true_size: TrueSize) -> None:
    family, models, named = true_size
    table = comfy_keys(family, list(named.values()), single_file(family, models))
    assert {name: table.get(name) for name in named} == named


def a1111(name: str) -> str:
    """A1111's `convert_diffusers_name_to_compvis`, and its fallbacks for names that are SGM's already."""
    block = {"attentions": 1, "resnets": 0}
    inner = {
        "conv1": "in_layers_2", "conv2": "out_layers_3", "time_emb_proj": "emb_layers_1",
        "conv_shortcut": "skip_connection",
    }  # fmt: skip
    if match := re.match(r"lora_unet_(down|up)_blocks_(\d+)_(attentions|resnets)_(\d+)_(.+)", name):
        side, number = match[1], int(match[2]) * 3 + int(match[4]) + (match[1] == "down")
        blocks = "input" if side == "down" else "output"
        return f"diffusion_model_{blocks}_blocks_{number}_{block[match[3]]}_{inner.get(match[5], match[5])}"
    if match := re.match(r"lora_unet_mid_block_(attentions|resnets)_(\d+)_(.+)", name):
        number = 1 if match[1] == "attentions" else int(match[2]) * 2
        return f"diffusion_model_middle_block_{number}_{inner.get(match[3], match[3])}"
    if match := re.match(r"lora_unet_down_blocks_(\d+)_downsamplers_0_conv", name):
        return f"diffusion_model_input_blocks_{3 + int(match[1]) * 3}_0_op"
    if match := re.match(r"lora_unet_up_blocks_(\d+)_upsamplers_0_conv", name):
        return f"diffusion_model_output_blocks_{2 + int(match[1]) * 3}_{2 if int(match[1]) > 0 else 1}_conv"
    if match := re.match(r"lora_te2_text_model_encoder_layers_(\d+)_(.+)", name):
        words = {"mlp_fc1": "mlp_c_fc", "mlp_fc2": "mlp_c_proj"}
        layer = words.get(match[2], match[2].replace("self_attn", "attn"))
        return f"1_model_transformer_resblocks_{match[1]}_{layer}"
    if name.startswith("lora_te1_text_model_"):
        return name.replace("lora_te1_text_model", "0_transformer_text_model")
    if name.startswith("lora_te_text_model_"):
        return name.replace("lora_te_text_model", "transformer_text_model")
    return name.replace("lora_unet", "diffusion_model")


def a1111_modules(family: str, models: dict[str, Any]) -> dict[str, str]:
    """What A1111 calls the layers of a loaded checkpoint → our modules."""
    found = {f"diffusion_model_{n.replace('.', '_')}": m for m, n in single_file(family, models).items()}
    first = "0_" if family == "sdxl" else ""
    for part in ("text_encoder", "text_encoder_2"):
        for name in text_targets(models[part]) if part in models else ():
            path = name.removeprefix("text_model.")
            if part == "text_encoder":
                theirs = f"{first}transformer_text_model_{path}"
            else:
                theirs = "1_model_transformer_resblocks_" + path.removeprefix("encoder.layers.")
                for ours, other in (
                    ("self_attn", "attn"),
                    ("mlp.fc1", "mlp.c_fc"),
                    ("mlp.fc2", "mlp.c_proj"),
                ):
                    theirs = theirs.replace(ours, other)
            found[theirs.replace(".", "_")] = f"{part}.{name}"
    return found


def test_a1111_s_rules_lead_every_name_to_its_layer(true_size: TrueSize) -> None:
    family, models, named = true_size
    theirs = a1111_modules(family, models)
    assert {name: theirs.get(a1111(name)) for name in named} == named


def test_single_files_have_the_layers_that_names_lead_to(true_size: TrueSize) -> None:
    family, models, named = true_size
    layout = layout_of(family)
    keys = {
        key
        for part in layout.parts
        if part.name == "unet"
        for key, _ in file_tensors(part, layout.config("unet"), models["unet"].state_dict())
    }
    files = single_file(family, models)
    prefix = layout.part("unet").prefixes[0]
    assert all(f"{prefix}{files[m]}.weight" in keys for m in named.values() if m.startswith("model."))


def test_our_file_has_only_what_every_reader_knows(exported: Exported) -> None:
    tensors = load_file(exported.path)
    assert {key.partition(".")[2] for key in tensors} == {"lora_down.weight", "lora_up.weight", "alpha"}
    text = {"sd1": {"te"}, "sdxl": {"te1", "te2"}}[exported.family.spec.name]
    assert {key.split("_")[1] for key in tensors} == {"unet"} | text


def with_weights(model: Any) -> set[str]:
    """Every module with a weight of its own, as transformers 5 names it."""
    names = {name.rsplit(".", 1)[0] for name, _ in model.named_parameters()}
    return {name.removeprefix("text_model.") for name in names}


def test_recognition_knows_every_layer_of_the_true_models(true_size: TrueSize) -> None:
    family, models, _ = true_size
    known = ARCHITECTURES[family].parts()
    assert {part.replace("-", "_"): set(names) for part, names in known.items()} == {
        part: with_weights(model) for part, model in models.items() if part != "vae"
    }


def test_recognition_knows_every_layer_of_the_starter() -> None:
    known = ARCHITECTURES["starter"].parts()
    with torch.device("meta"):
        assert set(known["unet"]) == with_weights(build_unet())
    config = json.loads((WEIGHTS / "text_encoder" / "config.json").read_text())
    assert sum(name.endswith(".mlp.fc1") for name in known["text-encoder"]) == config["num_hidden_layers"]
