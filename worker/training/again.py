"""What a run does when memory ran out: once, it begins again from its last resume point with less.

The remedies are the planner's (`worker.families.memory`). None changes what a step learns from: where the
batch shrinks, accumulation grows. What was changed travels with the resume points, so that a run that is
killed later goes on with the same settings, to the same bits.
"""

import gc
from dataclasses import replace
from typing import Any

import torch

from app.contract.jobs import TrainJob
from worker import device as devices
from worker.families.memory import needs, remedies, weight_ways
from worker.ram import free_ram
from worker.training.run import Task

OWN = ("sparing", "streamed")
"""Of the job itself, not of its settings."""
CHANGED = ("gradient_checkpointing", "batch_size", "gradient_accumulation", *OWN)
"""All that remedies touch here: int8 would change what the adapter learns on, so only a plan offers it."""


def with_less(task: Task, phase: str) -> Task | None:
    """The task with the next remedy for the phase in which memory ran out, said in the log.

    None where it began again already, or nothing is left to save on. Frees what the run held.
    """
    if task.lowered:
        return None
    cure = next(remedies(task.job, phase=phase, ways=ways_left(task)), None)
    if cure is None:
        return None
    job, changes = cure
    release(task.device)
    words = " and ".join(change.words for change in changes)
    task.monitor.log(
        f"The memory was full while {phase} ({devices.describe(task.device)}). "
        f"Going on from the last save with less: {words}.",
        warning=True,
    )
    return replace(task, job=job, asked=task.original, lowered=difference(task.original, job))


def ways_left(task: Task) -> tuple[str, ...]:
    """Whether blocks can wait in host memory: on a card, where the host has room for them."""
    streamed = task.job.model_copy(update={"streamed": True})
    found = needs(task.family.spec, streamed, task.device.type)
    roomy = found is not None and found.host <= free_ram()
    known = weight_ways(task.family.spec, task.device.type)
    return tuple(way for way in known if way == "streamed" and roomy)


def difference(asked: TrainJob, job: TrainJob) -> dict[str, Any]:
    """Names and values of what `job` has otherwise than `asked`."""
    was, now = _settings(asked), _settings(job)
    return {name: now[name] for name in CHANGED if now[name] != was[name]}


def lower(task: Task, lowered: dict[str, Any]) -> None:
    """Set in `task` what an earlier attempt had changed, as its resume point tells."""
    asked = task.original
    params = {name: value for name, value in lowered.items() if name not in OWN}
    task.asked, task.lowered = asked, lowered
    task.job = asked.model_copy(
        update={
            "params": asked.params.model_copy(update=params),
            **{name: lowered.get(name, getattr(asked, name)) for name in OWN},
        }
    )


def _settings(job: TrainJob) -> dict[str, Any]:
    return job.params.model_dump() | {name: getattr(job, name) for name in OWN}


def release(device: torch.device) -> None:
    """Give back what nobody holds any more."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
