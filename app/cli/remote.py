"""`bottega login`, `train`, `generate`, `download` and `jobs`: what a person does from a terminal, over REST.

Answers for people go to stderr and stdout as words and tables; with `--json` stdout holds JSON alone.
"""

import hashlib
import json
import uuid
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from app.cli import sending
from app.cli.client import EXIT_FAILED, EXIT_REFUSED, FORM_LIMIT, Client, save_login, stop

app = typer.Typer(no_args_is_help=True, add_completion=False)
console = Console(stderr=True)

Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, nothing else.")]
Vae = Annotated[int | None, typer.Option(help="Version id of a VAE instead of the base's own.")]
STARTER = "Starter 1"
"""What the shipped checkpoint is called as a base model."""
PICTURES = {".png", ".jpg", ".jpeg", ".webp", ".avif", ".heic", ".heif"}
BATCH = 8
"""Pictures a request: small enough that progress moves."""


def print_json(data: Any) -> None:
    typer.echo(json.dumps(data, indent=2, ensure_ascii=False))


@app.command()
def login(
    server: Annotated[str, typer.Argument(help="Address of the server.")] = "http://127.0.0.1:8000",
    token: Annotated[str | None, typer.Option(help="An API token; asked for when left out.")] = None,
    as_json: Json = False,
) -> None:
    """Keep a server's address and an API token (make one under Settings)."""
    secret = token or typer.prompt("API token", hide_input=True)
    me = Client(server, secret.strip()).get("/api/v1/me")
    path = save_login(server, secret.strip())
    if as_json:
        print_json({"server": server.rstrip("/"), **me, "kept_in": str(path)})
        return
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
    vae: Vae = None,
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
        "base": _base(client, base) | ({"vae_version_id": vae} if vae else {}),
        "trigger_word": trigger,
        "preset": preset,
        "params": _params(param or [], max_steps),
    }
    if dry_run:
        _show_plan(client, body)
    else:
        _run_training(client, body, wait=wait, publish=publish, as_json=as_json)


def _show_plan(client: Client, body: dict[str, Any]) -> None:
    try:
        print_json(client.post("/api/v1/trainings?dry_run=true", body))
    finally:
        client.call("DELETE", f"/api/v1/datasets/{body['dataset']}")


def _run_training(client: Client, body: dict[str, Any], *, wait: bool, publish: str, as_json: bool) -> None:
    job = client.post("/api/v1/trainings", body, headers={"Idempotency-Key": uuid.uuid4().hex})
    console.print(f"Training {job['id']} is queued: {client.server}/trainings/{job['id']}")
    if wait or publish:
        job = watch(client, job["id"], as_json=as_json)
    if publish:
        job["model"] = _publish(client, job["id"], publish)
    if as_json:
        print_json(job)
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
    listed = [v for m in named for v in m["modelVersions"]]
    versions = [v["id"] for v in listed if base or v["baseModel"] == STARTER]
    if not versions:
        names = ", ".join(m["name"] for m in found) or "none"
        raise stop(f"There is no base model “{base or STARTER}” here. Installed: {names}.", EXIT_REFUSED)
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
            answer = _send(client, dataset["id"], batch, photos)
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


def _send(client: Client, dataset: str, batch: list[Path], folder: Path) -> dict[str, Any]:
    """Send some files under their names below `folder`: pictures of two folders may be called the same."""
    large = [p for p in batch if p.stat().st_size > FORM_LIMIT]
    merged: dict[str, Any] = {"accepted": [], "rejected": []}
    for path in large:
        answer = client.post(
            f"/api/v1/datasets/{dataset}/items", {"upload": sending.send_file(client, path)["upload"]}
        )
        if "status" in answer:  # a very large zip is taken apart by a job
            answer = client.finish(answer).get("output") or {}
        merged["rejected"] += answer.get("rejected", [])
    parts = []
    for path in batch:
        if path in large:
            continue
        label = path.with_suffix(".txt")
        for file in (path, label) if label.exists() else (path,):
            name = file.relative_to(folder).as_posix() if folder.is_dir() else file.name
            parts.append(("files", (name, file.read_bytes())))
    if parts:
        answer = client.call("POST", f"/api/v1/datasets/{dataset}/items", files=parts).json()
        merged["rejected"] += answer.get("rejected", [])
    return merged


