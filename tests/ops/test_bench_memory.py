"""The bench of memory: what is counted from shapes, and what is made of measured peaks."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from app.contract.family import TrainMemory
from app.contract.jobs import TrainParams
from tests.bench import memory
from tests.bench.clip_memory import block_numbers, block_peak, build
from tests.bench.meter import peak_of
from tests.worker.tiny import PARAMS, tiny_base
from worker.families import catalog
from worker.families.memory import Figures, adapter_bytes, needs


def linear(**options: Any) -> int:
    """1000 rows through a frozen layer of 8 → 16 numbers: 32 kB in, 64 kB out."""
    layer = nn.Linear(8, 16, bias=False).requires_grad_(False)
    return peak_of(layer, lambda: layer(torch.empty(1000, 8)), **options)


def test_the_meter_counts_what_lives_and_not_the_weights() -> None:
    assert linear() == 32_000 + 64_000


def test_half_precision_under_autocast_takes_its_own_copies() -> None:
    assert linear(bf16=True) > 32_000 + 32_000


def test_norms_are_wide_only_as_on_a_card() -> None:
    def normed(*, cuda: bool) -> int:
        norm = nn.LayerNorm(64).to(torch.bfloat16)
        return peak_of(norm, lambda: norm(torch.empty(1000, 64, dtype=torch.bfloat16)), bf16=True, cuda=cuda)

    assert normed(cuda=True) > normed(cuda=False)


def test_what_waits_for_the_backward_pass_is_counted() -> None:
    class Deep(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList(nn.Linear(32, 32, bias=False) for _ in range(8))

        def forward(self, values: torch.Tensor) -> torch.Tensor:
            for layer in self.layers:
                values = layer(values).tanh()
            return values

    deep = Deep()
    with_gradients = peak_of(deep, lambda: deep(torch.empty(1000, 32)))
    frozen = peak_of(deep.requires_grad_(False), lambda: deep(torch.empty(1000, 32)))
    assert with_gradients > 8 * 1000 * 32 * 4 > frozen


def test_counts_of_the_starter_are_those_of_its_models() -> None:
    known = catalog.specs()["starter"].memory
    assert known is not None
    assert memory.counts("starter") == known.model_dump(exclude={"devices", "blocks", "block"})


@pytest.mark.parametrize("name", ["starter", "sd1", "sdxl"])
def test_every_family_knows_what_it_takes(name: str) -> None:
    spec = catalog.specs()[name]
    assert spec.memory is not None
    for device in ("cpu", "cuda"):
        on = spec.memory.devices[device]
        for precision in ("fp32", "bf16"):
            assert 0 < on.step_checkpointed[precision] < on.step[precision]


FACTS = TrainMemory(
    model=1000, text=100, vae=50, rank=10, rank_convolutions=5, rank_text=3,
    latent=0, caption=0, text_step=0, devices={},
)  # fmt: skip


def measured(p: TrainParams) -> dict[str, int]:
    """Peaks as a machine with 5000 bytes of overhead would have them, 2 bytes a pixel and so on."""
    pixels, held = p.resolution**2, 4000 + adapter_bytes(FACTS, p)
    step = 1 if p.gradient_checkpointing else 2
    return {
        "caching": 5000 + 4600 + 3 * pixels,
        "training": 5000 + held + step * pixels * p.batch_size,
        "sampling": 5000 + held + 600 + 4 * pixels,
    }


def test_a_fit_finds_what_made_the_peaks() -> None:
    chosen = [(64, 1, False), (64, 4, False), (96, 4, False), (64, 4, True), (96, 4, True)]
    runs = [
        (PARAMS.model_copy(update={"resolution": r, "batch_size": b, "gradient_checkpointing": c}), c)
        for r, b, c in chosen
    ]
    found = memory.fitted(FACTS, [(p, measured(p)) for p, _ in runs], "cpu")
    assert found.overhead == pytest.approx(5000, abs=50)
    assert (found.step["fp32"], found.step_checkpointed["fp32"]) == pytest.approx((2, 1), abs=0.1)
    assert (found.encode, found.draw) == pytest.approx((3, 4), abs=0.1)
    assert found.measured_on


def test_at_true_size_one_block_is_on_the_card_however_many_wait_outside() -> None:
    known = catalog.specs()["ltx"].memory
    assert known
    how: dict[str, Any] = {"precision": "bf16", "checkpointed": True, "cuda": True}
    plain, streamed = (
        [block_peak("ltx", 256, layers, streamed=streamed, **how) for layers in (2, 4)]
        for streamed in (False, True)
    )
    more = [two - one for one, two in zip(plain, streamed, strict=True)]
    assert more == [pytest.approx(2 * known.block, rel=0.05)] * 2
    assert sum(block_numbers(build("ltx").network)) == known.blocks


def test_no_measured_peak_is_above_the_estimate() -> None:
    spec = catalog.specs()["starter"]
    chosen = PARAMS.model_copy(update={"resolution": 64, "batch_size": 4})
    peaks = measured(chosen) | {"training": 2 * measured(chosen)["training"]}
    found = memory.fitted(FACTS, [(PARAMS, measured(PARAMS)), (chosen, peaks)], "cpu")
    facts = FACTS.model_copy(update={"devices": {"cpu": found}})
    said = needs(spec.model_copy(update={"memory": facts}), Figures(chosen), "cpu")
    assert said is not None
    assert said.training >= peaks["training"] - 10


def test_what_no_run_tells_of_stays_as_it_was_computed() -> None:
    computed = memory.DeviceMemory(
        overhead=1,
        step={"fp32": 9.0, "bf16": 8.0},
        step_checkpointed={"fp32": 3.0, "bf16": 2.0},
        encode=1,
        draw=1,
    )
    facts = FACTS.model_copy(update={"devices": {"cpu": computed}})
    found = memory.fitted(facts, [(PARAMS, measured(PARAMS))], "cpu")
    assert found.step["bf16"] == 8.0
    assert found.step["fp32"] != 9.0
    assert found.step_checkpointed == computed.step_checkpointed


def test_a_short_run_tells_the_peaks_of_its_phases(tmp_path: Path) -> None:
    peaks = memory.run_phases(catalog.load("starter"), tiny_base(tmp_path), PARAMS)
    assert list(peaks) == ["caching", "training", "sampling"]
    assert min(peaks.values()) > 100 << 20


def test_settings_are_small_without_a_card() -> None:
    assert {memory.settings_of("sdxl", s, "cpu").resolution for s in memory.LARGE_SETTINGS} == {256, 384}
    assert {memory.settings_of("sdxl", s, "cuda").resolution for s in memory.LARGE_SETTINGS} == {1024, 1536}
    assert {memory.settings_of("starter", s, "cpu").resolution for s in memory.SETTINGS} == {128, 192}
