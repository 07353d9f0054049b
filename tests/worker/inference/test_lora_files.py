"""LoRA files change each weight by exactly strength · alpha/rank · up·down, and leave no trace."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from tests.worker.inference.lora_checks import expected_deltas, use, weights
from tests.worker.inference.small import SIZE, TEXT_LAYERS, UNET_LAYERS, kohya_lora, save_lora, small_pipeline
from tests.worker.inference.test_draw import REQUEST, pictures
from worker.families.kohya_keys import to_kohya
from worker.inference import lora_files
from worker.inference.lora_files import LoraSwitch, _Acting, autov3

ONE = replace(REQUEST, seeds=(1,), width=SIZE, height=SIZE)


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


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_weights_are_merged_in_fp32(ink: Path, dtype: torch.dtype) -> None:
    half = small_pipeline().to(dtype)
    before, switch = weights(half), LoraSwitch(half)
    switch.attach([use(ink)])
    after = weights(half)
    for name, delta in expected_deltas(kohya_lora(half), 1.0).items():
        wanted = (before[name].double() + torch.from_numpy(delta)).to(dtype)
        torch.testing.assert_close(after[name], wanted, rtol=2 * torch.finfo(dtype).eps, atol=1e-6)
    switch.detach()
    assert all(torch.equal(tensor, before[name]) for name, tensor in weights(half).items())


def test_rows_are_computed_together_or_apart_to_the_same_bits(
    ink: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for block in (lora_files.BLOCK, 40):
        monkeypatch.setattr(lora_files, "BLOCK", block)
        half = small_pipeline().to(torch.bfloat16)
        LoraSwitch(half).attach([use(ink)])
        found.append(weights(half))
    assert all(torch.equal(tensor, found[1][name]) for name, tensor in found[0].items())


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


class Broken:
    """A change that fails while it is written."""

    def of(self, weight: Tensor) -> Tensor:
        raise MemoryError


def test_a_failure_midway_leaves_the_checkpoint_as_it_was(
    pipe: Any, switch: LoraSwitch, ink: Path, tmp_path: Path
) -> None:
    untouched = weights(pipe)
    switch.attach([use(ink)])
    other = save_lora(tmp_path / "oil.safetensors", kohya_lora(pipe, seed=5))
    weak = use(other)
    with pytest.raises(MemoryError):
        switch._write({name: [_Acting(Broken(), 1.0)] for name in switch._kept})
    assert switch.kept_bytes > 0
    switch.detach()
    assert all(torch.equal(tensor, untouched[name]) for name, tensor in weights(pipe).items())
    assert switch.attach([weak]) == []


def test_a_switch_gives_the_same_bits_as_a_fresh_attachment(
    pipe: Any, switch: LoraSwitch, ink: Path, tmp_path: Path
) -> None:
    """Also where the two change different layers."""
    layers = [layer for layer in UNET_LAYERS if "resnets" not in layer]
    stems = {"lora_unet_" + layer.replace(".", "_") for layer in layers}
    some = {key: t for key, t in kohya_lora(pipe, seed=3).items() if key.partition(".")[0] in stems}
    oil = save_lora(tmp_path / "oil.safetensors", some)
    switch.attach([use(oil, 0.9)])
    fresh = weights(pipe)
    switch.detach()
    switch.attach([use(ink, 1.4)])
    switch.attach([use(ink, -0.3), use(oil, 0.2)])
    switch.attach([use(oil, 0.9)])
    assert all(torch.equal(tensor, fresh[name]) for name, tensor in weights(pipe).items())
    assert len(some) == 3 * len(layers)
    assert switch.kept_bytes == sum(pipe.unet.get_submodule(layer).weight.nbytes for layer in layers)


def test_notes_come_again_with_a_warm_lora(pipe: Any, switch: LoraSwitch, tmp_path: Path) -> None:
    path = save_lora(tmp_path / "odd.safetensors", kohya_lora(pipe) | {"extra": torch.ones(1)})
    notes = switch.attach([use(path)])
    assert notes
    assert switch.attach([use(path)]) == notes


def test_autov3_is_the_hash_of_everything_after_the_header(ink: Path, pipe: Any, tmp_path: Path) -> None:
    labelled = save_lora(tmp_path / "labelled.safetensors", kohya_lora(pipe), {"ss_output_name": "ink"})
    with safe_open(labelled, framework="pt") as file:
        assert file.metadata() == {"ss_output_name": "ink"}
    raw = ink.read_bytes()
    expected = hashlib.sha256(raw[8 + int.from_bytes(raw[:8], "little") :]).hexdigest()[:12]
    assert autov3(ink) == autov3(labelled) == expected
