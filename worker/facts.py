"""What a worker finds out about its machine: device, memory, seconds a training step takes.

Measured once, by a child, when the worker has nothing else to do; kept beside the cache, because
a restart changes nothing about it. Importing this module needs no torch.
"""

import json
import logging
import os
import queue
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from app.core.config import get_settings
from worker.child_process import Child

log = logging.getLogger("bottega.facts")
VERSION = 1
PATIENCE = 600.0
"""Seconds for a measurement; it is given up when a job comes or the worker stops."""


def measure(wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Runs in a child. `wanted["steps"]` asks for timed training steps besides the device."""
    from worker.device import choose_device, describe, prepare, total_memory

    device = choose_device()
    prepare(device, int(wanted["threads"]))
    found: dict[str, Any] = {"device": describe(device), "memory_bytes": total_memory(device)}
    if wanted["steps"]:
        found |= _time_training(int(wanted["threads"]))
    return found


def _time_training(threads: int) -> dict[str, Any]:
    """Seconds a step and peak memory by family, of those whose checkpoint is at hand: the starter."""
    from worker.families.catalog import load
    from worker.starter import WEIGHTS
    from worker.training.calibrate import time_steps

    if not (WEIGHTS / "model_index.json").exists():
        return {}
    os.nice(5)
    figures = time_steps(load("starter"), WEIGHTS, threads=threads)
    return {
        "seconds_per_step": {"starter": round(figures.seconds_per_step, 4)},
        "train_memory_bytes": {"starter": figures.peak_memory_bytes},
    }


def _threads() -> int:
    return get_settings().queue.threads or os.cpu_count() or 1


class Facts:
    """The facts of one device. `values` is what goes into the worker's row."""

    def __init__(
        self,
        folder: Path,
        device: str,
        command: Sequence[str],
        env: Mapping[str, str],
        stopping: threading.Event,
    ) -> None:
        self._path = folder / f"facts-{device}.json"
        self._command, self._env, self._stopping = command, env, stopping
        self._lock = threading.Lock()
        self._tried: set[str] = set()
        self.values: dict[str, Any] = self._read()

    @property
    def device_name(self) -> str:
        return str(self.values.get("device", ""))

    @property
    def memory_bytes(self) -> int | None:
        return self.values.get("memory_bytes")

    def _read(self) -> dict[str, Any]:
        try:
            values = json.loads(self._path.read_text())
        except (OSError, ValueError):
            return {}
        return values if values.get("version") == VERSION else {}

    def measure_once(self, name: str, bell: threading.Event) -> None:
        """Find out what the queue `name` needs to know, once a process; stops when the bell rings."""
        key = "seconds_per_step" if name == "train" else "device"
        if name == "files" or name in self._tried or key in self.values:
            return
        if not self._lock.acquire(blocking=False):
            return
        try:
            found = self._ask({"steps": name == "train", "threads": _threads()}, bell)
            if found is not None:
                self._tried.add(name)
                self.values = {**self._read(), **self.values, **found, "version": VERSION}
                self._write()
        except OSError as error:
            self._tried.add(name)
            log.warning("what was measured of this machine could not be kept: %s", error)
        finally:
            self._lock.release()

    def _write(self) -> None:
        """Keep the values for the next start. Workers of one home write the same file."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        part = self._path.with_suffix(f".{os.getpid()}.part")
        part.write_text(json.dumps(self.values))
        part.replace(self._path)

    def _ask(self, wanted: dict[str, Any], bell: threading.Event) -> dict[str, Any] | None:
        child = Child(self._command, self._env)
        child.send({"facts": wanted})
        end = time.monotonic() + PATIENCE
        try:
            while time.monotonic() < end and not bell.is_set() and not self._stopping.is_set():
                try:
                    answer = child.lines.get(timeout=0.2)
                except queue.Empty:
                    continue
                if answer is None:
                    log.warning("this machine could not be measured; the lines above say why")
                return answer["facts"] if isinstance(answer, dict) else {}
            return None
        finally:
            child.close()
