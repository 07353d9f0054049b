"""`bottega jobs`: look at one's jobs and steer them, over REST."""

from textwrap import shorten

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from app.cli.client import Client
from app.cli.remote import Json, print_json, watch

jobs_app = typer.Typer(help="Look at your jobs and steer them.", invoke_without_command=True)


@jobs_app.callback()
def jobs(context: typer.Context, status: str = "", limit: int = 20, as_json: Json = False) -> None:
    """List your jobs, newest first."""
    if context.invoked_subcommand:
        return
    params = {"limit": limit} | ({"status": status} if status else {})
    page = Client().get("/api/v1/jobs", **params)
    if as_json:
        print_json(page)
        return
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for title in ("Job", "Name", "Status", "Done"):
        table.add_column(title, no_wrap=True)
    for job in page["items"]:
        done = f"{100 * (job['progress'].get('fraction') or 0):.0f} %"
        name = shorten(job.get("name") or job["type"], 26, placeholder=" …")  # leaves room for whole ids
        table.add_row(job["id"], name, job["status"], done)
    Console().print(table)


@jobs_app.command("show")
def show_job(job_id: str) -> None:
    """One job as JSON."""
    print_json(Client().get(f"/api/v1/jobs/{job_id}"))


@jobs_app.command("wait")
def wait_for_job(job_id: str, as_json: Json = False) -> None:
    """Stay until a job is over; exit code 1 when it did not succeed."""
    job = watch(Client(), job_id, as_json=as_json)
    if as_json:
        print_json(job)


@jobs_app.command("logs")
def logs(job_id: str) -> None:
    """What a job has said."""
    answer = Client().call("GET", f"/api/v1/jobs/{job_id}/logs", headers={"Accept": "text/plain"})
    typer.echo(answer.text, nl=False)


def _steer(job_id: str, action: str, as_json: bool) -> None:
    job = Client().post(f"/api/v1/jobs/{job_id}/{action}")
    if as_json:
        print_json(job)
    else:
        typer.echo(f"{job['id']} is {job['status']}.")


@jobs_app.command("cancel")
def cancel_job(job_id: str, as_json: Json = False) -> None:
    """Stop a job; its checkpoints are kept."""
    _steer(job_id, "cancel", as_json)


@jobs_app.command("pause")
def pause_job(job_id: str, as_json: Json = False) -> None:
    """Pause a training at its next step."""
    _steer(job_id, "pause", as_json)


@jobs_app.command("resume")
def resume_job(job_id: str, as_json: Json = False) -> None:
    """Go on with a paused training."""
    _steer(job_id, "resume", as_json)


@jobs_app.command("retry")
def retry_job(job_id: str, as_json: Json = False) -> None:
    """Do the same work again as a new job, from the last save if there is one."""
    _steer(job_id, "retry", as_json)


@jobs_app.command("delete")
def delete_job(job_id: str) -> None:
    """Remove a finished job with the checkpoints that nothing published names."""
    Client().call("DELETE", f"/api/v1/jobs/{job_id}")
    typer.echo(f"{job_id} is deleted.")
