"""The values of a grid's axis, as people type them: `4, 8, 12`, `0.4-1.2 x5`, `10-30 +5`, `1-10`.

A list from a script is taken as it is. Errors are ValueError in words that follow the field's name.
"""

import csv
import re
from typing import TypeVar

MAX_VALUES = 64
T = TypeVar("T", str, float)
_NUMBER = r"[+-]?(?:\d{1,10}(?:\.\d{0,6})?|\.\d{1,6})"
_RANGE = re.compile(
    rf"(?P<first>{_NUMBER})\s*-\s*(?P<last>{_NUMBER})\s*"
    rf"(?:(?:x\s*|\[)(?P<count>\d{{1,4}})\]?|\(?\+\s*(?P<step>{_NUMBER})\)?)?"
)


def words_of(values: list[float | int | str] | str) -> list[str]:
    """Texts; one with a comma in it stands in double quotes. Errors: ValueError."""
    if isinstance(values, str):
        rows = csv.reader([values.replace("\n", " ")], skipinitialspace=True)
        found = [part.strip() for row in rows for part in row]
    else:
        found = [str(value).strip() for value in values]
    return _counted([part for part in found if part])


def numbers_of(values: list[float | int | str] | str, *, whole: bool = False) -> list[float]:
    """Numbers, ranges spelled out; `whole` = only whole ones. Errors: ValueError."""
    found = [number for part in words_of(values) for number in _numbers(part, whole)]
    if whole and any(number != int(number) for number in found):
        raise ValueError("takes whole numbers only")
    return _counted(found)


def _counted(found: list[T]) -> list[T]:
    if not found:
        raise ValueError("give at least one value, with commas between several")
    if len(found) > MAX_VALUES:
        raise ValueError(f"gives {len(found)} values; at most {MAX_VALUES} are possible")
    return found


def _numbers(part: str, whole: bool) -> list[float]:
    if re.fullmatch(_NUMBER, part):
        return [float(part)]
    match = _RANGE.fullmatch(part)
    if match is None:
        raise ValueError(f"“{part[:40]}” is no number. Write 4, 8, 12 or 0.4-1.2 x5 or 10-30 +5")
    first, last = float(match["first"]), float(match["last"])
    if match["count"]:
        return _spread(first, last, int(match["count"]), whole)
    if match["step"] is None and not (whole and first == int(first)):
        raise ValueError(f"“{part}” needs a count or a step: {part} x5 or {part} +0.1")
    return _stepped(first, last, abs(float(match["step"] or 1)), part)


def _spread(first: float, last: float, count: int, whole: bool) -> list[float]:
    if not 2 <= count <= MAX_VALUES:
        raise ValueError(f"a range has 2 to {MAX_VALUES} values, not {count}")
    each = [first + (last - first) * n / (count - 1) for n in range(count)]
    return [float(round(number)) if whole else round(number, 4) for number in each]


def _stepped(first: float, last: float, step: float, part: str) -> list[float]:
    if step == 0 or abs(last - first) / step > MAX_VALUES:
        raise ValueError(f"“{part}” gives more than {MAX_VALUES} values")
    count = int(abs(last - first) / step + 1e-9) + 1
    signed = step if last >= first else -step
    return [round(first + signed * n, 4) for n in range(count)]
