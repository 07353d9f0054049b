"""The bench of changing LoRAs, at a small size."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.bench import __main__ as bench
from tests.bench import switch
from tests.worker.inference.lora_forms import layers_of, models, pairs
from worker.families.kohya_keys import to_kohya


def test_every_row_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = models("sd1")
    state: dict[str, Tensor] = {}
    for pair in pairs(layers_of(pipe)):
        name = pair.layer.key.replace("unet.", "model.", 1)
        state |= {f"{name}.lora_down.weight": pair.down, f"{name}.lora_up.weight": pair.up}
        state[f"{name}.alpha"] = torch.tensor(2.0)

    def small(*_: Any) -> tuple[SimpleNamespace, dict[str, Tensor]]:
        return pipe, to_kohya(state)

    monkeypatch.setattr(switch, "models", small)
    rows = dict(switch.measure("sd1", torch.device("cpu"), torch.float32, tmp_path))
    assert rows["layers changed, rank 16"].startswith(f"{len(layers_of(pipe))}, ")
    assert all(value.split()[0].replace(".", "").rstrip(",").isdigit() for value in rows.values())
    assert "switch" in bench.names()
