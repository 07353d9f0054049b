"""LoRA files change each weight by exactly strength · alpha/rank · up·down, and leave no trace."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors import safe_open
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

from tests.worker.inference.small import SIZE, TEXT_LAYERS, UNET_LAYERS, kohya_lora, save_lora, small_pipeline
from tests.worker.inference.test_draw import REQUEST, pictures
from worker.families.kohya_keys import to_kohya
from worker.inference.errors import LoraError
from worker.inference.lora_files import LoraSwitch, LoraUse, autov3, lora_modules, module_name, parse_lora

ONE = replace(REQUEST, seeds=(1,), width=SIZE, height=SIZE)


@pytest.fixture
def switch(pipe: Any) -> Iterator[LoraSwitch]:
    switch = LoraSwitch(pipe)
    yield switch
    switch.detach()


@pytest.fixture
def ink(pipe: Any, tmp_path: Path) -> Path:
    return save_lora(tmp_path / "ink.safetensors", kohya_lora(pipe))


def use(path: Path, unet: float = 1.0, text_encoder: float | None = None) -> LoraUse:
    strength = unet if text_encoder is None else text_encoder
    return LoraUse(path, hashlib.sha256(path.read_bytes()).hexdigest(), path.stem, unet, strength)


def weights(pipe: Any) -> dict[str, Tensor]:
    """Every parameter of the models that a LoRA may touch, copied."""
    return {
        f"{part}.{name}": tensor.clone()
        for part in ("unet", "text_encoder")
        for name, tensor in getattr(pipe, part).state_dict().items()
    }


def expected_deltas(tensors: dict[str, Tensor], strength: float) -> dict[str, np.ndarray]:
    """Independent: numpy in float64, loops over the kernel, names spelled out from the layer lists."""
    deltas = {}
    for prefix, layers, part in (
        ("lora_unet_", UNET_LAYERS, "unet."),
        ("lora_te_text_model_", TEXT_LAYERS, "text_encoder."),
    ):
        for layer in layers:
            name = prefix + layer.replace(".", "_")
            down = tensors[f"{name}.lora_down.weight"].double().numpy()
            up = tensors[f"{name}.lora_up.weight"].double().numpy()
            scale = strength * float(tensors[f"{name}.alpha"]) / down.shape[0]
            if down.ndim == 2:
                delta = np.einsum("or,ri->oi", up, down)
            else:
                delta = np.zeros((up.shape[0], *down.shape[1:]))
                for row, column in np.ndindex(down.shape[2:]):
                    delta[:, :, row, column] = up[:, :, 0, 0] @ down[:, :, row, column]
            deltas[f"{part}{layer}.weight"] = delta * scale
    return deltas


@pytest.mark.parametrize("strength", [-1.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize(("rank", "alpha"), [(4, 2.0), (4, 8.0), (3, 3.0)])
def test_each_weight_changes_by_the_merged_delta(
    pipe: Any, switch: LoraSwitch, tmp_path: Path, strength: float, rank: int, alpha: float
) -> None:
    tensors = kohya_lora(pipe, rank=rank, alpha=alpha)
    before = weights(pipe)
    assert switch.attach([use(save_lora(tmp_path / "ink.safetensors", tensors), strength)]) == []
    after = weights(pipe)
    deltas = expected_deltas(tensors, strength)
    for name in before:
        found = after[name].double().numpy() - before[name].double().numpy()
        np.testing.assert_allclose(found, deltas.get(name, np.zeros_like(found)), atol=2e-7, err_msg=name)
    assert len(deltas) == 10
    assert all(abs(delta).max() > 1e-3 for delta in deltas.values())


def test_text_encoder_and_unet_have_strengths_of_their_own(pipe: Any, switch: LoraSwitch, ink: Path) -> None:
    tensors, before = kohya_lora(pipe), weights(pipe)
    switch.attach([use(ink, 0.5, -1.0)])
    after = weights(pipe)
    unet, text = expected_deltas(tensors, 0.5), expected_deltas(tensors, -1.0)
    for name in unet:
        wanted = unet[name] if name.startswith("unet.") else text[name]
        np.testing.assert_allclose((after[name] - before[name]).numpy(), wanted, atol=2e-7)


def test_several_add_up_in_any_order(pipe: Any, switch: LoraSwitch, ink: Path, tmp_path: Path) -> None:
    other = kohya_lora(pipe, rank=2, alpha=1.0, seed=2)
    oil = save_lora(tmp_path / "oil.safetensors", other)
    before = weights(pipe)
    switch.attach([use(ink, 0.8), use(oil, -0.4)])
    after = weights(pipe)
    first, second = expected_deltas(kohya_lora(pipe), 0.8), expected_deltas(other, -0.4)
    for name in first:
        np.testing.assert_allclose(
            (after[name] - before[name]).numpy(), first[name] + second[name], atol=4e-7
        )
    switch.attach([use(oil, -0.4), use(ink, 0.8)])
    for name, tensor in weights(pipe).items():
        torch.testing.assert_close(tensor, after[name], atol=4e-7, rtol=0)


def test_after_detaching_a_picture_is_the_same_to_the_bit(pipe: Any, switch: LoraSwitch, ink: Path) -> None:
    before, untouched = pictures(pipe, ONE)[0], weights(pipe)
    switch.attach([use(ink, 0.7)])
    assert pictures(pipe, ONE)[0].tobytes() != before.tobytes()
    switch.attach([use(ink, 1.3)])
    switch.detach()
    assert pictures(pipe, ONE)[0].tobytes() == before.tobytes()
    assert all(torch.equal(tensor, untouched[name]) for name, tensor in weights(pipe).items())
    assert switch.kept_bytes == 0


def test_a_change_of_strength_starts_from_the_checkpoints_weights(
    pipe: Any, switch: LoraSwitch, ink: Path
) -> None:
    switch.attach([use(ink, 0.7)])
    direct = pictures(pipe, ONE)[0].tobytes()
    switch.attach([use(ink, 2.0)])
    switch.attach([use(ink, 0.7)])
    assert pictures(pipe, ONE)[0].tobytes() == direct


def test_what_is_attached_is_not_attached_again(pipe: Any, switch: LoraSwitch, ink: Path) -> None:
    switch.attach([use(ink)])
    once = weights(pipe)
    again = use(ink)
    ink.unlink()
    assert switch.attach([again]) == []
    assert all(torch.equal(tensor, once[name]) for name, tensor in weights(pipe).items())


def test_strength_zero_is_no_lora(pipe: Any, switch: LoraSwitch, ink: Path) -> None:
    untouched = weights(pipe)
    switch.attach([use(ink, 0.0)])
    assert all(torch.equal(tensor, untouched[name]) for name, tensor in weights(pipe).items())


def test_half_precision_weights_are_merged_in_fp32(ink: Path) -> None:
    half = small_pipeline().to(torch.bfloat16)
    before, switch = weights(half), LoraSwitch(half)
    switch.attach([use(ink)])
    after = weights(half)
    for name, delta in expected_deltas(kohya_lora(half), 1.0).items():
        wanted = (before[name].double() + torch.from_numpy(delta)).float().bfloat16()
        torch.testing.assert_close(after[name], wanted, rtol=2**-7, atol=1e-6)
    switch.detach()
    assert all(torch.equal(tensor, before[name]) for name, tensor in weights(half).items())


def test_what_our_exporter_writes_is_read_completely(pipe: Any, switch: LoraSwitch, tmp_path: Path) -> None:
    ours = {}
    for part, layers in (("model", UNET_LAYERS), ("text_encoder", TEXT_LAYERS)):
        for layer in layers:
            weight = (pipe.unet if part == "model" else pipe.text_encoder).get_submodule(layer).weight
            ones = [1] * (weight.dim() - 2)
            ours[f"{part}.{layer}.lora_down.weight"] = torch.ones(2, *weight.shape[1:])
            ours[f"{part}.{layer}.lora_up.weight"] = torch.ones(weight.shape[0], 2, *ones)
            ours[f"{part}.{layer}.alpha"] = torch.tensor(1.0)
    before = weights(pipe)
    assert switch.attach([use(save_lora(tmp_path / "ours.safetensors", to_kohya(ours)))]) == []
    changed = [name for name, tensor in weights(pipe).items() if not torch.equal(tensor, before[name])]
    assert len(changed) == len(UNET_LAYERS) + len(TEXT_LAYERS)


def renamed(tensors: dict[str, Tensor], style: str) -> dict[str, Tensor]:
    """The same LoRA with the names that PEFT and older diffusers write; alpha folded into `up`."""
    names = {"lora_unet_" + layer.replace(".", "_"): ("unet.", layer) for layer in UNET_LAYERS} | {
        "lora_te_text_model_" + layer.replace(".", "_"): ("text_encoder.text_model.", layer)
        for layer in TEXT_LAYERS
    }
    endings = {"peft": ("lora_A.weight", "lora_B.weight"), "old": ("lora.down.weight", "lora.up.weight")}
    found = {}
    for name, (prefix, layer) in names.items():
        down, up = tensors[f"{name}.lora_down.weight"], tensors[f"{name}.lora_up.weight"]
        found[f"{prefix}{layer}.{endings[style][0]}"] = down
        found[f"{prefix}{layer}.{endings[style][1]}"] = up * (tensors[f"{name}.alpha"] / down.shape[0])
    return found


@pytest.mark.parametrize("style", ["peft", "old"])
def test_other_spellings_change_the_same_weights(
    pipe: Any, switch: LoraSwitch, tmp_path: Path, style: str
) -> None:
    before = weights(pipe)
    path = save_lora(tmp_path / "other.safetensors", renamed(kohya_lora(pipe), style))
    assert switch.attach([use(path)]) == []
    after = weights(pipe)
    for name, delta in expected_deltas(kohya_lora(pipe), 1.0).items():
        np.testing.assert_allclose((after[name] - before[name]).numpy(), delta, atol=2e-7)


def test_alpha_in_the_header_of_diffusers_counts() -> None:
    tensors = {"unet.mid.a.lora_A.weight": torch.ones(4, 8), "unet.mid.a.lora_B.weight": torch.ones(8, 4)}
    tensors |= {key.replace("mid.a", "mid.b"): tensor for key, tensor in tensors.items()}
    config = {"unet.lora_alpha": 2, "unet.alpha_pattern": {"mid.b": 16}}
    layers = parse_lora(tensors, {"lora_adapter_metadata": json.dumps(config)}).layers
    assert (layers["unet.mid_a"].scale, layers["unet.mid_b"].scale) == (0.5, 4.0)
    assert parse_lora(tensors, {}).layers["unet.mid_a"].scale == 1.0


@pytest.mark.parametrize(
    ("stem", "expected"),
    [
        ("lora_unet_down_blocks_0_attentions_0_proj_in", "unet.down_blocks_0_attentions_0_proj_in"),
        ("lora_te_text_model_encoder_layers_0_mlp_fc1", "text_encoder.encoder_layers_0_mlp_fc1"),
        ("lora_te1_text_model_encoder_layers_0_mlp_fc1", "text_encoder.encoder_layers_0_mlp_fc1"),
        ("text_encoder.encoder.layers.0.mlp.fc1", "text_encoder.encoder_layers_0_mlp_fc1"),
        (
            "text_encoder.text_model.encoder.layers.0.self_attn.to_out",
            "text_encoder.encoder_layers_0_self_attn_out_proj",
        ),
        ("unet.mid_block.attn1.processor.to_out", "unet.mid_block_attn1_to_out_0"),
        ("mid_block.attn1.processor.to_q", "unet.mid_block_attn1_to_q"),
        ("base_model.model.mid_block.attn1.to_q", "unet.mid_block_attn1_to_q"),
    ],
)
def test_names(stem: str, expected: str) -> None:
    assert module_name(stem) == expected


def test_encoders_that_keep_the_prefix_are_found_too(pipe: Any) -> None:
    class Pipe:
        unet = pipe.unet
        text_encoder = CLIPTextModelWithProjection(
            CLIPTextConfig(
                vocab_size=9, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1
            )
        )

    assert "text_encoder.encoder_layers_0_mlp_fc1" in lora_modules(Pipe())


def test_names_of_a_real_sd1_lora_find_their_layers() -> None:
    """The full list of sd-scripts' modules for Stable Diffusion 1, on a U-Net without weights."""
    with torch.device("meta"):
        unet: Any = UNet2DConditionModel(cross_attention_dim=768, attention_head_dim=8)
    modules = {
        "lora_unet_" + name.replace(".", "_")
        for name, module in unet.named_modules()
        if isinstance(module, torch.nn.Linear | torch.nn.Conv2d) and ".attentions." in name
    }
    assert len(modules) == 192
    stub = type("Pipe", (), {"unet": unet, "text_encoder": torch.nn.Module()})()
    assert {module_name(name) for name in modules} <= set(lora_modules(stub))


