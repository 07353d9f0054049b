"""What a run writes between two steps: resume points for itself, adapters for other programs."""

import hashlib
import json
import time
from pathlib import Path

from app.contract.events import Checkpoint, ResumePoint
from app.contract.jobs import TrainJob
from worker.training.checkpoint import Resume, file_sha256, find_resume, read_resume, save_resume
from worker.training.errors import diverged
from worker.training.export import FOLDER, export_adapter
from worker.training.latents import TRAVELS_UP_TO, cache_key
from worker.training.metadata import Moment
from worker.training.run import Run, Task


def job_key(job: TrainJob) -> str:
    """A resume point serves the very job that it was made by; where weights wait decides nothing."""
    aside = {"sparing", "streamed"} | (set() if job.quantised else {"quantised"})
    return hashlib.sha256(job.model_dump_json(exclude=aside).encode()).hexdigest()


def furthest_resume(task: Task, given: Path | None) -> Resume | None:
    """Of `given` and the points in the work folder, the furthest that can be read and fits the job."""
    paths = find_resume(task.out) + ([given] if given else [])
    points = [point for path in paths if (point := read_resume(path, job_key(task.original)))]
    return max(points, key=lambda point: point.state.step, default=None)


def save_point(run: Run, since: float) -> None:
    """Write and report a resume point. The cache goes with it while it is small.

    `since`: when the run began by the monotonic clock, time between attempts taken out.
    """
    if not run.adapter.is_finite():
        raise diverged(run.state.step)
    run.state.run_seconds = time.monotonic() - since
    run.state.lowered = run.lowered
    cache = None
    if run.cache.size <= TRAVELS_UP_TO:
        key = cache_key(run.job, run.examples)
        cache = (key, run.cache.tensors(), json.dumps(list(run.cache.rows)))
    adapter = run.adapter.state()
    path = save_resume(run.out, run.state, adapter, run.optimizer, cache=cache, job_key=job_key(run.original))
    run.monitor.report(
        ResumePoint(
            step=run.state.step,
            path=str(path.relative_to(run.out)),
            size=path.stat().st_size,
            sha256=file_sha256(path),
        )
    )


def write_adapter(run: Run, epoch: int, name: str, picture: Path | None = None) -> Checkpoint:
    """The adapter as it is now, as `<output name>-<name>.safetensors`. `picture` becomes its thumbnail."""
    moment = Moment(
        epoch=epoch,
        step=run.state.step,
        started_at=run.state.started_at,
        finished_at=time.time(),
        prediction_type=run.family.prediction_type(run.parts),
        zero_terminal_snr=bool(run.parts.scheduler.config.get("rescale_betas_zero_snr")),
        thumbnail=picture,
    )
    return export_adapter(run, run.out / FOLDER / f"{run.job.output_name}-{name}.safetensors", moment)
