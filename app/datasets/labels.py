"""Labels as text: reading files in whatever encoding, one normal form, and the editor's bulk changes.

The normal form of tags is `tag, tag, tag`: no empty ones, no one twice, case as typed. A caption
is one line. Both are what the trainer reads; the trigger word is never written into them.
"""

import codecs
import re
from collections.abc import Callable, Iterable

MAX_LABEL = 5000
MAX_FILE_BYTES = 64 << 10
OPS = ("add", "remove", "rename", "prepend", "set")
_BOMS = [(codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16")]
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\u2028\u2029]")


class UnreadableLabel(Exception):
    """A label file that is no text. The message follows the file's name in a sentence."""


def read_text(data: bytes) -> tuple[str, bool]:
    """(text, whether the encoding had to be guessed). Errors: UnreadableLabel."""
    if len(data) > MAX_FILE_BYTES:
        raise UnreadableLabel("is too long for a label. A label is one line of tags or one sentence or two.")
    for bom, encoding in _BOMS:
        if data.startswith(bom):
            return _decode(data, encoding), encoding != "utf-8-sig"
    if b"\0" in data:
        return _decode(data, "utf-16-le" if data[1::2].count(0) > data[::2].count(0) else "utf-16-be"), True
    try:
        return _checked(data.decode("utf-8")), False
    except UnicodeDecodeError:
        return _checked(data.decode("cp1252", errors="replace").replace("\ufffd", "")), True


def _decode(data: bytes, encoding: str) -> str:
    try:
        return _checked(data.decode(encoding))
    except UnicodeDecodeError as error:
        raise UnreadableLabel("is not a text file. Save it as plain text (UTF-8).") from error


def _checked(text: str) -> str:
    if len(_CONTROL.findall(text)) > 2:
        raise UnreadableLabel("is not a text file. Save it as plain text (UTF-8).")
    if text.lstrip().lower().startswith(("<!doctype", "<html")):
        raise UnreadableLabel("is a web page, not a label. Save it as plain text (UTF-8).")
    return text


def split_tags(text: str) -> list[str]:
    """Tags of a label in their order: blanks tidied, none empty, none twice (by lower case)."""
    tags: dict[str, str] = {}
    for part in re.split(r"[,\n\r，、]", _CONTROL.sub(" ", text)):
        tag = " ".join(part.split())
        if tag:
            tags.setdefault(tag.casefold(), tag)
    return list(tags.values())


def join_tags(tags: Iterable[str]) -> str:
    return ", ".join(tags)


def normalise_label(text: str, label_type: str) -> str:
    """One normal form, at most MAX_LABEL characters: whole tags for tags, one line for captions."""
    if label_type == "caption":
        return " ".join(_CONTROL.sub(" ", text).split())[:MAX_LABEL]
    label = join_tags(split_tags(text))
    if len(label) <= MAX_LABEL:
        return label
    return label[: MAX_LABEL + 1].rpartition(", ")[0] or label[:MAX_LABEL].rstrip()


def looks_like_captions(labels: list[str]) -> bool:
    """Sentences rather than tags: long on average and hardly any commas."""
    texts = [label for label in labels if label.strip()]
    if not texts:
        return False
    commas = sum(label.count(",") for label in texts) / len(texts)
    length = sum(map(len, texts)) / len(texts)
    return length > 80 and length / (commas + 1) > 60


def _same(a: str, b: str) -> bool:
    return a.casefold() == b.casefold()


def _without(tags: list[str], gone: list[str]) -> list[str]:
    return [t for t in tags if not any(_same(t, g) for g in gone)]


def _renamed(tags: list[str], old: list[str], new: list[str]) -> list[str]:
    if not any(_same(t, o) for t in tags for o in old):
        return tags
    return [n for t in tags for n in (new if any(_same(t, o) for o in old) else [t])]


_CHANGES: dict[str, Callable[[list[str], list[str], list[str]], list[str]]] = {
    "add": lambda tags, tag, _: tags + _without(tag, tags),
    "remove": lambda tags, tag, _: _without(tags, tag),
    "rename": _renamed,
    "prepend": lambda tags, tag, _: tag + _without(tags, tag),
    "set": lambda _tags, tag, _: tag,
}


def change_label(label: str, op: str, tag: str, to: str = "", *, label_type: str = "tag") -> str:
    """`label` after one of OPS; `tag` may hold several tags divided by commas, `to` is for rename only.

    A caption is changed between its commas, and keeps words that it says twice.
    """
    parts = split_tags(label) if label_type == "tag" else _clauses(label)
    changed = _CHANGES[op](parts, split_tags(tag), split_tags(to))
    return label if changed == parts else normalise_label(join_tags(changed), label_type)


def _clauses(caption: str) -> list[str]:
    return [part.strip() for part in caption.split(",") if part.strip()]
