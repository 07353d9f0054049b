"""LoRAs on models of clips: the same change in every spelling, two files for two experts, no trace left."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.worker.inference.small import save_lora
from tests.worker.inference.small_clips import LTX_LAYERS, SPELLINGS, WAN_LAYERS, clip_lora
from worker.inference.errors import LoraError
from worker.inference.lora_files import LoraSwitch, LoraUse, LowNoise

NETWORKS = ("transformer", "transformer_2")


@pytest.fixture(params=["video_starter", "wan22_a14b", "ltx"])
def pipe(request: pytest.FixtureRequest, clip_pipes: dict[str, Any]) -> Any:
    return clip_pipes[request.param]


@pytest.fixture
def experts(clip_pipes: dict[str, Any]) -> Any:
    return clip_pipes["wan22_a14b"]


@pytest.fixture
def switches() -> Iterator[list[LoraSwitch]]:
    made: list[LoraSwitch] = []
    yield made
    for switch in made:
        switch.detach()


def switch_of(pipe: Any, switches: list[LoraSwitch]) -> LoraSwitch:
    switches.append(LoraSwitch(pipe))
    return switches[-1]


def use(path: Path, strength: float = 1.0, low: Path | None = None) -> LoraUse:
    second = LowNoise(low, digest(low)) if low else None
    return LoraUse(path, digest(path), path.stem, strength, strength, second)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def weights(pipe: Any) -> dict[str, Tensor]:
    return {
        f"{part}.{name}": tensor.clone()
        for part in NETWORKS
        if getattr(pipe, part, None) is not None
        for name, tensor in getattr(pipe, part).state_dict().items()
    }


def expected(tensors: dict[str, Tensor], strength: float) -> list[np.ndarray[Any, Any]]:
    """Of a file in the spelling `diffusion_model`, in the order of its layers: B · A in float64."""
    pairs = list(tensors.values())
    downs, ups = pairs[0::2], pairs[1::2]
    return [
        strength * (up.double().numpy() @ down.double().numpy()) for down, up in zip(downs, ups, strict=True)
    ]


def check(pipe: Any, before: dict[str, Tensor], changed: dict[str, list[np.ndarray[Any, Any]]]) -> None:
    """Each layer changed by what is expected of its network, and nothing else changed."""
    layers = WAN_LAYERS if "blocks" in dict(pipe.transformer.named_children()) else LTX_LAYERS
    wanted = {
        f"{part}.{layer}.weight": delta
        for part, deltas in changed.items()
        for layer, delta in zip(layers, deltas, strict=True)
    }
    after = weights(pipe)
    for name, own in before.items():
        found = after[name].double().numpy() - own.double().numpy()
        np.testing.assert_allclose(found, wanted.get(name, np.zeros_like(found)), atol=4e-7, err_msg=name)
    assert wanted.keys() <= before.keys()


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_changes_the_same(
    pipe: Any, switches: list[LoraSwitch], tmp_path: Path, spelling: str
) -> None:
    before = weights(pipe)
    path = save_lora(tmp_path / "foam.safetensors", clip_lora(pipe.transformer, spelling))
    switch = switch_of(pipe, switches)
    assert switch.attach([use(path, 0.7)]) == []
    deltas = expected(clip_lora(pipe.transformer), 0.7)
    both = [part for part in NETWORKS if getattr(pipe, part, None) is not None]
    check(pipe, before, dict.fromkeys(both, deltas))
    switch.detach()
    assert all(torch.equal(tensor, before[name]) for name, tensor in weights(pipe).items())


def test_two_files_act_on_two_experts(experts: Any, switches: list[LoraSwitch], tmp_path: Path) -> None:
    before = weights(experts)
    high, low = (clip_lora(experts.transformer, seed=seed) for seed in (1, 2))
    paths = [save_lora(tmp_path / f"{n}.safetensors", t) for n, t in (("high", high), ("low", low))]
    switch = switch_of(experts, switches)
    assert switch.attach([use(paths[0], 0.5, paths[1])]) == []
    check(experts, before, {"transformer": expected(high, 0.5), "transformer_2": expected(low, 0.5)})
    switch.attach([use(paths[1], 0.5)])
    check(experts, before, dict.fromkeys(NETWORKS, expected(low, 0.5)))
    switch.attach([])
    assert all(torch.equal(tensor, before[name]) for name, tensor in weights(experts).items())


def test_a_file_for_low_noise_without_such_an_expert_changes_nothing(
    clip_pipes: dict[str, Any], switches: list[LoraSwitch], tmp_path: Path
) -> None:
    pipe = clip_pipes["video_starter"]
    before = weights(pipe)
    high, low = (clip_lora(pipe.transformer, seed=seed) for seed in (1, 2))
    paths = [save_lora(tmp_path / f"{n}.safetensors", t) for n, t in (("high", high), ("low", low))]
    switch_of(pipe, switches).attach([use(paths[0], 1.0, paths[1])])
    check(pipe, before, {"transformer": expected(high, 1.0)})


def test_layers_around_the_blocks_have_published_names_too(
    clip_pipes: dict[str, Any], switches: list[LoraSwitch], tmp_path: Path
) -> None:
    """LoRAs that make do with few steps change them; differences of norms and biases stand beside."""
    network = clip_pipes["video_starter"].transformer
    before = weights(clip_pipes["video_starter"])
    places = {
        "head.head": "proj_out",
        "text_embedding.0": "condition_embedder.text_embedder.linear_1",
        "time_embedding.2": "condition_embedder.time_embedder.linear_2",
        "time_projection.1": "condition_embedder.time_proj",
        "blocks.0.norm3": "blocks.0.norm2",
        "blocks.1.self_attn.norm_q": "blocks.1.attn1.norm_q",
    }
    tensors = {
        f"diffusion_model.{name}.diff": torch.full_like(network.get_submodule(layer).weight, 0.25)
        for name, layer in places.items()
    }
    tensors["diffusion_model.head.head.diff_b"] = torch.full_like(network.proj_out.bias, 0.5)
    switch = switch_of(clip_pipes["video_starter"], switches)
    assert switch.attach([use(save_lora(tmp_path / "few.safetensors", tensors))]) == []
    after = weights(clip_pipes["video_starter"])
    changed = {name for name in after if not torch.equal(after[name], before[name])}
    assert changed == {f"transformer.{layer}.weight" for layer in places.values()} | {
        "transformer.proj_out.bias"
    }


def test_what_has_no_place_is_told(
    clip_pipes: dict[str, Any], switches: list[LoraSwitch], tmp_path: Path
) -> None:
    pipe = clip_pipes["video_starter"]
    tensors = clip_lora(pipe.transformer)
    tensors |= {
        f"diffusion_model.blocks.77.self_attn.q.lora_{side}.weight": torch.ones(4, 4) for side in ("A", "B")
    }
    path = save_lora(tmp_path / "long.safetensors", tensors)
    notes = switch_of(pipe, switches).attach([use(path)])
    assert notes == [
        "LoRA “long”: 1 entry has no place here and does nothing: diffusion_model.blocks.77.self_attn.q"
    ]


def test_a_lora_of_another_model_is_refused_and_leaves_nothing(
    clip_pipes: dict[str, Any], switches: list[LoraSwitch], tmp_path: Path
) -> None:
    pipe = clip_pipes["video_starter"]
    before = weights(pipe)
    path = save_lora(tmp_path / "other.safetensors", clip_lora(clip_pipes["ltx"].transformer))
    with pytest.raises(LoraError, match="another base model"):
        switch_of(pipe, switches).attach([use(path)])
    assert all(torch.equal(tensor, before[name]) for name, tensor in weights(pipe).items())
    assert load_file(path)
