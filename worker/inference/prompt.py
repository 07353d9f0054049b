"""Reading prompts as AUTOMATIC1111 users write them. No torch: the web process reads them too.

`(x)` weighs 1.1, `[x]` 1/1.1, `(x:1.3)` 1.3, nested brackets multiply, a backslash makes a bracket
a letter, `BREAK` starts a new chunk, `<lora:name:te:unet>` asks for a LoRA. A prompt is never
wrong: brackets left open close at the end, whatever has no meaning is text.
"""

import re
from dataclasses import dataclass

ROUND = 1.1
SQUARE = 1 / 1.1
FACTORS = {")": ROUND, "]": SQUARE}
HEAVIEST = 10.0
"""Weights are held within ±10, so that a slip of the pen cannot make numbers that are not finite."""

DEEPEST = 50
"""Brackets nested deeper are text: reading stays linear in the length of the prompt."""

_NUMBER = r"[+-]?(?:\d{1,6}(?:\.\d{0,6})?|\.\d{1,6})"
_TOKEN = re.compile(
    rf"(?P<escaped>\\[\\()\[\]])|(?P<open>[(\[])|:[ ]{{0,8}}(?P<weight>{_NUMBER})[ ]{{0,8}}\)"
    r"|(?P<close>[)\]])|(?P<part>\bBREAK\b)|(?P<text>[^\\()\[\]:B]+|.)",
    re.DOTALL,
)
_EXTRA = re.compile(r"<(lora|lyco|hypernet):([^<>:]{1,200})((?::[^<>:]{0,40}){0,6})>", re.IGNORECASE)


@dataclass(frozen=True)
class Run:
    """A stretch of text with one weight."""

    text: str
    weight: float = 1.0


@dataclass(frozen=True)
class LoraTag:
    """`<lora:name:te:unet>`: strengths of the text encoder and of the U-Net."""

    name: str
    text_encoder: float = 1.0
    unet: float = 1.0


@dataclass(frozen=True)
class Prompt:
    """`text` is what goes to the encoder: the tags are cut out. `ignored` holds tags we cannot obey."""

    text: str
    loras: tuple[LoraTag, ...] = ()
    ignored: tuple[str, ...] = ()


def read_prompt(text: str) -> Prompt:
    """Cut `<lora:…>` (also `<lyco:…>`) out of a prompt. A name given twice counts once: the last wins."""
    loras: dict[str, LoraTag] = {}
    ignored: list[str] = []

    def take(match: re.Match[str]) -> str:
        tag = _lora_tag(match[2].strip(), match[3].split(":")[1:])
        if match[1].lower() == "hypernet" or tag is None:
            ignored.append(match[0])
        else:
            loras.pop(tag.name, None)
            loras[tag.name] = tag
        return ""

    rest = _EXTRA.sub(take, text).strip()
    return Prompt(rest, tuple(loras.values()), tuple(ignored))


def _lora_tag(name: str, values: list[str]) -> LoraTag | None:
    """As A1111 counts: numbers by place (te, unet) unless named; where the U-Net's is not said it is te's."""
    if not name:
        return None
    strengths: dict[str, float] = {}
    placed = iter(("te", "unet"))
    for value in values:
        key, named, number = value.strip().rpartition("=")
        key = key.strip().lower() if named else next(placed, "dyn")
        if key == "dyn":  # the rank of a DyLoRA, which these files do not have
            continue
        if key not in ("te", "unet") or not re.fullmatch(_NUMBER, number.strip()):
            return None
        strengths[key] = float(number)
    text_encoder = strengths.get("te", 1.0)
    return LoraTag(name, text_encoder, strengths.get("unet", text_encoder))


def parse_weights(text: str) -> list[list[Run]]:
    """Runs of text with their weights, one list for each part between `BREAK`s (at least one).

    Round and square brackets are counted apart, so that `(a [b) c]` means what it means in A1111.
    Neighbours of equal weight are one run; runs without text are left out.
    """
    runs: list[tuple[str | None, float]] = []  # text None marks a BREAK
    opened: dict[str, list[int]] = {")": [], "]": []}  # by what closes it: index of its first run

    def multiply(start: int, factor: float) -> None:
        runs[start:] = [(words, weight * factor) for words, weight in runs[start:]]

    for match in _TOKEN.finditer(text):
        kind = match.lastgroup
        if kind == "open" and len(opened[")"]) + len(opened["]"]) < DEEPEST:
            opened[")" if match[0] == "(" else "]"].append(len(runs))
        elif kind == "weight" and opened[")"]:
            multiply(opened[")"].pop(), float(match["weight"]))
        elif kind == "close" and opened[match[0]]:
            multiply(opened[match[0]].pop(), FACTORS[match[0]])
        elif kind == "part":
            runs.append((None, 1.0))
        else:
            runs.append((match[0][1:] if kind == "escaped" else match[0], 1.0))
    for closing, starts in opened.items():
        for start in starts:
            multiply(start, FACTORS[closing])
    return _parts(runs)


def _parts(runs: list[tuple[str | None, float]]) -> list[list[Run]]:
    parts: list[list[Run]] = [[]]
    for words, weight in runs:
        held = max(-HEAVIEST, min(HEAVIEST, weight))
        if words is None:
            parts.append([])
        elif parts[-1] and parts[-1][-1].weight == held:
            parts[-1][-1] = Run(parts[-1][-1].text + words, held)
        else:
            parts[-1].append(Run(words, held))
    filled = [part for part in parts if any(run.text.strip() for run in part)]
    return filled or [[]]
