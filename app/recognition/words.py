"""Trigger words of a LoRA, read from its metadata and from nowhere else."""

import json
from typing import Any

from app.recognition.header import Header, clean

MAX_WORDS = 20
MAX_LENGTH = 100
_NEARLY_ALL = 3
"""So many tags at most may stand in every picture; more than that is a fixed caption, not a trigger."""


def trained_words(header: Header) -> tuple[str, ...]:
    """In this order: ModelSpec's trigger phrase, embedded tokens, tags that every picture of the set has."""
    metadata = header.metadata
    phrase = metadata.get("modelspec.trigger_phrase", "")
    words = [word.strip() for word in phrase.split(",")] if phrase not in ("", "None") else []
    words = words or [name for name, value in metadata.items() if value == "<embed>"]
    words = words or _tags_of_all(metadata) or _class_words(metadata)
    short = [clean(word).strip()[:MAX_LENGTH] for word in words]
    return tuple(dict.fromkeys(word for word in short if word))[:MAX_WORDS]


def _parsed(text: str | None) -> Any:
    try:
        return json.loads(text) if text else None
    except (ValueError, RecursionError):
        return None


def _tags_of_all(metadata: dict[str, str]) -> list[str]:
    """Tags as frequent as there are pictures; where the folders say no number, the word of `1_<word>`."""
    tags = _parsed(metadata.get("ss_tag_frequency"))
    folders = _parsed(metadata.get("ss_dataset_dirs"))
    found: list[str] = []
    for folder, counts in tags.items() if isinstance(tags, dict) else ():
        if not isinstance(counts, dict):
            continue
        facts = folders.get(folder) if isinstance(folders, dict) else None
        pictures = facts.get("img_count") if isinstance(facts, dict) else None
        if isinstance(pictures, int) and pictures > 1:
            found += [tag.strip() for tag, count in counts.items() if count == pictures]
        elif len(counts) == 1 and folder.partition("_")[2] in counts:
            found += counts
    unique = list(dict.fromkeys(found))
    return unique if len(unique) <= _NEARLY_ALL else []


def _class_words(metadata: dict[str, str]) -> list[str]:
    """`class_tokens` of a data set that was trained without captions of its own."""
    sets = _parsed(metadata.get("ss_datasets"))
    found: list[str] = []
    for one in sets if isinstance(sets, list) else ():
        subsets = one.get("subsets") if isinstance(one, dict) else None
        for subset in subsets if isinstance(subsets, list) else ():
            words = subset.get("class_tokens") if isinstance(subset, dict) else None
            if isinstance(words, str):
                found.append(words)
    return list(dict.fromkeys(found)) if len(set(found)) <= _NEARLY_ALL else []
