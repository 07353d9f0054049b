"""`bottega inspect FILE`: what a model file is, from its header alone, without a server.

Exit codes: 0 recognised, 1 a proper file of a model that is not known, 2 refused (a pickle, a damaged file).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

EXIT_UNKNOWN, EXIT_REFUSED = 1, 2


def inspect(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="A .safetensors file or a zip.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout, nothing else.")] = False,
) -> None:
    """Say what a model file is: kind, base model, rank, trained words. Nothing in it is run or loaded."""
    from app.recognition import HeaderRefused, recognise_file
    from app.recognition.telling import rows
    from worker.families.catalog import specs

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
