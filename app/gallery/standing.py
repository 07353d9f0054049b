"""What can be done here with a file, in plain words: on the form of its page, and on the page itself.

A model that cannot run here is kept and can be downloaded, and its page says so instead of going wrong later.
"""

from dataclasses import dataclass

from app.gallery.companions import TEXT_FOLDER
from app.gallery.matching import recognised, runs_here
from app.gallery.models import ModelVersion
from app.recognition.bases import TEXTS, architectures_of, family_of_base
from app.recognition.result import WORDS, Recognised
from worker.families.catalog import specs

_KEPT = "The file is kept and can be downloaded."
NO_TOKENIZER = f"A text encoder in one file has no tokenizer beside it. {TEXT_FOLDER}"
_WITH_A_CHECKPOINT = {
    "vae": "It can be chosen as the VAE of checkpoints for {base}.",
    "embedding": "Its file name in a prompt calls it, with checkpoints for {base}.",
    "text-encoder": "Checkpoints for {base} can read with it, and those without one of their own do.",
}
_RUNS = {"checkpoint": "Trains and generates here", "lora": "Generates here"}
_HALTED = {"checkpoint": "Cannot train or generate here yet", "lora": "Cannot generate here yet"}


@dataclass(frozen=True)
class Standing:
    """`title` says it in a line; `sentences` why, and what its owner should know."""

    usable: bool
    title: str
    sentences: tuple[str, ...] = ()


def standing_of(version: ModelVersion, missing: str = "") -> Standing | None:
    """None where nothing is known of its file, or there is none. `missing`: what it lacks here, in words."""
    seen = recognised(version)
    if seen is not None and missing:
        return Standing(False, "Lacks a part here", (missing,))
    return None if seen is None else standing(seen, version.base_model, runs=runs_here(version))


def standing(seen: Recognised, base_model: str, *, runs: bool) -> Standing:
    """`runs`: a family that is installed takes the file. `base_model` may be the owner's word."""
    if seen.kind in _RUNS:
        title = (_RUNS if runs else _HALTED)[seen.kind]
        return Standing(runs, title, seen.notes or (() if runs else (_KEPT,)))
    if seen.kind == "unknown":
        return Standing(False, "Not known here", seen.notes)
    if seen.kind == "text-encoder" and seen.file_format != "Diffusers":
        return Standing(False, "Cannot be used here alone", (f"{NO_TOKENIZER} {_KEPT}", *seen.notes))
    if seen.kind == "text-encoder" and not architectures_of(base_model) & set(TEXTS):
        words = f"Checkpoints for {base_model} have their own text encoder. {_KEPT}"
        return Standing(False, "Cannot be used here yet", (words, *seen.notes))
    if seen.kind in _WITH_A_CHECKPOINT and family_of_base(base_model) in specs():
        words = _WITH_A_CHECKPOINT[seen.kind].format(base=base_model)
        return Standing(True, "Usable here", (words, *seen.notes))
    words = f"It is {WORDS[seen.kind]}. {_KEPT}"
    return Standing(False, "Cannot be used here yet", (words, *seen.notes))
