"""Every way to write a LoRA changes every weight by exactly what its definition says, in float64."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.worker.inference.lora_forms import (
    ALPHA,
    FORMS,
    RANK,
    Form,
    Layer,
    Pair,
    cloneofsimo,
    draw,
    kohya,
    layers_of,
    models,
    pairs,
    weights,
)
from tests.worker.inference.small import save_lora
from worker.inference.lora_files import LoraSwitch, LoraUse

Array = np.ndarray[Any, np.dtype[np.float64]]
Tensors = dict[str, Tensor]


@pytest.fixture(scope="module")
def pipes() -> dict[str, Any]:
    return {"sd1": models("sd1"), "sdxl": models("sdxl")}


def double(tensor: Tensor) -> Array:
    return tensor.double().numpy()


def low_rank(down: Tensor, up: Tensor, scale: float, mid: Tensor | None = None) -> Array:
    """Δ[o, i, y, x] = scale · Σ_r up[o, r] · down[r, i, y, x], spelled out over the kernel."""
    d, u = double(down), double(up).reshape(up.shape[0], -1)
    if mid is not None:
        d = np.einsum("sryx,ri->siyx", double(mid), d[:, :, 0, 0])
    if d.ndim == 2:
        return scale * (u @ d)
    found = np.zeros((u.shape[0], *d.shape[1:]))
    for y, x in np.ndindex(d.shape[2:]):
        found[:, :, y, x] = scale * (u @ d[:, :, y, x])
    return found


def changes(pipe: Any, path: Path, strength: float = 1.0) -> tuple[dict[str, Array], list[str]]:
    """What attaching does to every parameter that it touches, and the notes."""
    before = weights(pipe)
    switch = LoraSwitch(pipe)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    try:
        notes = switch.attach([LoraUse(path, digest, "ink", strength, strength)])
        after = weights(pipe)
    finally:
        switch.detach()
    assert all(torch.equal(tensor, before[name]) for name, tensor in weights(pipe).items())
    moved = {name: double(after[name]) - double(before[name]) for name in before}
    return {name: delta for name, delta in moved.items() if delta.any()}, notes


def check(found: dict[str, Array], expected: dict[str, Array]) -> None:
    assert found.keys() == expected.keys()
    for name, delta in expected.items():
        assert abs(delta).max() > 1e-4, name
        np.testing.assert_allclose(
            found[name].reshape(delta.shape), delta, atol=5e-7, rtol=1e-5, err_msg=name
        )


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_spellings(form: Form, family: str, pipes: dict[str, Any], tmp_path: Path) -> None:
    pipe = pipes[family]
    given = pairs([layer for layer in layers_of(pipe) if form.takes(layer)])
    tensors, metadata = form.write(family, given)
    assert len(tensors) == (3 if form.alpha == "tensor" else 2) * len(given)
    found, notes = changes(pipe, save_lora(tmp_path / "ink.safetensors", tensors, metadata))
    assert notes == []
    check(found, {f"{p.layer.key}.weight": low_rank(p.down, p.up, ALPHA / RANK) for p in given})


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_numbered_layers(family: str, pipes: dict[str, Any], tmp_path: Path) -> None:
    pipe = pipes[family]
    given = pairs(layers_of(pipe))
    tensors, metadata = cloneofsimo(pipe, given)
    found, notes = changes(pipe, save_lora(tmp_path / "ink.safetensors", tensors, metadata))
    assert notes == []
    expected = {f"{p.layer.key}.weight": low_rank(p.down, p.up, ALPHA / RANK) for p in given}
    assert 2 * len(found) == len(tensors)
    check(found, {name: expected[name] for name in found})
    ones = {name.split(".attentions")[0] for name in found if name.startswith("unet.")}
    assert len(ones) == {"sd1": 3, "sdxl": 5}[family]


ATTN = "down_blocks.0.attentions.0"
CHOSEN = {
    "matrix": f"{ATTN}.transformer_blocks.0.attn2.to_k",
    "pixel": f"{ATTN}.proj_in",
    "kernel": "down_blocks.0.resnets.0.conv1",
}


def chosen(pipe: Any) -> dict[str, Layer]:
    by_path = {layer.path: layer for layer in layers_of(pipe) if layer.part == "unet"}
    return {name: by_path[path] for name, path in CHOSEN.items()}


def tucker(core: Tensor, a: Tensor, b: Tensor) -> Array:
    """Σ_ij core[i, j, y, x] · a[i, o] · b[j, n], by loops over the kernel."""
    c, left, right = double(core), double(a), double(b)
    found = np.zeros((left.shape[1], right.shape[1], *c.shape[2:]))
    for y, x in np.ndindex(c.shape[2:]):
        found[:, :, y, x] = left.T @ c[:, :, y, x] @ right
    return found


def locon_with_core(layer: Layer) -> tuple[Tensors, Array]:
    out, inputs, *kernel = layer.shape
    down, up = draw((RANK, inputs, 1, 1), 1), draw((out, RANK, 1, 1), 2)
    mid = draw((RANK, RANK, *kernel), 3)
    tensors = {"lora_down.weight": down, "lora_up.weight": up, "lora_mid.weight": mid}
    return tensors | {"alpha": torch.tensor(ALPHA)}, low_rank(down, up, ALPHA / RANK, mid)


def loha(layer: Layer) -> tuple[Tensors, Array]:
    out, inputs = layer.shape[0], layer.module.weight[0].numel()
    parts = {
        f"hada_w{n}_{side}": draw((out, RANK) if side == "a" else (RANK, inputs), n + 5 * (side == "b"))
        for n in (1, 2)
        for side in "ab"
    }
    one, two = (double(parts[f"hada_w{n}_a"]) @ double(parts[f"hada_w{n}_b"]) for n in (1, 2))
    return parts | {"alpha": torch.tensor(ALPHA)}, one * two * (ALPHA / RANK)


def loha_with_core(layer: Layer) -> tuple[Tensors, Array]:
    out, inputs, *kernel = layer.shape
    parts = {f"hada_w{n}_{s}": draw((RANK, out if s == "a" else inputs), n) for n in (1, 2) for s in "ab"}
    parts |= {f"hada_t{n}": draw((RANK, RANK, *kernel), 7 + n) for n in (1, 2)}
    one, two = (tucker(parts[f"hada_t{n}"], parts[f"hada_w{n}_a"], parts[f"hada_w{n}_b"]) for n in (1, 2))
    return parts | {"alpha": torch.tensor(ALPHA)}, one * two * (ALPHA / RANK)


def lokr(layer: Layer, *, first: bool, second: bool) -> tuple[Tensors, Array]:
    """`first`, `second`: whether that factor is a product of rank RANK; out and in are split by 4."""
    out, inputs = layer.shape[0] // 4, layer.module.weight[0].numel() // 4
    parts: Tensors = {}
    factors = []
    for name, (rows, columns), product in (("w1", (4, 4), first), ("w2", (out, inputs), second)):
        a, b = draw((rows, RANK), len(parts)), draw((RANK, columns), 9 + len(parts))
        parts |= {f"lokr_{name}_a": a, f"lokr_{name}_b": b} if product else {f"lokr_{name}": (a @ b)}
        factors.append(double(a) @ double(b) if product else double(a @ b))
    scale = ALPHA / RANK if first or second else 1.0
    whole = np.zeros((layer.shape[0], 4 * inputs))
    for row, column in np.ndindex(4, 4):
        block = factors[0][row, column] * factors[1]
        whole[row * out : (row + 1) * out, column * inputs : (column + 1) * inputs] = block
    return parts | {"alpha": torch.tensor(ALPHA)}, whole * scale


def lokr_kernel(layer: Layer, *, core: bool) -> tuple[Tensors, Array]:
    """w2 has the kernel: whole, or with Tucker's core."""
    out, inputs, *kernel = layer.shape
    first = draw((4, 2), 1)
    parts: Tensors = {"lokr_w1": first}
    if core:
        t2, a, b = draw((RANK, RANK, *kernel), 2), draw((RANK, out // 4), 3), draw((RANK, inputs // 2), 4)
        parts |= {"lokr_t2": t2, "lokr_w2_a": a, "lokr_w2_b": b}
        second = tucker(t2, a, b)
    else:
        parts["lokr_w2"] = draw((out // 4, inputs // 2, *kernel), 5)
        second = double(parts["lokr_w2"])
    whole = np.zeros(layer.shape)
    for o, i in np.ndindex(4, 2):
        rows, columns = slice(o * out // 4, (o + 1) * out // 4), slice(i * inputs // 2, (i + 1) * inputs // 2)
        whole[rows, columns] = float(first[o, i]) * second
    scale = ALPHA / RANK if core else 1.0
    return parts | {"alpha": torch.tensor(ALPHA)}, whole * scale


def plain(layer: Layer) -> tuple[Tensors, Array]:
    (pair,) = pairs([layer])
    tensors = {"lora_down.weight": pair.down, "lora_up.weight": pair.up, "alpha": torch.tensor(ALPHA)}
    return tensors, low_rank(pair.down, pair.up, ALPHA / RANK)


def full(layer: Layer) -> tuple[Tensors, Array]:
    diff = draw(layer.shape, 3)
    return {"diff": diff}, double(diff)


ALGORITHMS: list[tuple[str, str, Callable[[Layer], tuple[Tensors, Array]]]] = [
    *(("LoRA", kind, plain) for kind in CHOSEN),
    ("LoCon with core", "kernel", locon_with_core),
    *(("LoHa", kind, loha) for kind in CHOSEN),
    ("LoHa with core", "kernel", loha_with_core),
    *(("LoKr", kind, lambda layer: lokr(layer, first=False, second=True)) for kind in ("matrix", "kernel")),
    ("LoKr of two products", "matrix", lambda layer: lokr(layer, first=True, second=True)),
    ("LoKr, first a product", "matrix", lambda layer: lokr(layer, first=True, second=False)),
    ("LoKr whole", "matrix", lambda layer: lokr(layer, first=False, second=False)),
    ("LoKr with kernel", "kernel", lambda layer: lokr_kernel(layer, core=False)),
    ("LoKr with core", "kernel", lambda layer: lokr_kernel(layer, core=True)),
    *(("full", kind, full) for kind in CHOSEN),
]
Case = tuple[str, str, Callable[[Layer], tuple[Tensors, Array]]]


def named(layer: Layer, tensors: Tensors) -> Tensors:
    return {f"{kohya('sd1', layer)}.{name}": tensor for name, tensor in tensors.items()}


@pytest.mark.parametrize("strength", [1.0, -0.6])
@pytest.mark.parametrize("case", ALGORITHMS, ids=lambda case: f"{case[0]}, {case[1]}")
def test_algorithms(case: Case, strength: float, pipes: dict[str, Any], tmp_path: Path) -> None:
    layer = chosen(pipes["sd1"])[case[1]]
    tensors, delta = case[2](layer)
    found, notes = changes(
        pipes["sd1"], save_lora(tmp_path / "ink.safetensors", named(layer, tensors)), strength
    )
    assert notes == []
    check(found, {f"{layer.key}.weight": strength * delta.reshape(layer.shape)})


def decomposed(own: Array, delta: Array, magnitude: Array, kept: int) -> Array:
    """m · (W + Δ) / ‖W + Δ‖ − W, norms by loops over the side that keeps its own number."""
    whole = own + delta.reshape(own.shape)
    moved = np.moveaxis(whole.copy(), kept, 0)
    for number in range(moved.shape[0]):
        moved[number] *= magnitude.ravel()[number] / np.sqrt((moved[number] ** 2).sum())
    return np.moveaxis(moved, 0, kept) - own


@pytest.mark.parametrize("strength", [1.0, 0.5])
@pytest.mark.parametrize("kind", CHOSEN)
@pytest.mark.parametrize("kept", [0, 1], ids=["outputs", "inputs"])
@pytest.mark.parametrize("inner", [plain, loha], ids=["LoRA", "LoHa"])
def test_dora(
    inner: Callable[[Layer], tuple[Tensors, Array]],
    kept: int, kind: str, strength: float, pipes: dict[str, Any], tmp_path: Path,
) -> None:  # fmt: skip
    layer = chosen(pipes["sd1"])[kind]
    tensors, delta = inner(layer)
    sides = [1] * len(layer.shape)
    sides[kept] = layer.shape[kept]
    tensors["dora_scale"] = draw(tuple(sides), 4).abs() + 0.5
    own = double(layer.module.weight.detach())
    found, notes = changes(
        pipes["sd1"], save_lora(tmp_path / "ink.safetensors", named(layer, tensors)), strength
    )
    assert notes == []
    wanted = strength * decomposed(own, delta, double(tensors["dora_scale"]), kept)
    check(found, {f"{layer.key}.weight": wanted})


@pytest.mark.parametrize("kind", CHOSEN)
def test_dora_by_peft(kind: str, pipes: dict[str, Any], tmp_path: Path) -> None:
    """Its magnitudes are one for each output: [out], of convolutions [1, out, 1, 1]."""
    layer = chosen(pipes["sd1"])[kind]
    (pair,) = pairs([layer])
    magnitude = draw((layer.shape[0],), 8).abs() + 0.5
    written = magnitude if len(layer.shape) == 2 else magnitude.reshape(1, -1, 1, 1)
    stem = f"unet.{layer.path}"
    tensors = {
        f"{stem}.lora_A.weight": pair.down, f"{stem}.lora_B.weight": pair.up,
        f"{stem}.lora_magnitude_vector": written,
    }  # fmt: skip
    own = double(layer.module.weight.detach())
    found, notes = changes(pipes["sd1"], save_lora(tmp_path / "ink.safetensors", tensors))
    assert notes == []
    wanted = decomposed(own, low_rank(pair.down, pair.up, 1.0), double(magnitude), 0)
    check(found, {f"{layer.key}.weight": wanted})


def test_norms_and_biases(pipes: dict[str, Any], tmp_path: Path) -> None:
    """LyCORIS' `w_norm`/`b_norm`, and `diff_b` beside a pair."""
    pipe = pipes["sd1"]
    norms = layers_of(pipe, (nn.GroupNorm, nn.LayerNorm))
    tensors: Tensors = {}
    expected: dict[str, Array] = {}
    for number, layer in enumerate(norms):
        scale, shift = draw(layer.shape, number), draw(layer.shape, 99 + number)
        tensors |= named(layer, {"w_norm": scale, "b_norm": shift})
        expected |= {f"{layer.key}.weight": double(scale), f"{layer.key}.bias": double(shift)}
    for layer in chosen(pipe).values():
        made, delta = plain(layer)
        expected[f"{layer.key}.weight"] = delta
        if layer.module.bias is not None:
            made["diff_b"] = draw((layer.shape[0],), 6)
            expected[f"{layer.key}.bias"] = double(made["diff_b"])
        tensors |= named(layer, made)
    found, notes = changes(pipe, save_lora(tmp_path / "ink.safetensors", tensors))
    assert notes == []
    assert len(expected) > 2 * len(norms) + 3
    check(found, expected)


@pytest.mark.parametrize("alpha", [None, 0.0])
def test_without_alpha_the_scale_is_one(alpha: float | None, pipes: dict[str, Any], tmp_path: Path) -> None:
    layer = chosen(pipes["sd1"])["matrix"]
    (pair,) = pairs([layer])
    tensors = {"lora_down.weight": pair.down, "lora_up.weight": pair.up}
    if alpha is not None:
        tensors["alpha"] = torch.tensor(alpha)
    found, _ = changes(pipes["sd1"], save_lora(tmp_path / "ink.safetensors", named(layer, tensors)))
    check(found, {f"{layer.key}.weight": low_rank(pair.down, pair.up, 1.0)})


@pytest.mark.parametrize(
    ("config", "scale"),
    [
        ({"unet.lora_alpha": 2}, 0.5),
        ({"unet.lora_alpha": 2, "unet.alpha_pattern": {"attn2.to_k": 16}}, 4.0),
        ({"unet.lora_alpha": 2, "unet.use_rslora": True}, 1.0),
        ({"text_encoder.lora_alpha": 2}, 1.0),
        ({"unet.lora_alpha": "many"}, 1.0),
        ([1], 1.0),
    ],
)
def test_alpha_in_the_header(config: Any, scale: float, pipes: dict[str, Any], tmp_path: Path) -> None:
    layer = chosen(pipes["sd1"])["matrix"]
    (pair,) = pairs([layer])
    tensors = {f"unet.{layer.path}.lora_A.weight": pair.down, f"unet.{layer.path}.lora_B.weight": pair.up}
    header = {"lora_adapter_metadata": json.dumps(config)}
    found, _ = changes(pipes["sd1"], save_lora(tmp_path / "ink.safetensors", tensors, header))
    check(found, {f"{layer.key}.weight": low_rank(pair.down, pair.up, scale)})


def test_a_matrix_may_stand_for_a_convolution_of_one_pixel(pipes: dict[str, Any], tmp_path: Path) -> None:
    layer = chosen(pipes["sd1"])["pixel"]
    (pair,) = pairs([layer])
    flat = Pair(layer, pair.down.flatten(1), pair.up.flatten(1))
    tensors = {"lora_down.weight": flat.down, "lora_up.weight": flat.up}
    found, notes = changes(pipes["sd1"], save_lora(tmp_path / "ink.safetensors", named(layer, tensors)))
    assert notes == []
    check(found, {f"{layer.key}.weight": low_rank(pair.down, pair.up, 1.0)})


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_files_in_half_precision(dtype: torch.dtype, pipes: dict[str, Any], tmp_path: Path) -> None:
    layer = chosen(pipes["sd1"])["matrix"]
    tensors, _ = plain(layer)
    half = {name: tensor.to(dtype) for name, tensor in tensors.items()}
    found, _ = changes(pipes["sd1"], save_lora(tmp_path / "ink.safetensors", named(layer, half)))
    wanted = low_rank(half["lora_down.weight"], half["lora_up.weight"], ALPHA / RANK)
    check(found, {f"{layer.key}.weight": wanted})
