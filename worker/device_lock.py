"""One device, one job at a time: training and drawing on the same device take turns.

Two file locks make the turns fair: who wants the device holds the gate while waiting, so the
holder sees at its next step that somebody waits, and cannot take the device back first. The
kernel frees both when a process dies. Without a rival a step costs two system calls.
"""

import fcntl
import os
import time
from pathlib import Path
from types import TracebackType

TRAIN_SECONDS = 2.0
GENERATE_SECONDS = 6.0
"""How long a job keeps the device, at least, when others wait: somebody looks at the drawing one."""


class DeviceTurns:
    """Hold it (`with`) while using the device, and `breathe()` between steps."""

    def __init__(self, folder: Path, device: str, slice_seconds: float) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.slice_seconds = slice_seconds
        self._device = os.open(folder / f"device-{device}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        self._gate = os.open(folder / f"device-{device}.gate", os.O_RDWR | os.O_CREAT, 0o600)
        self._since = 0.0

    def __enter__(self) -> "DeviceTurns":
        fcntl.flock(self._gate, fcntl.LOCK_EX)
        fcntl.flock(self._device, fcntl.LOCK_EX)
        fcntl.flock(self._gate, fcntl.LOCK_UN)
        self._since = time.monotonic()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        fcntl.flock(self._device, fcntl.LOCK_UN)

    def breathe(self) -> None:
        """Let a waiting job have its turn, once this one has had its own."""
        if time.monotonic() - self._since >= self.slice_seconds and self._somebody_waits():
            self.__exit__(None, None, None)
            self.__enter__()

    def _somebody_waits(self) -> bool:
        try:
            fcntl.flock(self._gate, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        fcntl.flock(self._gate, fcntl.LOCK_UN)
        return False

    def close(self) -> None:
        os.close(self._device)
        os.close(self._gate)