def test_entries_without_a_place_are_named_and_counted(pipe: Any, switch: LoraSwitch, tmp_path: Path) -> None:
    tensors = kohya_lora(pipe)
    first = "lora_unet_" + UNET_LAYERS[0].replace(".", "_")
    tensors[f"{first}.dora_scale"] = torch.ones(16, 1)  # makes its layer a DoRA: left out whole
    tensors["lora_unet_nowhere.lora_down.weight"] = torch.ones(4, 8)
    tensors["lora_unet_nowhere.lora_up.weight"] = torch.ones(8, 4)
    tensors["lora_unet_conv_in.lora_down.weight"] = torch.ones(4, 5, 3, 3)  # the base has 6 channels
    tensors["lora_unet_conv_in.lora_up.weight"] = torch.ones(16, 4, 1, 1)
    tensors["lora_unet_conv_out.lora_down.weight"] = torch.ones(4, 16, 3, 3)  # without its `up`
    tensors["emphasis"] = torch.ones(1)
    before = weights(pipe)
    [note] = switch.attach([use(save_lora(tmp_path / "odd.safetensors", tensors))])
    after = weights(pipe)
    assert "“odd”: 8 entries" in note
    for name in ("unet.nowhere", "unet.conv_in"):
        assert name in note
    changed = {name for name, tensor in after.items() if not torch.equal(tensor, before[name])}
    assert changed == set(expected_deltas(tensors, 1.0)) - {f"unet.{UNET_LAYERS[0]}.weight"}


