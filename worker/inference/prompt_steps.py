"""Prompts that change while a picture is drawn, as AUTOMATIC1111 users write them. No torch.

`[a:b:0.4]` is a until 40 % of the steps, then b; `[b:8]` begins after step 8, `[a::8]` ends there;
`[a|b]` alternates. `a AND b :0.7` are two prompts at once. What does not fit the grammar is text.
"""

import re
from dataclasses import dataclass, field
from itertools import pairwise

from worker.inference.prompt import DEEPEST, HEAVIEST

_TOKEN = re.compile(r"\\.|[\[\]():|]|[^\\\[\]():|]+|\\", re.DOTALL)
_NUMBER = re.compile(r"\s*([+-]?(?:\d{1,6}(?:\.\d{0,6})?|\.\d{1,6}))\s*")
_AND = re.compile(r"\bAND\b")
_WEIGHT = re.compile(r":[ ]{0,8}([+-]?(?:\d{1,6}(?:\.\d{0,6})?|\.\d{1,6}))\s{0,8}\Z")
CLOSING = {")": "(", "]": "["}


@dataclass(frozen=True)
class Edit:
    """`when` as written: with a point it is a share of the steps, without one a step."""

    before: "list[str | Edit | Alternate]"
    after: "list[str | Edit | Alternate]"
    when: str


@dataclass(frozen=True)
class Alternate:
    options: "list[list[str | Edit | Alternate]]"


@dataclass
class _Open:
    """A bracket that is not closed yet; `marks` are the places of `:` and `|` in `parts`."""

    bracket: str
    parts: "list[str | Edit | Alternate]" = field(default_factory=list)
    marks: list[int] = field(default_factory=list)


def split_and(text: str) -> list[tuple[str, float]]:
    """The prompts that `AND` joins, each with its weight: at least one. A weight needs an `AND`."""
    parts = _AND.split(text)
    return [(text, 1.0)] if len(parts) == 1 else [_weighted(part) for part in parts]


def _weighted(part: str) -> tuple[str, float]:
    match = _WEIGHT.search(part)
    if match is None:
        return part.strip(), 1.0
    return part[: match.start()].strip(), max(-HEAVIEST, min(HEAVIEST, float(match[1])))


def texts_by_step(text: str, steps: int, *, before: int | None = None) -> list[str]:
    """The prompt at each of `steps` steps.

    `before` is the number of steps of the first pass where this is the second one (hires fix): then steps
    are counted on from there, and shares from 1 to 2 mean this pass.
    """
    if "[" not in text:
        return [text] * steps
    nodes = _parse(text)
    return [_say(nodes, step, (steps, before)) for step in range(1, steps + 1)]


def _parse(text: str) -> "list[str | Edit | Alternate]":
    opened = [_Open("")]
    for match in _TOKEN.finditer(text):
        part, top = match[0], opened[-1]
        if part in "([" and len(opened) <= DEEPEST:
            opened.append(_Open(part))
        elif part in CLOSING and top.bracket == CLOSING[part]:
            opened.pop()
            opened[-1].parts += _closed(top)
        else:
            if part in ":|":
                top.marks.append(len(top.parts))
            top.parts.append(part)
    while len(opened) > 1:  # never closed: text
        last = opened.pop()
        opened[-1].parts += [last.bracket, *last.parts]
    return opened[0].parts


def _closed(frame: _Open) -> "list[str | Edit | Alternate]":
    if frame.bracket == "(":
        return ["(", *frame.parts, ")"]
    pieces = _divided(frame, ":")
    if 2 <= len(pieces) <= 3 and len(pieces[-1]) == 1:
        when = pieces[-1][0]
        if isinstance(when, str) and (number := _NUMBER.fullmatch(when)):
            return [Edit(pieces[0] if len(pieces) == 3 else [], pieces[-2], number[1])]
    if len(pieces) == 1 and len(options := _divided(frame, "|")) > 1:
        return [Alternate(options)]
    return ["[", *frame.parts, "]"]


def _divided(frame: _Open, mark: str) -> "list[list[str | Edit | Alternate]]":
    places = [place for place in frame.marks if frame.parts[place] == mark]
    return [frame.parts[low + 1 : high] for low, high in pairwise([-1, *places, len(frame.parts)])]


def _say(nodes: "list[str | Edit | Alternate]", step: int, counted: tuple[int, int | None]) -> str:
    said = []
    for node in nodes:
        if isinstance(node, str):
            said.append(node)
        elif isinstance(node, Edit):
            chosen = node.before if step <= _last_step(node.when, *counted) else node.after
            said.append(_say(chosen, step, counted))
        else:
            said.append(_say(node.options[(step - 1) % len(node.options)], step, counted))
    return "".join(said)


def _last_step(when: str, steps: int, before: int | None) -> int:
    """The last step with what stands first."""
    if "." in when:
        return int((float(when) - (0 if before is None else 1)) * steps)
    return int(when) - (before or 0)
