"""What the drawing process keeps between jobs: its pipelines, until a training needs their memory."""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from app.core.config import get_settings
from worker.device import choose_device, free_memory, total_memory
from worker.inference.pool import PipelinePool
from worker.room import Room

log = logging.getLogger("bottega.child")
LOOK_SECONDS = 0.5


def pool_budget(device: torch.device, share: float) -> int:
    """Bytes for the pool: a share of the card, or of the memory that a machine has left now."""
    return int(share * (total_memory(device) if device.type == "cuda" else free_memory(device)))


class Keeping:
    """The pool of this process. A thread looks whether somebody needs its memory while no job is at work."""

    def __init__(self, folder: Path, device_name: str, pool: PipelinePool | None = None) -> None:
        device = choose_device()
        share = get_settings().queue.pool_share
        self.pool = pool or PipelinePool(pool_budget(device, share), device=device)
        self.room = Room(folder, device_name)
        self._at_work = threading.Lock()
        threading.Thread(target=self._watch, name="keeping", daemon=True).start()

    @contextmanager
    def at_work(self) -> Iterator[PipelinePool]:
        """The pool for one job. It is emptied afterwards where a training asks for the memory."""
        with self._at_work:
            self.room.keep()
            try:
                yield self.pool
            finally:
                self.give_back()

    def give_back(self) -> None:
        """Empty the pool if it was asked for; call it only where no job is at work."""
        if self.room.asked:
            if self.pool.warm:
                log.info("models are unloaded: a training needs their memory")
                self.pool.clear()
            self.room.let_go()

    def _watch(self) -> None:
        while True:
            time.sleep(LOOK_SECONDS)
            if self._at_work.acquire(blocking=False):
                try:
                    self.give_back()
                finally:
                    self._at_work.release()
