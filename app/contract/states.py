"""The states of a job and the moves between them.

Terminal states are final. `pausing` and `canceling` are wishes that the worker
has not yet answered. Spelled as Replicate does ("canceled").
"""

from enum import StrEnum


class JobState(StrEnum):
    QUEUED = "queued"
    STARTING = "starting"
    RUNNING = "running"
    PAUSING = "pausing"
    PAUSED = "paused"
    CANCELING = "canceling"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"
    EXPIRED = "expired"


TERMINAL = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELED, JobState.EXPIRED})
LEASED = frozenset({JobState.STARTING, JobState.RUNNING, JobState.PAUSING, JobState.CANCELING})
"""States in which some worker holds the job's lease."""

_ENDS = {JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELED}
ALLOWED: dict[JobState, frozenset[JobState]] = {
    JobState.QUEUED: frozenset({JobState.STARTING, JobState.CANCELED, JobState.EXPIRED, JobState.PAUSED}),
    JobState.STARTING: frozenset(
        {JobState.RUNNING, JobState.PAUSING, JobState.CANCELING, JobState.QUEUED} | _ENDS
    ),
    JobState.RUNNING: frozenset(
        {JobState.PAUSING, JobState.CANCELING, JobState.QUEUED, JobState.PAUSED} | _ENDS
    ),
    JobState.PAUSING: frozenset({JobState.PAUSED, JobState.CANCELING, JobState.QUEUED} | _ENDS),
    JobState.PAUSED: frozenset({JobState.QUEUED, JobState.CANCELED, JobState.EXPIRED}),
    JobState.CANCELING: frozenset(_ENDS),
    **{
        state: frozenset()
        for state in (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELED, JobState.EXPIRED)
    },
}
