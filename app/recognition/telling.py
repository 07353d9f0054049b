"""What was recognised as labels and words for people: the command line, the model's form and its page."""

import re

from app.recognition.bases import BASES
from app.recognition.result import Recognised


def suggested_name(file_name: str, seen: Recognised | None) -> str:
    """The title that the file gives itself, else its name as words."""
    stem = re.sub(r"\.(safetensors|sft|zip)$", "", file_name, flags=re.IGNORECASE)
    words = re.sub(r"[_\s]+", " ", (seen.title if seen else None) or stem).strip()
    return (words[:1].upper() + words[1:])[:100]


def rows(found: Recognised) -> list[tuple[str, str]]:
    """Labels and words for people; what is not known is left out."""
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
