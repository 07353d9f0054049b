"""Models that are kept on a device between jobs, and given back when a training asks for the room.

The drawing process holds a shared lock while it keeps models. A training that finds too little memory locks
`asked` for as long as it runs, and waits until nobody keeps any: then models live there for one job only.
The kernel frees both locks when a process dies.
"""

import fcntl
import os
import time
from pathlib import Path

LOOK_SECONDS = 0.2


class Room:
    """One process's end of it. Files lie beside the device's locks."""

    def __init__(self, folder: Path, device: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._kept = os.open(folder / f"device-{device}.kept", os.O_RDWR | os.O_CREAT, 0o600)
        self._asked = os.open(folder / f"device-{device}.asked", os.O_RDWR | os.O_CREAT, 0o600)

    # the side that keeps models

    def keep(self) -> None:
        """Say that models stay in memory."""
        fcntl.flock(self._kept, fcntl.LOCK_SH)

    def let_go(self) -> None:
        fcntl.flock(self._kept, fcntl.LOCK_UN)

    @property
    def asked(self) -> bool:
        """Whether a training needs the room."""
        return not _try(self._asked)

    # the side that needs the room

    def ask(self, patience: float) -> bool:
        """Ask for the room until `close`, and wait for it; False where nobody gave it in so many seconds."""
        fcntl.flock(self._asked, fcntl.LOCK_SH)
        end = time.monotonic() + patience
        while not (free := _try(self._kept)) and time.monotonic() < end:
            time.sleep(LOOK_SECONDS)
        return free

    def close(self) -> None:
        os.close(self._kept)
        os.close(self._asked)


def _try(lock: int) -> bool:
    """Whether nobody else holds it."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    fcntl.flock(lock, fcntl.LOCK_UN)
    return True
