"""`bottega inspect FILE`: what a model file is, from its header alone, without a server.

Exit codes: 0 recognised, 1 a proper file of a model that is not known, 2 refused (a pickle, a damaged file).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from app.recognition import Recognised

EXIT_UNKNOWN, EXIT_REFUSED = 1, 2


def inspect(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="A .safetensors file or a zip.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout, nothing else.")] = False,
) -> None:
    """Say what a model file is: kind, base model, rank, trained words. Nothing in it is run or loaded."""
    from app.recognition import HeaderRefused, recognise_file
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


def rows(found: Recognised) -> list[tuple[str, str]]:
    """Labels and words for people; what is not known is left out."""
    from app.recognition.bases import BASES

    parts = [part for part, there in (("VAE", found.has_vae),) if there] + list(found.text_encoders)
    lines = [
        ("Kind", found.component or found.words),
        ("Title", found.title),
        ("Base model", found.base_model),
        ("Architecture", BASES[found.architecture].title if found.architecture else None),
        ("Variant", found.variant if found.variant != "base" else None),
        ("Predicts", _prediction(found)),
        ("Few steps", found.distilled),
        *_adapter(found),
        ("Trained words", ", ".join(found.trained_words)),
        ("Precision", " ".join(word for word in (found.precision, found.quantised) if word)),
        ("Weights", found.pruned),
        ("Holds", ", ".join(parts)),
        ("Tensors", f"{found.tensors:,} with {found.parameters:,} numbers"),
        ("Runs here", f"yes ({found.family})" if found.family else "no"),
        ("Told by", found.why),
    ]
    return [(label, value) for label, value in lines if value] + [("Note", note) for note in found.notes]


def _prediction(found: Recognised) -> str | None:
    ending = ", zero terminal SNR" if found.zero_terminal_snr else ""
    return f"{found.prediction}{ending}" if found.prediction else None


def _adapter(found: Recognised) -> list[tuple[str, str | None]]:
    facts, embedding = found.adapter, found.embedding
    if embedding is not None:
        return [("Vectors", f"{embedding.vectors} of {embedding.width} numbers")]
    if facts is None:
        return []
    ranks = ", ".join(str(rank) for rank in facts.ranks)
    return [
        ("Algorithm", facts.algorithm),
        ("Rank", f"{facts.rank} (of {ranks})" if len(facts.ranks) > 1 else ranks),
        ("Alpha", None if facts.alpha is None else f"{facts.alpha:g}"),
        ("Changes", f"{facts.modules} layers of {' and '.join(facts.acts_on)}"),
        ("Names", facts.naming),
    ]
