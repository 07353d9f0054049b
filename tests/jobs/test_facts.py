"""What a worker measures of its machine, once, by a child."""

import json
import sys
import threading
from pathlib import Path

import pytest

from tests.worker.tiny import tiny_base
from worker.facts import VERSION, Facts
from worker.handlers import ProductHandlers
from worker.main import Worker
from worker.ram import total_ram

REAL = (sys.executable, "-m", "worker.child")
ROOT = Path(__file__).parents[2]


def facts(folder: Path, command: tuple[str, ...] = REAL) -> Facts:
    return Facts(folder, "cpu", command, {"PYTHONPATH": str(ROOT)}, threading.Event())


def test_steps_are_timed_once_and_kept(real_db: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOTTEGA_STARTER", str(tiny_base(tmp_path / "tiny")))
    monkeypatch.setenv("BOTTEGA_QUEUE_THREADS", "1")
    first = facts(tmp_path)
    first.measure_once("train", threading.Event())
    assert first.device_name
    assert (first.memory_bytes or 0) > 0
    assert first.values["seconds_per_step"]["starter"] > 0
    assert first.values["train_memory_bytes"]["starter"] > 0
    again = facts(tmp_path, ("/bin/false",))
    assert again.values == first.values
    again.measure_once("train", threading.Event())
    again.measure_once("generate", threading.Event())


def test_a_ringing_bell_comes_first(real_db: str, tmp_path: Path) -> None:
    bell = threading.Event()
    bell.set()
    stopped = facts(tmp_path)
    stopped.measure_once("train", bell)
    assert stopped.values == {}


def test_a_machine_that_cannot_be_measured_is_asked_once(real_db: str, tmp_path: Path) -> None:
    broken = facts(tmp_path, ("/bin/false",))
    broken.measure_once("generate", threading.Event())
    assert broken.device_name == ""
    kept = json.loads((tmp_path / "facts-cpu.json").read_text())
    assert kept == {"version": VERSION}
    broken._command = ("/does/not/exist",)
    broken.measure_once("generate", threading.Event())


def test_a_folder_that_cannot_be_written_stops_no_worker(real_db: str, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    broken = facts(tmp_path / "cache", ("/bin/false",))
    broken.measure_once("generate", threading.Event())
    assert broken.values == {"version": VERSION}
    broken._command = ("/does/not/exist",)
    broken.measure_once("generate", threading.Event())


@pytest.mark.parametrize(("device", "known"), [("cpu", True), ("0", False)])
def test_a_worker_without_a_card_says_how_much_memory_is_free(
    real_db: str, tmp_path: Path, device: str, known: bool
) -> None:
    worker = Worker(["train"], device, ProductHandlers())
    said = worker._row()["facts"]
    assert ({"memory_free_bytes", "memory_own_bytes"} <= said.keys()) is known
    assert 0 <= said.get("memory_free_bytes", 0) <= total_ram()
