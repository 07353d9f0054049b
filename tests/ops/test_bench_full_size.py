"""The bench of full-size checkpoints, at a small size."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.bench import __main__ as bench
from tests.bench import full_size, full_size_clips
from tests.worker.families.pieces import tiny_pieces
from tests.worker.families.single import SINGLE_FILE_FAMILIES, listing_of, small
from worker.families import catalog


@pytest.mark.parametrize("name", SINGLE_FILE_FAMILIES)
def test_every_part_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = small(name, tmp_path)
    monkeypatch.setattr(full_size, "layout_of", lambda _: made.layout)
    monkeypatch.setattr(full_size, "LISTINGS", {name: listing_of(made.layout, made.models)})
    monkeypatch.setattr(catalog, "load", lambda _: made.family)
    found: dict[str, dict[str, Any]] = {"recognise": {"words": "small", "seconds": 0.001}}

    def here(part: str, family: str, folder: Path) -> dict[str, Any]:
        if part not in found:
            found[part] = full_size.PARTS[part](family, folder)
        return found[part]

    monkeypatch.setattr(full_size, "in_a_process", here)
    rows = dict(full_size.measure(name))
    assert found["generate"]["pictures"] == 2
    assert found["train"]["lora"] > 10_000
    assert "samples/s" in rows["one step"]
    assert "256 px" in next(what for what in rows if what.startswith("training"))


def test_what_is_not_published_is_not_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(full_size, "LISTINGS", {"sd1": (1, "other")})
    with pytest.raises(SystemExit, match="no longer those of published files"):
        full_size.write_checkpoint("sd1", tmp_path / "x.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize("name", full_size.LISTINGS)
def test_a_true_file_is_recognised_and_mapped(name: str, tmp_path: Path) -> None:
    """All names and shapes with a hole in place of the weights: nothing may read them to load them."""
    path = tmp_path / "checkpoint.safetensors"
    start, _, size = full_size.plan(name)
    with path.open("wb") as file:
        file.write(start)
        file.truncate(len(start) + size)
    assert full_size.run_recognise(name, tmp_path)["words"].endswith("fp16")
    pipe = catalog.load(name).pipeline(path, torch.float16)
    models = [getattr(pipe, part.name) for part in full_size.layout_of(name).parts]
    assert sum(p.numel() for model in models for p in model.parameters()) == size // 2
    assert isinstance(pipe.tokenizer("a photo of a cat").input_ids, list)


def test_operations_of_a_step_are_counted_without_a_device() -> None:
    """SD 1.5 at 512 px: about 0.8 TFLOP forward, and as much again backward through frozen weights."""
    flops = full_size.step_flops("sd1", 512)
    assert 1.2e12 < flops < 2.4e12


def test_the_bench_is_found_by_its_name() -> None:
    assert {"full-size", "loop", "starter"} <= set(bench.names())


def test_a_clip_model_is_counted_and_said_not_to_have_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a device, and without memory for the step on a picture."""
    monkeypatch.setattr(full_size_clips.devices, "choose_device", lambda: torch.device("cpu"))
    monkeypatch.setattr(full_size_clips, "FREE", 1 << 60)
    rows = dict(full_size_clips.measure("wan"))
    assert rows["the transformer"].startswith("1,418,996,800 numbers")
    assert rows["training at 832×480, 33 frames"] == full_size_clips.NOT_RUN
    assert rows["drawing 832×480, 33 frames"] == full_size_clips.NOT_RUN
    assert "less than" in rows["two steps on a picture"]


def test_every_part_of_clips_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small models in pieces, with the sizes of a device's run on a CPU."""
    made = tiny_pieces("wan", tmp_path / "made")
    monkeypatch.setattr(catalog, "load", lambda _: made.family)
    for name, value in (("WIDTH", 64), ("HEIGHT", 64), ("FRAMES", 5), ("TEXT_WIDTH", 16)):
        monkeypatch.setattr(full_size_clips, name, value)
    folder = tmp_path / "run"
    folder.mkdir()
    full_size_clips.write_pieces("wan", folder)
    trained = full_size_clips.PARTS["train"]("wan", folder)
    assert trained["lora"] > 5_000
    assert "samples/s" in full_size.speed(trained)
    assert full_size_clips.PARTS["generate"]("wan", folder)["clips"] == 2
    item, path = full_size_clips.training_item(folder, torch.device("cuda"))
    assert (item.frames, path.suffix) == (5, ".mp4")


def test_operations_of_a_step_on_clips_are_counted_without_a_device() -> None:
    """14 040 tokens: about 80 TFLOP in layers of 1.4 billion numbers and as much in attention."""
    assert 1.2e14 < full_size_clips.step_flops("wan") < 2e14
