"""`bottega login`, `train`, `generate`, `download` and `jobs`: what a person does from a terminal, over REST.

Answers for people go to stderr and stdout as words and tables; with `--json` stdout holds JSON alone.
"""

import hashlib
import json
import uuid
from pathlib import Path
from textwrap import shorten
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from app.cli.client import EXIT_FAILED, EXIT_REFUSED, FORM_LIMIT, Client, save_login, stop

app = typer.Typer(no_args_is_help=True, add_completion=False)
jobs_app = typer.Typer(help="Look at your jobs and steer them.", invoke_without_command=True)
app.add_typer(jobs_app, name="jobs")
console = Console(stderr=True)

Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, nothing else.")]
PICTURES = {".png", ".jpg", ".jpeg", ".webp", ".avif", ".heic", ".heif"}
BATCH = 8
"""Pictures a request: small enough that progress moves."""


def _print(data: Any) -> None:
    typer.echo(json.dumps(data, indent=2, ensure_ascii=False))


@app.command()
def login(
    server: Annotated[str, typer.Argument(help="Address of the server.")] = "http://127.0.0.1:8000",
    token: Annotated[str | None, typer.Option(help="An API token; asked for when left out.")] = None,
) -> None:
    """Keep a server's address and an API token (make one under Settings)."""
    secret = token or typer.prompt("API token", hide_input=True)
    me = Client(server, secret.strip()).get("/api/v1/me")
    path = save_login(server, secret.strip())
    typer.echo(
        f"Logged in to {server} as {me['username']} ({', '.join(me.get('scopes', []))}). Kept in {path}."
    )