def watch(client: Client, job_id: str, *, as_json: bool = False) -> dict[str, Any]:
    """Follow a job with a bar. Ctrl-C leaves it running. Exit code 1 when it fails."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[note]}"),
        TimeRemainingColumn(),
    )
    try:
        with Progress(*columns, console=console) as bar:
            job = _show_progress(client, job_id, bar)
    except KeyboardInterrupt:
        console.print(f"The job goes on without you. Look again with: bottega jobs wait {job_id}")
        raise
    if as_json and job["status"] != "succeeded":
        print_json(job)
    return client.finish(job)


def _show_progress(client: Client, job_id: str, bar: Progress) -> dict[str, Any]:
    job: dict[str, Any] = {}
    task = bar.add_task("Waiting", total=100, note="")
    for job in client.follow(job_id):
        progress = job["progress"]
        note = f"step {progress['current']} of {progress['total']}" if progress.get("total") else ""
        words = (job["phase"] or job["status"]).capitalize()
        done = 100 * (progress.get("fraction") or 0)
        bar.update(task, completed=done, description=words, note=note)
    return job


def _publish(client: Client, job_id: str, visibility: str) -> dict[str, Any]:
    checkpoints = client.get(f"/api/v1/trainings/{job_id}/checkpoints")
    if not checkpoints:
        raise stop("This training has left no checkpoint that could be published.", EXIT_FAILED)
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
    vae: Vae = None,
    lora: Annotated[
        list[str] | None, typer.Option(help="VERSION or VERSION:STRENGTH; may be given often.")
    ] = None,
    negative: Annotated[str, typer.Option(help="What should not be in the picture.")] = "",
    sampler: Annotated[str | None, typer.Option(help="Euler a, DPM++ 2M Karras, UniPC, …")] = None,
    steps: Annotated[int | None, typer.Option()] = None,
    cfg: Annotated[float | None, typer.Option()] = None,
    size: Annotated[str, typer.Option(help="WIDTHxHEIGHT.")] = "",
    start: Annotated[
        str, typer.Option(help="Draw from this: a picture's number, or a file. Of a clip: its first frame.")
    ] = "",
    denoise: Annotated[float | None, typer.Option(help="How much of --start is drawn anew, 0-1.")] = None,
    hires: Annotated[float | None, typer.Option(help="Draw small, then refine so many times larger.")] = None,
    frames: Annotated[int | None, typer.Option(help="Length of a clip.")] = None,
    fps: Annotated[float | None, typer.Option(help="Frames a second of a clip.")] = None,
    shift: Annotated[
        float | None, typer.Option(help="Of a clip: more puts more steps where motion is decided.")
    ] = None,
    seed: Annotated[int, typer.Option(help="-1 = random.")] = -1,
    number: Annotated[int, typer.Option("--number", "-n", help="How many pictures or clips.")] = 1,
    out: Annotated[Path, typer.Option(help="Folder for the pictures.")] = Path(),
    as_json: Json = False,
) -> None:
    """Draw pictures, or clips with a model that knows them, and save them here."""
    client = Client()
    body = _size(size) | {
        "model_version_id": _version(client, base),
        "vae_version_id": vae,
        "prompt": prompt,
        "negative_prompt": negative,
        "resources": [_resource(text) for text in lora or []],
        "sampler": sampler,
        "steps": steps,
        "cfg_scale": cfg,
        "seed": seed,
        "quantity": number,
        "init_image": _start(client, start),
        "denoise": denoise,
        "hires": {"scale": hires} if hires is not None else None,
        "frames": frames,
        "fps": fps,
        "shift": shift,
    }
    _draw(client, body, out, as_json=as_json)


def _draw(client: Client, body: dict[str, Any], out: Path, *, as_json: bool) -> None:
    job = client.post("/api/v1/generations", body, headers={"Idempotency-Key": uuid.uuid4().hex})
    for note in job["input"]["warnings"]:
        console.print(note["detail"])
    job = watch(client, job["id"], as_json=as_json)
    out.mkdir(parents=True, exist_ok=True)
    saved = []
    for image in job["output"]["images"]:
        path = out / file_name(image)
        client.download(image["url"], path)
        saved.append(str(path))
    if as_json:
        print_json(job | {"saved": saved})
    else:
        typer.echo("\n".join(saved))


def file_name(image: dict[str, Any]) -> str:
    """How a picture or clip of a generation is called here."""
    ending = "mp4" if image["media_type"] == "video/mp4" else "png"
    return f"bottega-{image['id']}-{image['seed']}.{ending}"


def _start(client: Client, start: str) -> dict[str, Any] | None:
    """A picture to draw from: one on the server, or a file that is sent."""
    if not start or start.isdecimal():
        return {"image": int(start)} if start else None
    if not Path(start).is_file():
        raise stop(f"--start needs a picture's number or a file; there is no file {start}.", EXIT_REFUSED)
    return {"upload": sending.send_file(client, Path(start))["upload"]}


def _size(text: str) -> dict[str, Any]:
    """Width and height of `WIDTHxHEIGHT`; one number is a square, nothing the family's default."""
    sides = [part.strip() for part in text.lower().split("x")] if text else []
    if len(sides) > 2 or not all(side.isdecimal() for side in sides):
        raise stop(f"--size needs WIDTHxHEIGHT, such as 128x192, not “{text}”.", EXIT_REFUSED)
    return {"width": int(sides[0]), "height": int(sides[-1])} if sides else {}


def _version(client: Client, base: str) -> int:
    """The version's id, also out of an AIR."""
    found = _base(client, base)
    number = str(found.get("air", "")).rpartition("@")[2] or found.get("model_version_id")
    if not str(number).isdecimal():
        raise stop(f"“{base}” is not an AIR of this server: it ends in @ and the version.", EXIT_REFUSED)
    return int(str(number))


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
    file = next((f for f in facts["files"] if f.get("primary")), None)
    if file is None:
        raise stop("This version has no file to download.", EXIT_REFUSED)
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
        print_json({"path": str(path), "sha256": file["hashes"].get("SHA256")})
    else:
        typer.echo(str(path))


def _check_hash(path: Path, expected: str) -> None:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if expected and found != expected.lower():
        path.unlink()
        raise stop("The file arrived damaged and was removed. Try again.", EXIT_FAILED)
