"""Keeps the lease of one job while its child works, from a thread of its own.

The answer to a heartbeat carries the user's wishes. No row updated means that the lease is lost:
the child is killed at once. A broken connection means nothing yet: the heart tries again until
the lease has ended by this machine's own steady clock.
"""

import threading
import time
from collections.abc import Callable, Sequence

from sqlalchemy.exc import DBAPIError

from app.contract.events import Command
from app.core.config import get_settings
from app.core.db import unit_of_work
from app.jobs import leases
from app.jobs.leases import Lease, LeaseLost

JOIN_SECONDS = 15.0


class Heart:
    """Start it after the claim. `claimed_at` is `time.monotonic()` from before the claim was sent."""

    def __init__(
        self,
        lease: Lease,
        claimed_at: float,
        *,
        on_beat: Callable[[Sequence[Command], float], None],
        on_lost: Callable[[], None],
    ) -> None:
        queue = get_settings().queue
        self._lease, self._seconds, self._period = lease, queue.lease_seconds, queue.heartbeat_seconds
        self._on_beat, self._on_lost = on_beat, on_lost
        self.deadline = claimed_at + self._seconds
        self.lost = False
        self._stop = threading.Event()
        self.lock = threading.Lock()
        """Held while the job is being ended, so that the end is not mistaken for a lost lease."""
        self._thread = threading.Thread(target=self._run, name=f"heart {lease.job_id}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def expired(self) -> bool:
        return self.lost or time.monotonic() > self.deadline

    def stop(self) -> None:
        self._stop.set()

    def join(self) -> None:
        """Wait for a beat that is under way; it says nothing any more."""
        if self._thread is not threading.current_thread():
            self._thread.join(JOIN_SECONDS)

    def _run(self) -> None:
        wait = self._period
        while not self._stop.wait(wait):
            with self.lock:
                if self._stop.is_set():
                    return
                wait = self._period if self._beat() else self._period / 4
            if self.lost:
                self._on_lost()
                return

    def _beat(self) -> bool:
        asked = time.monotonic()
        try:
            with unit_of_work() as db:
                wishes = leases.heartbeat(db, self._lease)
        except LeaseLost:
            self.lost = True
            return False
        except DBAPIError:
            self.lost = time.monotonic() > self.deadline
            return False
        self.deadline = asked + self._seconds
        self._on_beat(wishes, self.deadline - time.monotonic())
        return True
