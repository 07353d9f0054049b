"""Turns on a device: alone it costs nothing, with a rival both get on, and the dead free it."""

import os
import signal
import subprocess
import sys
import threading
import time
from itertools import pairwise
from pathlib import Path

from worker.device_lock import DeviceTurns

ROOT = Path(__file__).parents[2]
HOLDER = """
import sys, time
from itertools import pairwise
from pathlib import Path
from worker.device_lock import DeviceTurns
with DeviceTurns(Path(sys.argv[1]), "cpu", 1.0):
    print("held", flush=True)
    time.sleep(600)
"""


def test_alone_one_keeps_the_device(tmp_path: Path) -> None:
    with DeviceTurns(tmp_path, "cpu", 0.0) as turns:
        for _ in range(100):
            turns.breathe()
    turns.close()


def test_two_jobs_take_turns(tmp_path: Path) -> None:
    order: list[str] = []
    started = threading.Barrier(2)

    def work(name: str) -> None:
        started.wait()
        turns = DeviceTurns(tmp_path, "cpu", 0.02)
        with turns:
            for _ in range(20):
                order.append(name)
                time.sleep(0.01)
                turns.breathe()
        turns.close()

    threads = [threading.Thread(target=work, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    changes = sum(left != right for left, right in pairwise(order))
    assert sorted(order) == ["a"] * 20 + ["b"] * 20
    assert changes >= 3, order


def test_other_devices_do_not_wait(tmp_path: Path) -> None:
    with DeviceTurns(tmp_path, "0", 1.0) as one, DeviceTurns(tmp_path, "1", 1.0) as two:
        held = (one, two)
    for turns in held:
        turns.close()


def test_a_killed_holder_frees_the_device(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    holder = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT)
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    got = threading.Event()

    def take() -> None:
        with DeviceTurns(tmp_path, "cpu", 1.0) as turns:
            got.set()
        turns.close()

    thread = threading.Thread(target=take)
    thread.start()
    assert not got.wait(0.2)
    os.kill(holder.pid, signal.SIGKILL)
    assert got.wait(30)
    thread.join()
    holder.wait()
    holder.stdout.close()
