"""What a worker keeps warm between drawings, and for how long it may be preferred.

Loading a checkpoint costs seconds: jobs that need the one in memory may go before others of their round
(`app.jobs.turns`). So that nobody waits for ever, a worker takes the job whose turn it is after so many
that it preferred, or after so many seconds of that.
"""

import time
from collections.abc import Callable

from app.jobs.models import Job
from app.jobs.turns import Warm

JOBS = 8
SECONDS = 60.0


class Warmth:
    """Of one queue's runner. Training keeps nothing warm."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._warm: Warm | None = None
        self._wished: Warm | None = None
        self._jobs, self._since = 0, clock()

    def wish(self) -> Warm | None:
        """What the next claim may prefer; None: take what is next."""
        over = self._jobs >= JOBS or self._clock() - self._since >= SECONDS
        self._wished = None if over else self._warm
        return self._wished

    def drew(self, job: Job) -> None:
        """The job that was claimed with the last wish is done, and its pipeline is in memory."""
        self._warm = Warm.of(job.payload)
        wished = self._wished
        if wished and (wished.base, wished.vae) == (self._warm.base, self._warm.vae):
            self._jobs += 1
        else:
            self._jobs, self._since = 0, self._clock()

    def cool(self) -> None:
        """Nothing is in memory any more."""
        self._warm = None
