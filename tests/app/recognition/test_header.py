"""A header is read with caps, and every malformed one is refused in words."""

import io
import json
import struct
import tracemalloc
from typing import Any

import pytest

from app.recognition import HeaderRefused, read_header
from app.recognition.foreign import KINDS
from app.recognition.header import MAX_HEADER, MAX_METADATA, MAX_TENSORS
from app.web.error_codes import CODES
from tests.app.recognition.listings import Drip, encode, header_of

ONE = {"w": {"dtype": "F16", "shape": [2, 3], "data_offsets": [0, 12]}}


def file_of(entries: Any, data: int = 12) -> bytes:
    raw = entries if isinstance(entries, bytes) else json.dumps(entries).encode()
    return struct.pack("<Q", len(raw)) + raw + bytes(data)


def refusal(content: bytes, size: int | None = None) -> HeaderRefused:
    with pytest.raises(HeaderRefused) as refused:
        read_header(io.BytesIO(content), len(content) if size is None else size)
    assert refused.value.detail.endswith(".")
    return refused.value


def test_a_header_is_read_without_the_weights() -> None:
    data, size = encode({"w": [1000, 1000], "b": []}, {"title": "Tuscany\u0000 \ud800hills"})
    header = read_header(io.BytesIO(data), size)
    assert header.shape("w") == (1000, 1000)
    assert header.tensors["b"].elements == 1
    assert header.metadata == {"title": "Tuscany hills"}
    assert header.size == size
    assert len(data) < 600 < 2_000_000 < size
    assert read_header(Drip(data), size) == header


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        (b"{", "cannot be read"),
        (b'{"w": ', "cannot be read"),
        (b"{" * 5000, "cannot be read"),
        (b'{"w": {"dtype": "F16", "shape": [2, 3], "data_offsets": [0, 1e1]}}', "cannot be read"),
        (b'{"w": {"dtype": "F16", "shape": [NaN], "data_offsets": [0, 12]}}', "cannot be read"),
        (b'{"\xff": 1}', "cannot be read"),
        (b'{"a": {}, "a": {}}', "twice"),
        ({}, "no tensor"),
        ({"__metadata__": {"a": 1}}, "not text"),
        ({"__metadata__": []}, "not text"),
        ({"w": 1}, "not complete"),
        ({"w": {"dtype": "F16", "shape": [6]}}, "not complete"),
        ({"w": ONE["w"] | {"more": 1}}, "not complete"),
        ({"": ONE["w"]}, "no proper name"),
        ({"a\nb": ONE["w"]}, "no proper name"),
        ({"a" * 1001: ONE["w"]}, "no proper name"),
        ({"w": ONE["w"] | {"dtype": "F17"}}, "not known"),
        ({"w": ONE["w"] | {"dtype": ["F16"]}}, "not known"),
        ({"w": ONE["w"] | {"shape": [2, -3]}}, "shape"),
        ({"w": ONE["w"] | {"shape": [2, True]}}, "shape"),
        ({"w": ONE["w"] | {"shape": "23"}}, "shape"),
        ({"w": ONE["w"] | {"shape": [1] * 9}}, "shape"),
        ({"w": ONE["w"] | {"shape": [1 << 60, 1 << 59]}}, "shape"),
        ({"w": ONE["w"] | {"shape": [2, 4]}}, "another size"),
        ({"w": ONE["w"] | {"data_offsets": [0, 12, 12]}}, "place"),
        ({"w": ONE["w"] | {"data_offsets": [12, 0]}}, "another size"),
        ({"w": ONE["w"] | {"data_offsets": [4, 16]}}, "ends"),
        ({"w": ONE["w"], "v": ONE["w"]}, "ends"),
    ],
)
def test_a_malformed_header_is_refused(entries: Any, words: str) -> None:
    refused = refusal(file_of(entries))
    assert refused.code == "file-damaged"
    assert words in refused.detail


