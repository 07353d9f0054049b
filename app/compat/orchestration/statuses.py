"""Civitai's words for how far a job, a step and a workflow are."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from app.contract.states import JobState
from app.jobs.models import Job

OVER = frozenset({"succeeded", "failed", "expired", "canceled"})
_WORDS = {
    JobState.STARTING: "preparing", JobState.RUNNING: "processing", JobState.PAUSING: "processing",
    JobState.CANCELING: "processing", JobState.PAUSED: "unassigned",
}  # fmt: skip
_BAD = ("failed", "canceled", "expired")
_BUSY = ("processing", "preparing", "scheduled", "unassigned")


def job_status(job: Job, served: Collection[str]) -> str:
    """`served` are the queues that some living worker takes jobs from."""
    state = JobState(job.status)
    if state is JobState.QUEUED:
        return "scheduled" if job.queue in served else "unassigned"
    return _WORDS.get(state, state.value)


def step_status(step: Mapping[str, Any], jobs: Sequence[Job], served: Collection[str]) -> str:
    """A training whose pictures are still being read is preparing; jobs that were deleted have expired."""
    if "ended" in step:
        return str(step["ended"]["status"])
    working = [job for job in jobs if job.type != "files"]
    if working:
        return combined(job_status(job, served) for job in working)
    if not jobs:
        return "expired"
    word = job_status(jobs[0], served)
    return word if word in _BAD else "preparing"


def combined(words: Iterable[str]) -> str:
    """The status of the whole: it is over when every part is, and bad when one part is."""
    parts = list(words)
    if all(word in OVER for word in parts):
        return next((word for word in _BAD if word in parts), "succeeded")
    if any(word in OVER for word in parts):
        return "processing"
    return next(word for word in _BUSY if word in parts)
