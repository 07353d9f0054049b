"""The status sentence and the other words of the job page: plain, honest, one place."""

from datetime import UTC, datetime
from typing import Any

from app.core.config import get_settings
from app.core.errors import Invalid
from app.jobs.models import Job
from app.training.schemas import MemoryPlan
from app.web.templating import duration, thousands

PHASES = (
    ("preparing", "Loading the base model"),
    ("caching", "Preparing pictures and labels"),
    ("training", "Training"),
    ("sampling", "Drawing samples"),
    ("saving", "Saving"),
)
STATUS = {
    "queued": "Waiting",
    "starting": "Starting",
    "running": "Running",
    "pausing": "Pausing",
    "paused": "Paused",
    "canceling": "Stopping",
    "succeeded": "Done",
    "failed": "Failed",
    "canceled": "Stopped",
    "expired": "Expired",
}
KIND = {"succeeded": "good", "failed": "bad", "canceled": "", "expired": "", "paused": "advice"}


def by_field(error: Invalid) -> dict[str, str]:
    """What is wrong, by the name of the form's field; `""` for what belongs to none."""
    return {e.pointer.removeprefix("#/").split("/")[-1]: e.detail for e in error.errors} or {"": error.detail}


def sentence(job: Job, ahead: int, *, served: bool) -> str:
    """What is going on, as the page's title."""
    if job.status == "queued":
        return _waiting(job, ahead, served)
    if job.status in ("starting", "running"):
        return _running(job, job.progress or {}, job.phase)
    fixed = {
        "pausing": "Pausing after this step.",
        "paused": f"Paused at step {thousands(_step(job))}. Nothing is lost.",
        "canceling": "Stopping after this step.",
        "canceled": "Stopped. The checkpoints so far are kept.",
        "succeeded": "Done. Pick the best.",
        "expired": "It waited for so long that it was ended. Start it again when you need it.",
    }
    return fixed.get(job.status) or failure(job)


def _waiting(job: Job, ahead: int, served: bool) -> str:
    if not served:
        return "Waiting: no training machine is online."
    if job.lost:
        return f"The server restarted. Going on from step {thousands(job.resume_step)} in a moment."
    if ahead == 0:
        return "Waiting for the training machine. It is your turn next."
    return f"Waiting: {ahead} job{'s' if ahead != 1 else ''} ahead."


def _step(job: Job) -> int:
    return int((job.progress or {}).get("current") or job.resume_step or 0)


def _running(job: Job, progress: dict[str, Any], phase: str | None) -> str:
    if phase != "training" or not progress.get("total"):
        return dict(_phases(job)).get(phase or "", "Starting") + "."
    text = f"Step {thousands(progress.get('current', 0))} of {thousands(progress['total'])}"
    if progress.get("epochs"):
        text += f", epoch {progress.get('epoch') or 1} of {progress['epochs']}"
    eta = progress.get("eta_seconds")
    return f"{text}. About {duration(eta)} left." if eta else f"{text}."


def _phases(job: Job) -> list[tuple[str, str]]:
    of_clips = (job.input or {}).get("media") == "video"
    return [(key, words.replace("pictures", "clips") if of_clips else words) for key, words in PHASES]


def failure(job: Job) -> str:
    error = job.error or {}
    return str(error.get("detail") or "The training failed.").split("\n")[0]


def phases(job: Job) -> list[tuple[str, str, str]]:
    """(key, words, state) of the phases in order; state is `done`, `now` or `later`."""
    shown = _phases(job)[:3]
    keys = [key for key, _ in shown]
    if job.status in ("succeeded",):
        return [(key, words, "done") for key, words in shown]
    phase = job.phase or ("preparing" if job.status in ("starting", "running") else "")
    at = keys.index(phase) if phase in keys else (2 if phase in ("sampling", "saving") else -1)
    states = ["done" if n < at else "now" if n == at else "later" for n in range(3)]
    return [(key, words, state) for (key, words), state in zip(shown, states, strict=True)]


def figures(job: Job) -> list[str]:
    """Small facts behind the phases: rate and memory, only those that were measured."""
    progress, metrics = job.progress or {}, job.metrics or {}
    facts = []
    if rate := progress.get("rate"):
        facts.append(f"{rate:.1f} steps a second" if rate >= 0.95 else f"{1 / rate:.1f} seconds a step")
    if peak := metrics.get("peak_memory_bytes"):
        facts.append(f"{peak / 1e9:.1f} GB of memory")
    return facts


def memory_need(plan: MemoryPlan | None) -> str:
    """One line of the review: what is needed, and of how much."""
    if plan is None:
        return "not measured on this machine yet"
    about = "" if plan.measured else "about "
    need = f"Needs {about}{plan.needed_bytes / 1e9:.1f} GB"
    if plan.available_bytes is None:
        return f"{need}. No training machine is online to compare that with."
    where = "" if plan.device == "this machine" else f" ({plan.device})"
    return f"{need} of {plan.available_bytes / 1e9:.1f} GB{where}"


def memory_taken(job: Job) -> str:
    """What a run took, beside what was planned; empty before it has ended."""
    metrics = job.metrics or {}
    peak = metrics.get("peak_memory_bytes")
    if not peak:
        return ""
    planned = ((job.input or {}).get("memory") or {}).get("needed_bytes")
    text = f"Took {peak / 1e9:.1f} GB of memory"
    text += f"; {planned / 1e9:.1f} GB were planned." if planned else "."
    if metrics.get("memory_retries"):
        text += " Memory ran out once, so it went on with less: the log says with what."
    return text


def silent_since(job: Job) -> float | None:
    """Seconds since the worker's last sign, once that is long enough to say so."""
    if job.status not in ("running", "starting") or job.heartbeat_at is None:
        return None
    silent = (datetime.now(UTC) - job.heartbeat_at).total_seconds()
    return silent if silent > get_settings().queue.lease_seconds else None