@app.command()
def train(
    photos: Annotated[
        Path, typer.Argument(exists=True, help="Folder with pictures and .txt labels, or a zip.")
    ],
    name: Annotated[str, typer.Option(help="What it is called.")],
    type: Annotated[str, typer.Option(help="style, character or concept.")] = "style",
    base: Annotated[str, typer.Option(help="Version id or AIR of the base; empty = the starter.")] = "",
    trigger: Annotated[str, typer.Option(help="Trigger word.")] = "",
    preset: Annotated[str, typer.Option(help="quick, normal or best.")] = "normal",
    max_steps: Annotated[int | None, typer.Option(help="Train exactly so many steps.")] = None,
    param: Annotated[list[str] | None, typer.Option(help="A setting, e.g. --param network_dim=8.")] = None,
    dry_run: Annotated[bool, typer.Option(help="Only say what it would take.")] = False,
    wait: Annotated[bool, typer.Option(help="Stay until it is done.")] = False,
    publish: Annotated[
        str, typer.Option(help="Publish the recommended epoch: private, unlisted or public.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Upload pictures with their labels and train a LoRA."""
    client = Client()
    dataset = _upload_set(client, photos, name)
    body = {
        "name": name,
        "type": type,
        "dataset": dataset,
        "base": _base(client, base),
        "trigger_word": trigger,
        "preset": preset,
        "params": _params(param or [], max_steps),
    }
    if dry_run:
        _print(client.post("/api/v1/trainings?dry_run=true", body))
        return
    job = client.post("/api/v1/trainings", body, headers={"Idempotency-Key": uuid.uuid4().hex})
    console.print(f"Training {job['id']} is queued: {client.server}/trainings/{job['id']}")
    if wait or publish:
        job = _watch(client, job["id"])
    if publish:
        job["model"] = _publish(client, job["id"], publish)
    if as_json:
        _print(job)
    elif wait or publish:
        _show_checkpoints(client, job["id"])


def _params(pairs: list[str], max_steps: int | None) -> dict[str, Any]:
    params: dict[str, Any] = {} if max_steps is None else {"max_steps": max_steps}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise stop(f"--param needs NAME=VALUE, not “{pair}”.", EXIT_REFUSED)
        try:
            params[key] = json.loads(value)
        except ValueError:
            params[key] = value
    return params


def _base(client: Client, base: str) -> dict[str, Any]:
    if base.startswith("urn:air:"):
        return {"air": base}
    if base.isdigit():
        return {"model_version_id": int(base)}
    found = client.get("/api/v1/models", types="Checkpoint", limit=50)["items"]
    named = [m for m in found if not base or m["name"].lower() == base.lower()]
    versions = [v["id"] for m in named for v in m["modelVersions"]]
    if not versions:
        names = ", ".join(m["name"] for m in found) or "none"
        raise stop(f"There is no base model “{base}” here. Installed: {names}.", EXIT_REFUSED)
    return {"model_version_id": versions[0]}


def _upload_set(client: Client, photos: Path, name: str) -> str:
    """Make a data set and send everything; says which files were not taken."""
    files = _files(photos)
    dataset = client.post("/api/v1/datasets", {"name": name, "media": "image", "label_type": "tag"})
    refused: list[dict[str, str]] = []
    with Progress(
        TextColumn("Uploading"), BarColumn(), TextColumn("{task.completed} of {task.total}"), console=console
    ) as bar:
        task = bar.add_task("", total=len(files))
        for batch in _batches(files):
            answer = _send(client, dataset["id"], batch)
            refused += answer["rejected"]
            bar.advance(task, len(batch))
    for file in refused:
        console.print(f"Left out {file['name']}: {file['detail']}")
    return str(dataset["id"])


def _files(photos: Path) -> list[Path]:
    if photos.is_file():
        return [photos]
    found = sorted(p for p in photos.rglob("*") if p.suffix.lower() in PICTURES)
    if not found:
        raise stop(f"{photos} holds no pictures.", EXIT_REFUSED)
    return found


def _batches(files: list[Path]) -> list[list[Path]]:
    return [files[n : n + BATCH] for n in range(0, len(files), BATCH)]


def _send(client: Client, dataset: str, batch: list[Path]) -> dict[str, Any]:
    large = [p for p in batch if p.stat().st_size > FORM_LIMIT]
    merged: dict[str, Any] = {"accepted": [], "rejected": []}
    for path in large:
        answer = client.post(f"/api/v1/datasets/{dataset}/items", {"upload": client.upload(path)})
        merged["rejected"] += answer.get("rejected", [])
    parts = []
    for path in batch:
        if path in large:
            continue
        parts.append(("files", (path.name, path.read_bytes())))
        label = path.with_suffix(".txt")
        if label.exists():
            parts.append(("files", (label.name, label.read_bytes())))
    if parts:
        answer = client.call("POST", f"/api/v1/datasets/{dataset}/items", files=parts).json()
        merged["rejected"] += answer.get("rejected", [])
    return merged


def _watch(client: Client, job_id: str) -> dict[str, Any]:
    """Follow a job with a bar. Ctrl-C leaves it running. Exit code 1 when it fails."""
    job: dict[str, Any] = {}
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[note]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("Waiting", total=100, note="")
        for job in client.follow(job_id):
            progress = job.get("progress") or {}
            note = f"step {progress['current']} of {progress['total']}" if progress.get("total") else ""
            percent = 100 * (progress.get("fraction") or 0)
            words = (job.get("phase") or job["status"]).capitalize()
            bar.update(task, completed=percent, description=words, note=note)
    if job["status"] != "succeeded":
        detail = (job.get("error") or {}).get("detail") or f"The job is {job['status']}."
        raise stop(detail, EXIT_FAILED)
    return job


def _publish(client: Client, job_id: str, visibility: str) -> dict[str, Any]:
    checkpoints = client.get(f"/api/v1/trainings/{job_id}/checkpoints")
    chosen = next((c for c in checkpoints if c["recommended"]), checkpoints[-1])
    body = {"checkpoint": chosen["epoch"], "visibility": visibility}
    model: dict[str, Any] = client.post(f"/api/v1/trainings/{job_id}/publish", body)
    console.print(f"Published epoch {chosen['epoch']}: {client.server}/models/{model['id']}")
    return model


def _show_checkpoints(client: Client, job_id: str) -> None:
    table = Table("Epoch", "Step", "Kept-out loss", "Size", "")
    for row in client.get(f"/api/v1/trainings/{job_id}/checkpoints"):
        loss = "" if row["validation_loss"] is None else f"{row['validation_loss']:.4f}"
        mark = {"validation": "recommended", "last": "last"}.get(row["recommended_reason"] or "", "")
        table.add_row(str(row["epoch"]), str(row["step"]), loss, f"{row['size_bytes'] / 1e6:.1f} MB", mark)
    Console().print(table)


@app.command()
def generate(
    prompt: Annotated[str, typer.Argument(help="What to draw.")],
    base: Annotated[
        str, typer.Option(help="Version id or name of the checkpoint; empty = the starter.")
    ] = "",
    lora: Annotated[
        list[str] | None, typer.Option(help="VERSION or VERSION:STRENGTH; may be given often.")
    ] = None,
    negative: Annotated[str, typer.Option(help="What should not be in the picture.")] = "",
    sampler: Annotated[str | None, typer.Option(help="Euler a, DPM++ 2M Karras, DDIM or UniPC.")] = None,
    steps: Annotated[int | None, typer.Option()] = None,
    cfg: Annotated[float | None, typer.Option()] = None,
    size: Annotated[str, typer.Option(help="WIDTHxHEIGHT.")] = "",
    seed: Annotated[int, typer.Option(help="-1 = random.")] = -1,
    number: Annotated[int, typer.Option("--number", "-n", help="How many pictures.")] = 1,
    out: Annotated[Path, typer.Option(help="Folder for the pictures.")] = Path(),
    as_json: Json = False,
) -> None:
    """Draw pictures and save them here."""
    client = Client()
    width, _, height = size.partition("x")
    body = {
        **_base(client, base),
        "prompt": prompt,
        "negative_prompt": negative,
        "resources": [_resource(text) for text in lora or []],
        "sampler": sampler,
        "steps": steps,
        "cfg_scale": cfg,
        "width": int(width) if width else None,
        "height": int(height) if height else None,
        "seed": seed,
        "quantity": number,
    }
    body.pop("air", None)
    job = client.post("/api/v1/generations", body, headers={"Idempotency-Key": uuid.uuid4().hex})
    job = _watch(client, job["id"])
    out.mkdir(parents=True, exist_ok=True)
    saved = []
    for image in job["output"]["images"]:
        path = out / f"bottega-{image['id']}-{image['seed']}.png"
        client.download(image["url"], path)
        saved.append(str(path))
    if as_json:
        _print(job | {"saved": saved})
    else:
        typer.echo("\n".join(saved))


def _resource(text: str) -> dict[str, Any]:
    version, _, strength = text.partition(":")
    try:
        return {"model_version_id": int(version), **({"strength": float(strength)} if strength else {})}
    except ValueError:
        raise stop(f"--lora needs VERSION or VERSION:STRENGTH, not “{text}”.", EXIT_REFUSED) from None


@app.command()
def download(
    version: Annotated[int, typer.Argument(help="Id of the model version.")],
    out: Annotated[Path, typer.Option(help="Folder to save to.")] = Path(),
    as_json: Json = False,
) -> None:
    """Fetch a version's file and check its hash. A broken download goes on where it stopped."""
    client = Client()
    facts = client.get(f"/api/v1/model-versions/{version}")
    file = next(f for f in facts["files"] if f.get("primary"))
    out.mkdir(parents=True, exist_ok=True)
    columns = (TextColumn(file["name"]), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("", total=None)
        path = client.download(
            f"/api/download/models/{version}",
            out / Path(file["name"]).name,
            lambda have, total: bar.update(task, completed=have, total=total),
        )
    _check_hash(path, file["hashes"].get("SHA256", ""))
    if as_json:
        _print({"path": str(path), "sha256": file["hashes"].get("SHA256")})
    else:
        typer.echo(str(path))


def _check_hash(path: Path, expected: str) -> None:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if expected and found != expected.lower():
        path.unlink()
        raise stop("The file arrived damaged and was removed. Try again.", EXIT_FAILED)


@jobs_app.callback()
def jobs(context: typer.Context, status: str = "", limit: int = 20, as_json: Json = False) -> None:
    """List your jobs, newest first."""
    if context.invoked_subcommand:
        return
    params = {"limit": limit} | ({"status": status} if status else {})
    page = Client().get("/api/v1/jobs", **params)
    if as_json:
        _print(page)
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
    _print(Client().get(f"/api/v1/jobs/{job_id}"))


@jobs_app.command("wait")
def wait_for_job(job_id: str) -> None:
    """Stay until a job is over; exit code 1 when it did not succeed."""
    _watch(Client(), job_id)


@jobs_app.command("logs")
def logs(job_id: str) -> None:
    """What a job has said."""
    answer = Client().call("GET", f"/api/v1/jobs/{job_id}/logs", headers={"Accept": "text/plain"})
    typer.echo(answer.text, nl=False)


def _steer(job_id: str, action: str) -> None:
    job = Client().post(f"/api/v1/jobs/{job_id}/{action}")
    typer.echo(f"{job['id']} is {job['status']}.")


@jobs_app.command("cancel")
def cancel_job(job_id: str) -> None:
    """Stop a job; its checkpoints are kept."""
    _steer(job_id, "cancel")


@jobs_app.command("pause")
def pause_job(job_id: str) -> None:
    """Pause a training at its next step."""
    _steer(job_id, "pause")


@jobs_app.command("resume")
def resume_job(job_id: str) -> None:
    """Go on with a paused training."""
    _steer(job_id, "resume")
