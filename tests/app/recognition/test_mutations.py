"""Damaged and hostile headers: always an answer or a clear refusal, in bounded time and memory.

A few hundred by default; with `BOTTEGA_TEST_HEADERS=10000` that many, which takes some minutes.
"""

import io
import json
import os
import random
import struct
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.recognition import HeaderRefused, Recognised, recognise_file
from tests.app.recognition.listings import SD1, SD_LDM, SDXL, VAE_LDM, encode, ldm, lora
from tests.app.recognition.test_adapters import KOHYA_SD1, LOHA, LOKR
from tests.app.recognition.test_bases import FLUX, wan

SEEDS = [
    encode(shapes, {"format": "pt", "ss_network_alpha": "8", "ss_tag_frequency": '{"1_x": {"x": 1}}'})
    for shapes in (
        SD1, SDXL, ldm(SD_LDM, 768, channels=9), FLUX, wan(5120, 16), KOHYA_SD1, LOHA, LOKR, VAE_LDM,
        {"emb_params": [5, 768]}, lora({"unet:0": (768, 320)}, ends=(":down", ":up")),
    )
]  # fmt: skip
VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 1, 7, 1 << 62, 1 << 70, 1.5, "", "F16", "F32", "\ud800", "\0", [], {}, [[]], [0, 0],
    [1] * 9, {"dtype": "F16"}, {"dtype": "F16", "shape": [0], "data_offsets": [0, 0]}, "x" * 5000,
)  # fmt: skip
MEMORY = 64 << 20


def judge(content: bytes, size: int) -> Recognised | HeaderRefused:
    """An answer or a refusal; everything else fails the test. What is answered can be stored and sent."""
    try:
        found = recognise_file(io.BytesIO(content), size)
    except HeaderRefused as refused:
        return _checked(refused)
    text = found.model_dump_json()
    assert len(text) < 100_000
    assert "\\u0000" not in text
    assert found == Recognised.model_validate_json(text)
    return found


def _checked(refused: HeaderRefused) -> HeaderRefused:
    assert refused.code.replace("-", "").isalpha()
    assert 20 < len(refused.detail.encode()) < 5000
    return refused


def mutate(rng: random.Random, content: bytes, size: int) -> tuple[bytes, int]:
    """One to four changes: of bytes, of the parsed header, of the length that is told."""
    changes: list[Callable[[random.Random, bytes, int], tuple[bytes, int]]] = [
        _bytes,
        _bytes,
        _entries,
        _length,
    ]
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        content, size = rng.choice(changes)(rng, content, size)
    return content, size


def _bytes(rng: random.Random, content: bytes, size: int) -> tuple[bytes, int]:
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 8))):
        at = rng.randrange(len(changed) + 1)
        match rng.choice((0, 0, 0, 1, 2, 3)):
            case 0 if at < len(changed):
                changed[at] ^= 1 << rng.randrange(8)
            case 1:
                changed[at:at] = rng.choice((b"[", b"{", b'"', b"\\", b",", b"\xff", b"9", b"-", b"e9"))
            case 2:
                del changed[at : at + rng.randint(1, 20)]
            case _:
                changed[at:at] = changed[at : at + rng.randint(1, 200)]
    longer = len(changed) - len(content)
    if rng.random() < 0.7 and len(changed) > 8:  # so that the change reaches what comes after the JSON
        length = int.from_bytes(content[:8].ljust(8, b"\0"), "little") + longer
        changed[:8] = struct.pack("<Q", length % (1 << 64))
        size += longer
    return bytes(changed), max(0, size)


def _entries(rng: random.Random, content: bytes, size: int) -> tuple[bytes, int]:
    length = int.from_bytes(content[:8], "little")
    try:
        entries = json.loads(content[8 : 8 + length])
    except ValueError:
        return content, size
    if not isinstance(entries, dict) or not entries:
        return content, size
    name = rng.choice(list(entries))
    value = rng.choice(VALUES)
    match rng.randrange(5):
        case 0:
            entries.pop(name)
        case 1:
            entries[name] = value
        case 2 if isinstance(entries[name], dict):
            entries[name][rng.choice(("dtype", "shape", "data_offsets", "more"))] = value
        case 3:
            entries[rng.choice(("", "__metadata__", "a" * 2000, "\n", name + ".lora_up.weight"))] = value
        case _ if isinstance(entries[name], dict) and isinstance(entries[name].get("shape"), list):
            entries[name]["shape"] = [rng.choice((0, 1, 9, 768, 1 << 40)) for _ in entries[name]["shape"]]
    raw = json.dumps(entries).encode()
    return struct.pack("<Q", len(raw)) + raw + content[8 + length :], size - length + len(raw)


def _length(rng: random.Random, content: bytes, size: int) -> tuple[bytes, int]:
    told = rng.choice((0, 1, 2, len(content), 1 << 24, (1 << 24) + 1, 1 << 40, (1 << 64) - 1))
    told = rng.choice((told, int.from_bytes(content[:8].ljust(8, b"\0"), "little") + rng.randint(-3, 3)))
    return struct.pack("<Q", told % (1 << 64)) + content[8:], max(0, size + rng.choice((0, 0, 1, -1, -100)))


def run(seeds: range) -> set[str]:
    """Kinds and codes that came; checks the memory of each."""
    seen: set[str] = set()
    tracemalloc.start()
    try:
        for seed in seeds:
            rng = random.Random(seed)
            content, size = mutate(rng, *rng.choice(SEEDS))
            tracemalloc.reset_peak()
            found = judge(content, size)
            assert tracemalloc.get_traced_memory()[1] < MEMORY, seed
            seen.add(found.kind if isinstance(found, Recognised) else found.code)
    finally:
        tracemalloc.stop()
    return seen


def test_the_seeds_are_answered() -> None:
    for content, size in SEEDS:
        assert isinstance(judge(content, size), Recognised)


@pytest.mark.timeout(1800)
def test_mutated_headers() -> None:
    seen = run(range(int(os.environ.get("BOTTEGA_TEST_HEADERS", "300"))))
    assert seen >= {"checkpoint", "lora", "vae", "embedding", "file-damaged", "file-cut-off"}


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(("F16", "F32")),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=20), inner, max_size=5),
    max_leaves=20,
)
TENSOR = st.fixed_dictionaries(
    {"dtype": st.sampled_from(("F16", "F32", "I64", "F4", "X")) | JSON,
     "shape": st.lists(st.integers(-1, 5), max_size=9) | JSON,
     "data_offsets": st.lists(st.integers(-1, 200), min_size=2, max_size=2) | JSON}
)  # fmt: skip


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.text(max_size=30), TENSOR | JSON, max_size=6), st.integers(0, 300), st.booleans())
def test_any_json_as_header(entries: dict[str, Any], data: int, metadata: bool) -> None:
    if metadata:
        entries["__metadata__"] = {name: str(value) for name, value in entries.items()}
    raw = json.dumps(entries).encode()
    content = struct.pack("<Q", len(raw)) + raw + bytes(data)
    judge(content, len(content))


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=800))
def test_any_bytes_as_a_file(content: bytes) -> None:
    judge(content, len(content))
    judge(b"PK\x03\x04" + content, len(content) + 4)
    judge(b"PK\x03\x04" + content + b"PK\x05\x06" + content[:18].ljust(18, b"\0"), len(content) + 26)