def test_notes_come_again_with_a_warm_lora(pipe: Any, switch: LoraSwitch, tmp_path: Path) -> None:
    path = save_lora(tmp_path / "odd.safetensors", kohya_lora(pipe) | {"extra": torch.ones(1)})
    notes = switch.attach([use(path)])
    assert notes
    assert switch.attach([use(path)]) == notes


def test_the_same_file_twice_is_refused(switch: LoraSwitch, ink: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(ink.read_bytes())
    with pytest.raises(LoraError, match="twice"):
        switch.attach([use(ink), use(copy)])


@pytest.mark.parametrize("strength", [-1.01, 2.01, float("nan")])
def test_strengths_out_of_range_are_refused(switch: LoraSwitch, ink: Path, strength: float) -> None:
    with pytest.raises(LoraError, match="between -1 and 2"):
        switch.attach([use(ink, strength)])


@pytest.mark.parametrize("content", [b"", b"<html>no tensors</html>", b"\xff" * 64])
def test_files_that_are_no_lora_are_refused(switch: LoraSwitch, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.safetensors"
    path.write_bytes(content)
    with pytest.raises(LoraError, match="“bad” cannot be read"):
        switch.attach([use(path)])


def test_a_lora_of_another_base_is_refused_and_leaves_no_trace(
    pipe: Any, switch: LoraSwitch, ink: Path, tmp_path: Path
) -> None:
    foreign = {
        "lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight": torch.ones(4, 8),
        "lora_unet_double_blocks_0_img_attn_qkv.lora_up.weight": torch.ones(8, 4),
    }
    untouched = weights(pipe)
    switch.attach([use(ink)])
    with pytest.raises(LoraError, match="fits no layer"):
        switch.attach([use(ink), use(save_lora(tmp_path / "flux.safetensors", foreign))])
    assert all(torch.equal(tensor, untouched[name]) for name, tensor in weights(pipe).items())


def test_autov3_is_the_hash_of_everything_after_the_header(ink: Path, pipe: Any, tmp_path: Path) -> None:
    labelled = save_lora(tmp_path / "labelled.safetensors", kohya_lora(pipe), {"ss_output_name": "ink"})
    with safe_open(labelled, framework="pt") as file:
        assert file.metadata() == {"ss_output_name": "ink"}
    raw = ink.read_bytes()
    expected = hashlib.sha256(raw[8 + int.from_bytes(raw[:8], "little") :]).hexdigest()[:12]
    assert autov3(ink) == autov3(labelled) == expected
