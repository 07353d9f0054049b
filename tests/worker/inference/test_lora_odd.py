"""LoRA files that are wrong: what has no place is named and counted, the rest is refused in words."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.worker.inference.lora_checks import expected_deltas, use, weights
from tests.worker.inference.small import TEXT_LAYERS, UNET_LAYERS, kohya_lora, save_lora
from worker.inference.errors import LoraError
from worker.inference.lora_files import LoraSwitch

FIRST = "lora_unet_" + UNET_LAYERS[0].replace(".", "_")


def pair(rank: int, inputs: tuple[int, ...], outputs: tuple[int, ...]) -> dict[str, Tensor]:
    return {"lora_down.weight": torch.ones(rank, *inputs), "lora_up.weight": torch.ones(*outputs)}


ODD: dict[str, tuple[str, dict[str, Tensor]]] = {
    "no such layer": ("lora_unet_nowhere", pair(4, (8,), (8, 4))),
    "another width": ("lora_unet_conv_in", pair(4, (5, 3, 3), (16, 4, 1, 1))),
    "half of it": ("lora_unet_conv_out", {"lora_down.weight": torch.ones(4, 16, 3, 3)}),
    "alpha alone": ("lora_unet_conv_out", {"alpha": torch.tensor(1.0)}),
    "two ranks": ("lora_unet_conv_in", pair(4, (6, 3, 3), (16, 3, 1, 1))),
    "no rank": ("lora_unet_conv_in", pair(0, (6, 3, 3), (16, 0, 1, 1))),
    "one-sided": ("lora_unet_conv_in", {"lora_down.weight": torch.ones(4), "lora_up.weight": torch.ones(4)}),
    "many alphas": ("lora_unet_conv_in", pair(4, (6, 3, 3), (16, 4, 1, 1)) | {"alpha": torch.ones(3)}),
    "a magnitude of another shape": (
        "lora_unet_conv_in", pair(4, (6, 3, 3), (16, 4, 1, 1)) | {"dora_scale": torch.ones(16)}
    ),
    "a magnitude alone": ("lora_unet_conv_in", {"dora_scale": torch.ones(16, 1, 1, 1)}),
    "a core of another rank": (
        "lora_unet_conv_in", pair(4, (6, 1, 1), (16, 4, 1, 1)) | {"lora_mid.weight": torch.ones(3, 4, 3, 3)}
    ),
    "two kinds at once": (
        "lora_unet_conv_in", pair(4, (6, 3, 3), (16, 4, 1, 1)) | {"diff": torch.ones(16, 6, 3, 3)}
    ),
    "a change of another size": ("lora_unet_conv_in", {"diff": torch.ones(16, 6)}),
    "a bias that is not there": (
        "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q", {"diff_b": torch.ones(16)}
    ),
    "Hadamard, one pair": (
        "lora_unet_conv_in", {"hada_w1_a": torch.ones(16, 2), "hada_w1_b": torch.ones(2, 54)}
    ),
    "Hadamard of another size": (
        "lora_unet_conv_in", {f"hada_w{n}_{s}": torch.ones(2, 2) for n in (1, 2) for s in "ab"}
    ),
    "Hadamard of no matrix": (
        "lora_unet_conv_in", {f"hada_w{n}_{s}": torch.ones(2) for n in (1, 2) for s in "ab"}
    ),
    "Kronecker, one factor": ("lora_unet_conv_in", {"lokr_w1": torch.ones(4, 2)}),
    "Kronecker, another size": (
        "lora_unet_conv_in", {"lokr_w1": torch.ones(4, 2), "lokr_w2": torch.ones(4, 4)}
    ),
    "Kronecker of no matrix": ("lora_unet_conv_in", {"lokr_w1": torch.ones(4), "lokr_w2": torch.ones(4)}),
    "Kronecker, factors apart": (
        "lora_unet_conv_in",
        {"lokr_w1": torch.ones(4, 2), "lokr_w2_a": torch.ones(4, 3), "lokr_w2_b": torch.ones(2, 27)},
    ),
    "Kronecker, a core without a product": (
        "lora_unet_conv_in",
        {"lokr_w1": torch.ones(4, 2), "lokr_w2": torch.ones(4, 3, 3, 3), "lokr_t2": torch.ones(2, 2, 3, 3)},
    ),
    "GLoRA": ("lora_unet_conv_in", {f"{name}.weight": torch.ones(4, 4) for name in ("a1", "a2", "b1", "b2")}),
    "OFT": ("lora_unet_conv_in", {"oft_blocks": torch.ones(4, 4, 4)}),
    "IA3": ("lora_unet_conv_in", {"on_input": torch.ones(1), "weight": torch.ones(16)}),
    "a number too far": ("unet:999", {"down": torch.ones(4, 8), "up": torch.ones(8, 4)}),
}  # fmt: skip


@pytest.mark.parametrize("what", ODD)
def test_what_has_no_place_is_named_and_counted(
    what: str, pipe: Any, switch: LoraSwitch, tmp_path: Path
) -> None:
    stem, odd = ODD[what]
    between = ":" if stem.startswith("unet:") else "."
    tensors = kohya_lora(pipe) | {f"{stem}{between}{name}": tensor for name, tensor in odd.items()}
    if what == "a bias that is not there":
        tensors = {key: tensor for key, tensor in tensors.items() if not key.startswith(stem + ".")} | {
            f"{stem}.{name}": tensor for name, tensor in odd.items()
        }
    before = weights(pipe)
    [note] = switch.attach([use(save_lora(tmp_path / "odd.safetensors", tensors))])
    [unplaced] = switch.unplaced
    assert (unplaced.lora, unplaced.names[0]) == ("odd", stem)
    assert unplaced.count == len(unplaced.names) == (2 if what == "IA3" else 1)
    have = "1 entry has no place here and does" if what != "IA3" else "2 entries have no place here and do"
    assert note == f"LoRA “odd”: {have} nothing: {', '.join(unplaced.names)}"
    changed = {name for name, tensor in weights(pipe).items() if not torch.equal(tensor, before[name])}
    expected = {f"unet.{layer}.weight" for layer in UNET_LAYERS}
    expected |= {f"text_encoder.{layer}.weight" for layer in TEXT_LAYERS}
    assert changed == {name for name in expected if what != "a bias that is not there" or "attn1" not in name}


def test_the_first_fifty_names_are_told_and_all_are_counted(
    pipe: Any, switch: LoraSwitch, tmp_path: Path
) -> None:
    more = {f"lora_unet_nowhere_{n}.lora_up.weight": torch.ones(2, 2) for n in range(60)}
    more |= {f"<s{n}>": torch.ones(4) for n in range(3)}
    [note] = switch.attach([use(save_lora(tmp_path / "odd.safetensors", kohya_lora(pipe) | more))])
    [unplaced] = switch.unplaced
    assert (unplaced.count, len(unplaced.names)) == (63, 50)
    assert note.endswith(", …")
    assert note.count("nowhere") == 5
    switch.attach([])
    assert switch.unplaced == []


def test_one_layer_named_in_two_ways_counts_once(pipe: Any, switch: LoraSwitch, tmp_path: Path) -> None:
    tensors = kohya_lora(pipe)
    again = {
        key.replace(FIRST, f"unet.{UNET_LAYERS[0]}"): tensor.clone()
        for key, tensor in tensors.items()
        if key.startswith(FIRST)
    }
    before = weights(pipe)
    switch.attach([use(save_lora(tmp_path / "odd.safetensors", tensors | again))])
    assert [unplaced.count for unplaced in switch.unplaced] == [1]
    name = f"unet.{UNET_LAYERS[0]}.weight"
    moved = (weights(pipe)[name] - before[name]).numpy()
    np.testing.assert_allclose(moved, expected_deltas(tensors, 1.0)[name], atol=2e-7)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("part", ["lora_down.weight", "lora_up.weight", "alpha"])
def test_numbers_that_are_not_finite_are_refused(
    part: str, value: float, pipe: Any, switch: LoraSwitch, ink: Path, tmp_path: Path
) -> None:
    tensors = kohya_lora(pipe)
    tensors[f"{FIRST}.{part}"] = tensors[f"{FIRST}.{part}"].clone()
    tensors[f"{FIRST}.{part}"].view(-1)[0] = value
    untouched = weights(pipe)
    switch.attach([use(ink)])
    with pytest.raises(LoraError, match=r"damaged: .* not finite"):
        switch.attach([use(save_lora(tmp_path / "bad.safetensors", tensors))])
    assert all(torch.equal(tensor, untouched[name]) for name, tensor in weights(pipe).items())


def with_header(path: Path, header: dict[str, Any], body: bytes = b"") -> Path:
    raw = json.dumps(header).encode()
    path.write_bytes(len(raw).to_bytes(8, "little") + raw + body)
    return path


def entry(shape: list[int], begin: int, end: int) -> dict[str, Any]:
    return {"dtype": "F32", "shape": shape, "data_offsets": [begin, end]}


HOSTILE = {
    "a huge shape": {f"{FIRST}.lora_down.weight": entry([2**30, 2**30], 0, 8)},
    "overlapping": {
        f"{FIRST}.lora_down.weight": entry([2], 0, 8), f"{FIRST}.lora_up.weight": entry([2], 0, 8)
    },
    "beyond the end": {f"{FIRST}.lora_down.weight": entry([1000], 0, 4000)},
    "a hundred thousand keys": {f"lora_unet_{n}.alpha": entry([0], 0, 0) for n in range(100_000)},
}  # fmt: skip


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_files_are_refused(what: str, switch: LoraSwitch, tmp_path: Path) -> None:
    path = with_header(tmp_path / "bad.safetensors", HOSTILE[what], bytes(8))
    with pytest.raises(LoraError, match=r"“bad” cannot be read\. This"):
        switch.attach([use(path)])


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
