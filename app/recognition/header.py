"""The header of a safetensors file, read with caps: whoever sends a file decides nothing about our memory.

Only the first bytes are read, the weights never. What is another kind of file is told by its content and
refused in words that say what to do; a pickle is never opened. The caps: 16 MiB of header, 20 000 tensors,
8 dimensions, 1 MiB of metadata, of which the longest fields are left out rather than the file refused.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple, Protocol

from app.recognition.foreign import FOREIGN_BYTES, HeaderRefused, refuse_foreign

MAX_HEADER = 16 << 20
MAX_TENSORS = 20_000
MAX_METADATA = 1 << 20
MAX_FIELDS = 10_000
MAX_RANK = 8
MAX_NAME = 1000
BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
    "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32, "C64": 64, "F64": 64,
    "I64": 64, "U64": 64, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
}  # fmt: skip
"""Bits of one element by dtype, all that the safetensors library knows."""


class Readable(Protocol):
    """A binary file that is read once from its start."""

    def read(self, size: int, /) -> bytes: ...


class TensorInfo(NamedTuple):
    """One tensor; `begin` and `end` are bytes after the header."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def elements(self) -> int:
        return prod(self.shape)


@dataclass(frozen=True, slots=True)
class Header:
    """What a file says of itself. Text in `metadata` is free of control characters that nothing can store."""

    tensors: dict[str, TensorInfo]
    metadata: dict[str, str]
    size: int
    """Bytes of the whole file."""
    left_out: tuple[str, ...] = ()
    """Names of metadata fields that were too long to keep."""

    def shape(self, name: str) -> tuple[int, ...]:
        """The tensor's shape, () where there is no such tensor."""
        info = self.tensors.get(name)
        return () if info is None else info.shape


def read_header(file: Readable, size: int) -> Header:
    """Read and check the header of a file of `size` bytes, from its start.

    Errors: HeaderRefused with a code and words, for everything that is not a whole safetensors file.
    """
    start = read_exactly(file, min(size, FOREIGN_BYTES), size)
    refuse_foreign(start, size)
    length = int.from_bytes(start[:8], "little")
    if length > MAX_HEADER:
        raise _damaged(f"its header says that it is {length:,} bytes long")
    if length + 8 > size:
        raise _cut_off(size, length + 8)
    raw = start[8 : 8 + length] + read_exactly(file, max(0, 8 + length - len(start)), size)
    fields = _parse(raw)
    metadata, left_out = _metadata(fields.pop("__metadata__", {}))
    if len(fields) > MAX_TENSORS:
        raise _damaged(f"it says that it holds too many tensors ({len(fields):,})")
    tensors = {name: _tensor(name, entry) for name, entry in fields.items()}
    if not tensors:
        raise _damaged("it holds no tensor")
    _check_layout(tensors, size - 8 - length, size)
    return Header(tensors, metadata, size, left_out)


def read_exactly(file: Readable, count: int, size: int) -> bytes:
    """`count` bytes, whatever pieces they come in. Errors: HeaderRefused where the file ends before."""
    pieces: list[bytes] = []
    while count > 0 and (piece := file.read(count)):
        pieces.append(piece)
        count -= len(piece)
    if count > 0:
        raise _cut_off(size - count, size)
    return b"".join(pieces)


def _damaged(words: str) -> HeaderRefused:
    return HeaderRefused(
        "file-damaged", f"This safetensors file is damaged: {words}. Copy or download it again."
    )


def _cut_off(have: int, need: int) -> HeaderRefused:
    words = f"This file is not whole: {have:,} of {need:,} bytes are there. Copy or download it again."
    return HeaderRefused("file-cut-off", words)


def _parse(raw: bytes) -> dict[str, Any]:
    _check_structure(raw)
    try:
        fields = json.loads(
            raw.decode(), object_pairs_hook=_unique, parse_float=_no_number, parse_constant=_no_number
        )
    except HeaderRefused:
        raise
    except (ValueError, RecursionError) as error:
        raise _damaged("its header cannot be read") from error
    if not isinstance(fields, dict):
        raise _damaged("its header is no list of tensors")
    return fields


def _check_structure(raw: bytes) -> None:
    """Count brackets, commas and texts before anything is built from them.

    A parsed header takes up to thirty times its bytes where it is made of empty lists.
    """
    plain = raw.replace(b"\\\\", b"").replace(b'\\"', b"")
    entries = MAX_TENSORS + MAX_FIELDS
    if plain.count(b'"') > 2 * 5 * entries:
        raise _damaged("its header has too many entries")
    outside = b"".join(plain.split(b'"')[::2])
    counts = outside.count(b"{"), outside.count(b"["), outside.count(b",")
    if any(count > limit for count, limit in zip(counts, (entries, 2 * entries, 14 * entries), strict=True)):
        raise _damaged("its header has too many entries")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise _damaged("its header names something twice")
    return fields


def _no_number(text: str) -> Any:
    raise ValueError(text)


def _metadata(found: Any) -> tuple[dict[str, str], tuple[str, ...]]:
    """Texts by name, at most MAX_METADATA bytes of them; the longest go first."""
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise _damaged("its metadata is not text")
    if len(found) > MAX_FIELDS:
        raise _damaged("its metadata has too many fields")
    kept: dict[str, str] = {}
    left_out: list[str] = []
    room = MAX_METADATA
    for name, value in sorted(found.items(), key=lambda field: (len(field[0]) + len(field[1]), field[0])):
        room -= len(name.encode(errors="replace")) + len(value.encode(errors="replace"))
        if room >= 0 and len(name) <= MAX_NAME:
            kept[clean(name)] = clean(value)
        else:
            left_out.append(clean(name)[:MAX_NAME])
    return kept, tuple(sorted(left_out))


def clean(text: str) -> str:
    """Without what a database or a terminal cannot take: lone surrogates and control characters."""
    if text.isprintable():
        return text
    text = text.encode(errors="ignore").decode()
    return "".join(c for c in text if c.isprintable() or c in "\n\t")


def _tensor(name: str, entry: Any) -> TensorInfo:
    if not name or len(name) > MAX_NAME or not name.isprintable():
        raise _damaged("a tensor has no proper name")
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise _damaged(f"what it says of the tensor {name} is not complete")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in BITS:
        raise _damaged(f"the kind of numbers of the tensor {name} is not known")
    if not _whole_numbers(shape, lambda count: count <= MAX_RANK):
        raise _damaged(f"the shape of the tensor {name} is wrong")
    if not _whole_numbers(offsets, lambda count: count == 2):
        raise _damaged(f"the place of the tensor {name} is wrong")
    info = TensorInfo(dtype, tuple(shape), offsets[0], offsets[1])
    if info.elements * BITS[dtype] != 8 * (info.end - info.begin):
        raise _damaged(f"the tensor {name} has another size than its shape says")
    return info


def _whole_numbers(values: Any, fits: Callable[[int], bool]) -> bool:
    return (
        isinstance(values, list)
        and fits(len(values))
        and all(type(value) is int and 0 <= value < 1 << 60 for value in values)
    )


def _check_layout(tensors: dict[str, TensorInfo], room: int, size: int) -> None:
    """The tensors lie one behind the other, without gaps, and fill the file."""
    at = 0
    for name, info in sorted(tensors.items(), key=lambda item: (item[1].begin, item[1].end)):
        if info.begin != at:
            raise _damaged(f"the tensor {name} is not where the one before it ends")
        at = info.end
    if at > room:
        raise _cut_off(size, size - room + at)
    if at < room:
        raise _damaged(f"{room - at:,} bytes at its end belong to no tensor")
