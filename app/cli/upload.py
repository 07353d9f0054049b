"""`bottega upload FILE`: a model file to the server, and its page, from a terminal.

What the file is, is told before a byte goes out; a run that was broken off goes on where it stopped.
"""

from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from app.cli import sending
from app.cli.client import EXIT_REFUSED, Client, stop
from app.cli.remote import Json, print_json

console = Console(stderr=True)
EXIT_INTERRUPTED = 130
WAITING = {
    "queued": "It has arrived and waits for a worker to check it.",
    "running": "Checking the file: hashes.",
}


def upload(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="A .safetensors file or a zip.")],
    model: Annotated[int | None, typer.Option(help="Id of one's own page: a further version of it.")] = None,
    beside: Annotated[
        int | None, typer.Option(help="Id of one's own version: a further file of it (a network, a VAE, …).")
    ] = None,
    noise: Annotated[str, typer.Option(help="With --beside: high or low, of one of two networks.")] = "",
    name: Annotated[str, typer.Option(help="Name of a new page; empty = what the file is called.")] = "",
    type: Annotated[str, typer.Option(help="Checkpoint, LORA, VAE, …; empty = as recognised.")] = "",
    base_model: Annotated[str, typer.Option(help="SD 1.5, SDXL 1.0, …; empty = as recognised.")] = "",
    trained_words: Annotated[
        str | None, typer.Option(help="With commas; left out = as the file says.")
    ] = None,
    version_name: Annotated[str, typer.Option(help="What the version is called.")] = "v1",
    description: Annotated[str, typer.Option(help="Markdown for the page.")] = "",
    picture: Annotated[
        list[Path] | None, typer.Option(exists=True, help="A cover; may be given often.")
    ] = None,
    publish: Annotated[str, typer.Option(help="private (a draft), unlisted or public.")] = "private",
    as_json: Json = False,
) -> None:
    """Upload a model file and make its page. Broken off, the same command goes on where it stopped."""
    if publish not in ("private", "unlisted", "public"):
        raise stop(f"--publish is private, unlisted or public, not “{publish}”.", EXIT_REFUSED)
    told = _look(file, type, quiet=as_json)
    page = {"name": name or told, "type": type, "description": description}
    version = {
        "name": version_name, "base_model": base_model or None,
        "trained_words": None if trained_words is None else trained_words.split(","),
    }  # fmt: skip
    with closing(Client()) as client:
        output = _sent(client, file)
        page["type"] = type or (output.get("recognised") or {}).get("model_type") or "Other"
        if beside is not None:
            sent = {"upload": output["upload"], "noise": noise or None}
            made = client.post(f"/api/v1/model-versions/{beside}/files", sent)
        else:
            made = _make(client, model, page, version | {"upload": output["upload"]})
        _finish(client, made, picture or [], publish)
        shown = client.get(f"/api/v1/models/{made['modelId']}")
    if as_json:
        facts = {"sha256": output["sha256"], "recognised": output.get("recognised"), "version": made["id"]}
        print_json(facts | {"model": shown})
    else:
        typer.echo(f"{shown['name']} ({publish}): {shown['url']}")


def _sent(client: Client, file: Path) -> dict[str, Any]:
    """What the server says of the whole file. Ends the command when it was broken off, or is refused."""
    try:
        output = _send(client, file)
    except KeyboardInterrupt:
        console.print("\nStopped. What has arrived is kept for a week: the same command goes on from there.")
        raise typer.Exit(EXIT_INTERRUPTED) from None
    if refusal := output.get("refusal"):
        client.call("DELETE", f"/api/v1/uploads/{output['upload']}")
        raise stop(refusal["detail"], EXIT_REFUSED)
    return output


def _look(file: Path, type: str, *, quiet: bool) -> str:
    """Say what the file is, and refuse what cannot be used; gives the name for a page."""
    from app.recognition import MODEL_TYPES, HeaderRefused, recognise_file
    from app.recognition.telling import rows, suggested_name
    from worker.families.catalog import specs

    weights = {each for names in MODEL_TYPES.values() for each in names} - {"Other"}
    try:
        with file.open("rb") as opened:
            found = recognise_file(opened, file.stat().st_size, specs())
    except HeaderRefused as refused:
        if type in weights or not type or refused.code in ("pickle", "web-page", "empty-file"):
            raise stop(refused.detail, EXIT_REFUSED) from refused
        return suggested_name(file.name, None)
    if not quiet:
        for label, value in rows(found):
            console.print(f"{label:<14}{value}", highlight=False, markup=False)
    return suggested_name(file.name, found)


def _send(client: Client, file: Path) -> dict[str, Any]:
    columns = (
        TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(),
        TimeRemainingColumn(),
    )  # fmt: skip
    size = file.stat().st_size
    with Progress(*columns, console=console) as bar:
        reading = bar.add_task("Reading", total=size)
        sha256 = sending.file_sha256(file, lambda read: bar.update(reading, completed=read))
        bar.remove_task(reading)
        task = bar.add_task("Uploading", total=size)
        said: set[str] = set()

        def tell(job: dict[str, Any]) -> None:
            words = WAITING.get(job["status"])
            if job.get("status_reason") == "no-worker":
                words = "It has arrived and waits: no worker is running to check it."
            if words and words not in said:
                said.add(words)
                bar.console.print(words)

        return sending.send_file(
            client, file, sha256=sha256, on_job=tell,
            on_bytes=lambda sent: bar.update(task, completed=sent),
        )  # fmt: skip


def _make(client: Client, model: int | None, page: dict[str, Any], version: dict[str, Any]) -> dict[str, Any]:
    """The draft version; a page that was made for it goes again when its file is refused."""
    if model is not None:
        made: dict[str, Any] = client.post(f"/api/v1/models/{model}/versions", version)
        return made
    new = client.post("/api/v1/models", page)["id"]
    try:
        made = client.post(f"/api/v1/models/{new}/versions", version)
    except typer.Exit:
        client.call("DELETE", f"/api/v1/models/{new}")
        raise
    return made


def _finish(client: Client, made: dict[str, Any], pictures: list[Path], publish: str) -> None:
    images = []
    for path in pictures:
        sent = {"file": (path.name, path.read_bytes())}
        images.append(client.call("POST", "/api/v1/images", files=sent).json()["id"])
    if images:
        client.post(f"/api/v1/model-versions/{made['id']}/pictures", {"images": images})
    if publish != "private":
        body = {"visibility": publish, "version": made["id"]}
        client.post(f"/api/v1/models/{made['modelId']}/publish", body)
