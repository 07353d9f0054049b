"""`bottega inspect FILE`: what a model file is, from its header alone; of a picture or clip, how it was made.

Works without a server. Exit codes: 0 recognised; 1 a proper file of a model that is not known, a picture
or clip without generation data; 2 refused (a pickle, a damaged file).
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from worker.inference.metadata.reading import Found

EXIT_UNKNOWN, EXIT_REFUSED = 1, 2
KINDS = {"checkpoint": "Checkpoint", "lora": "LoRA", "embedding": "Embedding", "vae": "VAE"}


def inspect(
    file: Annotated[
        Path, typer.Argument(exists=True, dir_okay=False, help="A .safetensors, a zip, a picture, a clip.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout, nothing else.")] = False,
) -> None:
    """Say what a model file is: kind, base model, rank, trained words. Of a picture or clip: how it was made.

    Nothing in a file is run or loaded.
    """
    from app.recognition import HeaderRefused, recognise_file
    from app.recognition.telling import rows
    from worker.families.catalog import specs
    from worker.inference.metadata.movie import is_movie
    from worker.inference.metadata.texts import is_picture

    if is_movie(file) or is_picture(file):
        inspect_picture(file, "clip" if is_movie(file) else "picture", as_json=as_json)
        return
    try:
        with file.open("rb") as opened:
            found = recognise_file(opened, file.stat().st_size, specs())
    except HeaderRefused as refused:
        refusal = {"refusal": {"code": refused.code, "detail": refused.detail}}
        typer.echo(json.dumps(refusal, indent=2) if as_json else refused.detail, err=not as_json)
        raise typer.Exit(EXIT_REFUSED) from refused
    if as_json:
        typer.echo(json.dumps(found.model_dump(mode="json"), indent=2, ensure_ascii=False))
    else:
        typer.echo("\n".join(f"{label:<14}{value}" for label, value in rows(found)))
    if found.kind == "unknown":
        raise typer.Exit(EXIT_UNKNOWN)


def inspect_picture(file: Path, kind: str, *, as_json: bool) -> None:
    """The generation data in a picture or clip (`kind`), whichever program wrote it."""
    from worker.inference.metadata.reading import read_file

    found = read_file(file)
    if as_json:
        typer.echo(json.dumps(picture_json(found), indent=2, ensure_ascii=False))
    elif found is None:
        typer.echo(f"This {kind} carries no generation data.")
    else:
        typer.echo("\n".join(f"{label:<14}{value}" for label, value in picture_rows(found)))
    if found is None:
        raise typer.Exit(EXIT_UNKNOWN)


def picture_rows(found: Found) -> list[tuple[str, str]]:
    """Labels and words for people."""
    lines = [("Made with", found.tool), ("Prompt", found.info.prompt)]
    lines += [("Negative", found.info.negative_prompt)] if found.info.negative_prompt else []
    for resource in found.resources:
        weight = "" if resource.weight is None else f" at {resource.weight:g}"
        digits = f" ({resource.hash})" if resource.hash else ""
        lines.append((KINDS[resource.kind], f"{resource.name}{weight}{digits}"))
    lines += list(found.info.settings.items())
    lines += [("Note", note) for note in found.notes]
    return [(f"{label} ", value.replace("\n", f"\n{'':<14}")) for label, value in lines]


def picture_json(found: Found | None) -> dict[str, object]:
    """The same for scripts; `tool` is null where there is nothing."""
    if found is None:
        return {"tool": None}
    return {
        "tool": found.tool,
        "prompt": found.info.prompt,
        "negative_prompt": found.info.negative_prompt,
        "settings": found.info.settings,
        "resources": [asdict(resource) for resource in found.resources],
        "notes": list(found.notes),
        "infotext": found.text,
    }
