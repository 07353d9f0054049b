"""Adapter, learning rate, optimizer state, what is told outwards, the device."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from app.contract.events import Metric, Progress
from app.contract.jobs import TrainParams
from tests.worker.tiny import PARAMS, tiny_job
from worker import device as devices
from worker.draws import Draws
from worker.families import catalog
from worker.reporter import NullReporter
from worker.training.checkpoint import ensure_space, flatten_optimizer, restore_optimizer, write_tensors
from worker.training.errors import TrainingError
from worker.training.latents import load_cache
from worker.training.lora import Adapter, inject
from worker.training.monitor import Monitor
from worker.training.optim import create_optimizer, describe_optimizer, lr_factor, set_rate, warmup_steps

CPU = torch.device("cpu")
FAMILY = catalog.load("starter")


def adapter_for(base: Path, **changes: Any) -> tuple[Any, Adapter]:
    parts = FAMILY.load(base, CPU, torch.float32)
    params = PARAMS.model_copy(update=changes)
    return parts, inject(parts, FAMILY.lora_targets(parts), params, Draws(0))


def test_the_adapter_sits_where_sd_scripts_puts_it(base: Path) -> None:
    _, adapter = adapter_for(base)
    attention = [name for name in adapter.layers if ".transformer_blocks.0.attn" in name]
    blocks = len({name.split(".transformer_blocks")[0] for name in attention})
    assert len(adapter.layers) == blocks * 12
    assert all(name.startswith("model.") and "resnets" not in name for name in adapter.layers)
    _, wide = adapter_for(base, conv_dim=2, conv_alpha=1.0, text_encoder_lr=1e-4)
    convolutions = [name for name in wide.layers if "resnets" in name or "samplers" in name]
    text = [name for name in wide.layers if name.startswith("text_encoder.")]
    assert len(wide.layers) == len(adapter.layers) + len(convolutions) + len(text)
    assert len(text) == 2 * 6
    assert any("downsamplers" in name for name in convolutions)
    state = wide.state()
    assert {len(state[f"{name}.lora_down.weight"]) for name in convolutions} == {2}
    assert {len(state[f"{name}.lora_down.weight"]) for name in text} == {4}


def test_a_fresh_adapter_changes_nothing_and_says_so(base: Path) -> None:
    _, adapter = adapter_for(base)
    assert adapter.relative_change() == 0
    name, layer = next(iter(adapter.layers.items()))
    torch.nn.init.ones_(layer.lora_B["default"].weight)
    weight = layer.get_base_layer().weight.double()
    down = adapter.state()[f"{name}.lora_down.weight"].double().flatten(1)
    delta = 2.0 / 4 * torch.ones(len(weight), 4, dtype=torch.float64) @ down
    assert adapter.relative_change() == pytest.approx(float(delta.norm() / weight.norm()), rel=1e-5)


def test_switched_off_is_the_model_as_it_was(base: Path) -> None:
    parts, adapter = adapter_for(base)
    for layer in adapter.layers.values():
        torch.nn.init.ones_(layer.lora_B["default"].weight)
    generator = torch.Generator().manual_seed(0)
    inputs = (torch.randn(1, 6, 8, 8, generator=generator), torch.tensor([5]))
    cond = torch.randn(1, 77, 32, generator=generator)
    plain = FAMILY.load(base, CPU, torch.float32).model
    with torch.no_grad():
        before = plain(*inputs, encoder_hidden_states=cond).sample
        changed = parts.model(*inputs, encoder_hidden_states=cond).sample
        with adapter.switched_off():
            off = parts.model(*inputs, encoder_hidden_states=cond).sample
    assert torch.equal(before, off)
    assert not torch.equal(before, changed)


def test_the_seed_decides_how_the_adapter_starts_and_nothing_else_does(base: Path) -> None:
    torch.manual_seed(1)
    one = adapter_for(base)[1].state()
    torch.manual_seed(2)
    two = adapter_for(base)[1].state()
    assert all(torch.equal(one[name], two[name]) for name in one)


def factors(steps: int = 10, **changes: Any) -> list[float]:
    params = PARAMS.model_copy(update={"lr_warmup": 0.0} | changes)
    return [lr_factor(params, step, steps) for step in range(steps)]


def test_schedules() -> None:
    assert factors(lr_scheduler="constant") == [1.0] * 10
    assert factors(lr_scheduler="linear") == pytest.approx([1 - step / 10 for step in range(10)])
    assert factors(lr_scheduler="cosine") == pytest.approx(
        [0.5 * (1 + math.cos(math.pi * step / 10)) for step in range(10)]
    )
    restarts = factors(lr_scheduler="cosine_with_restarts", lr_cycles=2)
    assert restarts[:5] == pytest.approx(restarts[5:])
    warm = factors(lr_scheduler="constant", lr_warmup=0.3)
    assert warm == pytest.approx([0.25, 0.5, 0.75] + [1.0] * 7)
    assert warmup_steps(PARAMS.model_copy(update={"lr_warmup": 0.3}), 10) == 3
    for scheduler in ("constant", "cosine", "cosine_with_restarts", "linear"):
        assert all(0 < factor <= 1 for factor in factors(37, lr_scheduler=scheduler, lr_warmup=0.1))


@pytest.mark.parametrize("name", ["adamw", "prodigy", "adafactor"])
def test_an_optimizer_comes_back_as_it_was(name: str, base: Path, tmp_path: Path) -> None:
    params: TrainParams = PARAMS.model_copy(
        update={"optimizer": name, "unet_lr": 1.0, "text_encoder_lr": 1.0}
    )

    def start() -> tuple[list[torch.nn.Parameter], torch.optim.Optimizer]:
        _, adapter = adapter_for(base, text_encoder_lr=1.0)
        return [*adapter.parameters("model"), *adapter.parameters("text_encoder")], create_optimizer(
            adapter, params
        )

    def step(tensors: list[torch.nn.Parameter], optimizer: torch.optim.Optimizer, number: int) -> None:
        for index, tensor in enumerate(tensors):
            tensor.grad = torch.full_like(tensor, 0.01 * (number + 1) * (-1) ** index)
        set_rate(optimizer, 0.5)
        optimizer.step()

    tensors, optimizer = start()
    for number in range(2):
        step(tensors, optimizer, number)
    state, plain = flatten_optimizer(optimizer)
    save_file(state, tmp_path / "state.safetensors")
    state, plain = load_file(tmp_path / "state.safetensors"), json.loads(json.dumps(plain))
    again, other = start()
    with torch.no_grad():
        for mine, theirs in zip(again, tensors, strict=True):
            mine.copy_(theirs)
    restore_optimizer(other, {key.removeprefix("optimizer/"): value for key, value in state.items()}, plain)
    step(tensors, optimizer, 2)
    step(again, other, 2)
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(again, tensors, strict=True))
    assert describe_optimizer(params).lower().count(name) >= 1


def test_progress_is_told_at_a_bearable_rate_and_time_left_after_twenty_steps() -> None:
    clock = iter(number * 0.1 for number in range(10_000))
    reporter = NullReporter()
    monitor = Monitor(reporter, 100, 2, clock=lambda: next(clock))
    monitor.begin_training(0, 1)
    for step in range(1, 101):
        monitor.stepped(step, 1)
    told = [event for event in reporter.events if isinstance(event, Progress)]
    assert len(told) < 60
    assert told[-1].current == 100
    assert all(event.eta_seconds is None for event in told if event.current <= 20)
    late = [event for event in told if event.current > 21]
    assert all(event.eta_seconds is not None and event.rate is not None for event in late)
    assert late[-1].eta_seconds == pytest.approx(0)


def test_long_runs_report_two_thousand_losses_at_most() -> None:
    reporter = NullReporter()
    monitor = Monitor(reporter, 9000, 1)
    for step in range(1, 9001):
        monitor.metric(step, 0.1, 1e-4)
    metrics = [event.step for event in reporter.events if isinstance(event, Metric)]
    assert len(metrics) <= 2001
    assert (metrics[0], metrics[-1]) == (1, 9000)


def test_cancel_outweighs_pause_and_wishes_are_granted_once() -> None:
    monitor = Monitor(NullReporter(["sample", "pause", "cancel", "pause"]), 1, 1)
    assert monitor.listen() == "cancel"
    assert (monitor.wants("sample"), monitor.wants("sample"), monitor.wants("save")) == (True, False, False)


def test_files_are_whole_or_absent(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.safetensors"
    write_tensors(path, {"a": torch.ones(3)}, {"key": "x"})
    assert [file.name for file in path.parent.iterdir()] == ["file.safetensors"]
    with pytest.raises(TrainingError, match="disk is full"):
        ensure_space(tmp_path, 2**60)
    assert load_cache(path, "y", CPU) is None
    assert load_cache(tmp_path / "absent", "y", CPU) is None


def test_memory_is_known_and_its_lack_is_told_in_words() -> None:
    assert 2**20 < devices.peak_memory(CPU) < devices.total_memory(CPU)
    assert 0 < devices.free_memory(CPU) <= devices.total_memory(CPU)
    assert devices.describe(CPU) == "CPU"
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**50, dtype=torch.float64)
    assert devices.is_out_of_memory(caught.value)
    assert devices.is_out_of_memory(MemoryError())
    assert not devices.is_out_of_memory(RuntimeError("shape mismatch"))
    assert "batch size" in devices.out_of_memory_words(CPU, "training")
    assert "sample pictures" in devices.out_of_memory_words(CPU, "sampling")


def test_a_job_too_large_for_the_memory_ends_in_words(
    base: Path, pictures: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.worker.tiny import tiny_files
    from worker.training import recipe

    def too_large(*_: Any, **__: Any) -> None:
        torch.empty(2**50, dtype=torch.float64)

    monkeypatch.setattr(recipe, "train_step", too_large)
    finished = recipe.train(tiny_job(pictures), FAMILY, tiny_files(base, pictures), tmp_path, NullReporter())
    assert (finished.outcome, finished.code) == ("failed", "out-of-memory")
    assert "while training" in (finished.detail or "")
