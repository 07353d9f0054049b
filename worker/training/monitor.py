"""What a run tells outwards and hears from there: progress at a bearable rate, wishes at each step.

A wish to stop is kept until the run has obeyed it. The remaining time is told only after enough
steps of this very run were timed.
"""

import time
from collections.abc import Callable

from app.contract.events import Command, LogLine, Metric, Progress
from worker.reporter import Reporter

EVERY_SECONDS = 0.5
STEPS_BEFORE_ETA = 20
METRICS_AT_MOST = 2000
_SMOOTHING = 0.1


class Monitor:
    def __init__(
        self, reporter: Reporter, steps: int, epochs: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self.phase = "preparing"
        self.stop: Command | None = None
        """`cancel` or `pause`, once it was wished."""
        self._reporter = reporter
        self._steps, self._epochs = steps, epochs
        self._wanted: set[Command] = set()
        self._told_at = 0.0
        self._stride = max(1, -(-steps // METRICS_AT_MOST))
        self._step_began: float | None = None
        self._seconds_a_step: float | None = None
        self._timed_steps = 0
        self._ends_left = epochs
        self._seconds_an_end = 0.0
        self.report = reporter.report

    def begin(self, phase: str, *, total: int = 0, unit: str = "step") -> None:
        """Enter a phase; this is always told."""
        self._enter(Progress(phase=phase, total=total, unit=unit))

    def begin_training(self, step: int, epoch: int) -> None:
        """Enter the loop, or come back to it after `step` steps."""
        self._enter(self._training(step, epoch))

    def _enter(self, progress: Progress) -> None:
        self.phase = progress.phase
        self._step_began = None
        self._told_at = self._clock()
        self._reporter.report(progress)

    def count(self, current: int, total: int, unit: str) -> None:
        """Progress within a phase that is not counted in steps."""
        if self._due() or current == total:
            self._reporter.report(Progress(phase=self.phase, current=current, total=total, unit=unit))

    def log(self, message: str, *, warning: bool = False) -> None:
        self._reporter.report(LogLine(level="warning" if warning else "info", message=message))

    def stepped(self, step: int, epoch: int) -> None:
        """An optimizer step is done; `step` counts from 1."""
        now = self._clock()
        if self._step_began is not None:
            self._time_step(now - self._step_began)
        self._step_began = now
        if self._due() or step == self._steps:
            self._reporter.report(self._training(step, epoch))

    def metric(self, step: int, loss: float, lr: float) -> None:
        if step % self._stride == 0 or step in (1, self._steps):
            self._reporter.report(Metric(step=step, loss=loss, lr=lr))

    def epoch_ended(self, seconds: float, ends_left: int) -> None:
        """Saving and sampling after an epoch took `seconds`; so many epochs are still to come."""
        self._seconds_an_end, self._ends_left = seconds, ends_left

    def listen(self) -> Command | None:
        """Take in new wishes; returns the wish to stop, if there is one."""
        while (wish := self._reporter.command()) is not None:
            if wish in ("cancel", "pause"):
                self.stop = "cancel" if "cancel" in (wish, self.stop) else "pause"
            else:
                self._wanted.add(wish)
        return self.stop

    def wants(self, wish: Command) -> bool:
        """Whether this was wished since it was last asked."""
        wanted = wish in self._wanted
        self._wanted.discard(wish)
        return wanted

    def _training(self, step: int, epoch: int) -> Progress:
        return Progress(
            phase="training",
            current=step,
            total=self._steps,
            epoch=epoch,
            epochs=self._epochs,
            rate=1 / self._seconds_a_step if self._seconds_a_step else None,
            eta_seconds=self._eta(step),
        )

    def _time_step(self, seconds: float) -> None:
        self._timed_steps += 1
        before = self._seconds_a_step
        self._seconds_a_step = seconds if before is None else before + _SMOOTHING * (seconds - before)

    def _eta(self, step: int) -> float | None:
        if self._seconds_a_step is None or self._timed_steps < STEPS_BEFORE_ETA:
            return None
        return (self._steps - step) * self._seconds_a_step + self._ends_left * self._seconds_an_end

    def _due(self) -> bool:
        now = self._clock()
        if now - self._told_at < EVERY_SECONDS:
            return False
        self._told_at = now
        return True
