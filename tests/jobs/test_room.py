"""Who keeps models gives them back when a training asks, and a dead process keeps nothing."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from worker.ram import free_ram, own_bytes, total_ram
from worker.room import Room

ROOT = Path(__file__).parents[2]
KEEPER = """
import sys, time
from pathlib import Path
from worker.room import Room
Room(Path(sys.argv[1]), "cpu").keep()
print("kept", flush=True)
time.sleep(600)
"""


@pytest.fixture
def rooms(tmp_path: Path) -> Iterator[tuple[Room, Room]]:
    """The drawing process's and the training's."""
    pair = Room(tmp_path, "0"), Room(tmp_path, "0")
    yield pair
    for room in pair:
        room.close()


def test_nobody_waits_where_nothing_is_kept(rooms: tuple[Room, Room]) -> None:
    drawing, training = rooms
    assert not drawing.asked
    assert training.ask(patience=0.0)
    assert drawing.asked


def test_a_training_waits_until_the_models_are_gone(rooms: tuple[Room, Room]) -> None:
    drawing, training = rooms
    drawing.keep()
    assert not training.ask(patience=0.0)
    got: list[bool] = []
    thread = threading.Thread(target=lambda: got.append(training.ask(patience=60.0)))
    thread.start()
    assert drawing.asked
    drawing.let_go()
    thread.join()
    assert got == [True]


def test_when_the_training_ends_models_may_stay_again(tmp_path: Path) -> None:
    drawing, training = Room(tmp_path, "0"), Room(tmp_path, "0")
    training.ask(patience=0.0)
    training.close()
    drawing.keep()
    assert not drawing.asked
    drawing.close()


def test_other_devices_are_not_asked(rooms: tuple[Room, Room], tmp_path: Path) -> None:
    other = Room(tmp_path, "1")
    rooms[0].keep()
    assert other.ask(patience=0.0)
    assert not rooms[0].asked
    other.close()


def test_the_dead_keep_nothing(tmp_path: Path) -> None:
    training = Room(tmp_path, "cpu")
    command = [sys.executable, "-c", KEEPER, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as keeper:
        assert keeper.stdout is not None
        assert keeper.stdout.readline() == "kept\n"
        assert not training.ask(patience=0.0)
        keeper.send_signal(signal.SIGKILL)
    assert training.ask(patience=60.0)
    training.close()


def container(folder: Path, *, limit: str, used: int = 0, cache: int = 0) -> Path:
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 1\ninactive_file {cache}\nslab 2\n")
    return folder


def test_a_container_s_limit_counts(tmp_path: Path) -> None:
    limited = container(tmp_path, limit=str(100 << 20), used=70 << 20, cache=20 << 20)
    assert total_ram(limited) == 100 << 20
    assert free_ram(limited) == 50 << 20
    assert free_ram(container(tmp_path, limit=str(100 << 20), used=120 << 20)) == 0


def test_without_a_limit_the_machine_counts(tmp_path: Path) -> None:
    assert total_ram(tmp_path) == total_ram(container(tmp_path, limit="max"))
    assert 0 < free_ram(tmp_path) <= total_ram(tmp_path)


def test_own_memory_is_what_comes_back_at_the_end() -> None:
    assert 1 << 20 < own_bytes([os.getpid()]) < total_ram()
    assert own_bytes([2**22 + 1]) == 0, "a process that is gone holds nothing"