def test_a_file_that_is_not_whole_says_how_much_is_missing() -> None:
    data, size = encode({"w": [10, 10]})
    assert refusal(data, size - 1).code == "file-cut-off"
    refused = refusal(data[:20] + bytes(0), size)
    assert refused.code == "file-cut-off"
    assert "20 of" in refused.detail
    refused = refusal(struct.pack("<Q", 5000) + b"{" + bytes(100))
    assert refused.code == "file-cut-off"
    assert "5,008" in refused.detail
    assert "3 bytes at its end" in refusal(file_of(ONE, data=15)).detail


def test_the_caps_hold() -> None:
    assert "bytes long" in refusal(struct.pack("<Q", MAX_HEADER + 1) + b"{" + bytes(600), 1 << 40).detail
    empty = {"dtype": "F16", "shape": [0], "data_offsets": [0, 0]}
    many = {f"w{n}": empty for n in range(MAX_TENSORS + 1)}
    assert len(header_of({f"w{n}": [0] for n in range(MAX_TENSORS)}).tensors) == MAX_TENSORS
    assert "too many" in refusal(file_of(many, 0)).detail


@pytest.mark.parametrize("piece", [b"[],", b"{},", b'"\\"",', b"0,", b'"a",', b"[[[["])
def test_a_header_made_to_fill_the_memory_is_refused_before_it_is_parsed(piece: bytes) -> None:
    raw = b'{"w":[' + piece * ((MAX_HEADER - 100) // len(piece)) + b"0]}"
    content = file_of(raw, 0)
    tracemalloc.start()
    try:
        refusal(content)
        assert tracemalloc.get_traced_memory()[1] < 8 * MAX_HEADER
    finally:
        tracemalloc.stop()


def test_metadata_keeps_the_short_fields() -> None:
    metadata = {"thumbnail": "x" * MAX_METADATA, "ss_output_name": "tuscany", "ü": "ö"}
    header = header_of({"w": [2]}, metadata)
    assert header.metadata == {"ss_output_name": "tuscany", "ü": "ö"}
    assert header.left_out == ("thumbnail",)


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "empty-file"),
        (b"PK\x03\x04" + bytes(26) + b"archive/data.pkl" + bytes(500), "pickle"),
        (b"\x80\x02}q\x00(X\n\x00\x00\x00state_dict", "pickle"),
        (b"\x80\x05\x95" + bytes(600), "pickle"),
        (b"(dp0\nS'state_dict'\n", "pickle"),
        (b"cos\nsystem\n(S'echo'\ntR.", "pickle"),
        (bytes(257) + b"ustar" + bytes(300), "pickle"),
        (b"PK\x03\x04" + bytes(26) + b"unet/config.json" + bytes(500), "zip"),
        (b"GGUF\x03\x00\x00\x00" + bytes(600), "gguf"),
        (b"\r\n<!DOCTYPE html><html><head>", "web-page"),
        (b"\xef\xbb\xbf<html>", "web-page"),
        (b'{"error": "Unauthorized", "message": "log in"}', "text"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "lfs-pointer"),
        (b"\x89PNG\r\n\x1a\n" + bytes(600), "picture"),
        (b"7z\xbc\xaf\x27\x1c" + bytes(600), "archive"),
        (b"\x08\x07\x12\x07pytorch\x1a\x03" + bytes(600), "other-format"),
        (bytes(600), "file-cut-off"),
        (bytes(range(255, -1, -1)) * 4, "not-a-model"),
        (b"\x01", "not-a-model"),
    ],
)
def test_other_files_are_known_by_their_content(content: bytes, code: str) -> None:
    assert refusal(content).code == code


def test_a_pickle_is_refused_with_what_to_do() -> None:
    detail = refusal(b"\x80\x02" + bytes(600)).detail
    assert "never opened" in detail
    assert "Upload its .safetensors form" in detail


def test_every_refusal_is_explained_on_the_page_of_errors() -> None:
    codes = {code for _, code, _ in KINDS} | {"empty-file", "file-cut-off", "file-damaged", "not-a-model"}
    assert codes <= set(CODES)
