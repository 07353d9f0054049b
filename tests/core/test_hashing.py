"""Hashes by their published definitions, whatever the size of the chunks."""

import hashlib
import json
import random
import struct

import pytest

from app.core.hashing import FileHasher, hash_stream


def _safetensors(tensors: bytes) -> bytes:
    header = json.dumps(
        {
            "__metadata__": {"a": "b"},
            "w": {"dtype": "U8", "shape": [len(tensors)], "data_offsets": [0, len(tensors)]},
        }
    ).encode()
    return struct.pack("<Q", len(header)) + header + tensors


def test_published_vector() -> None:
    """The scanner's own vector: .NET writes CRC-32 little-endian."""
    found = hash_stream([b"hello ", b"world"])
    assert found["CRC32"] == "85114A0D"
    assert found["BLAKE3"] == "D74981EFA70A0C880B8D8C1985D075DBCBF679B99A5F9914E5AAF96B831A9E24"
    assert found["SHA256"] == hashlib.sha256(b"hello world").hexdigest().upper()
    assert found["AutoV2"] == found["SHA256"][:10]
    assert "AutoV1" not in found
    assert "AutoV3" not in found


@pytest.mark.parametrize("size", [1, 7, 8, 9, 10, 4096, 1 << 20, 1 << 24])
def test_safetensors_in_chunks_of_any_size(size: int) -> None:
    tensors = random.Random(1).randbytes(5000 if size < 4096 else 0x200000)
    data = _safetensors(tensors)
    found = hash_stream(data[i : i + size] for i in range(0, len(data), size))
    assert found["Tensor"] == hashlib.sha256(tensors).hexdigest().upper()
    assert found["AutoV3"] == found["Tensor"][:12]
    assert found["SHA256"] == hashlib.sha256(data).hexdigest().upper()
    if size >= 4096:
        assert found["AutoV1"] == hashlib.sha256(data[0x100000:0x110000]).hexdigest()[:8].upper()
    else:
        assert "AutoV1" not in found


@pytest.mark.parametrize("size", [5, 4096, 1 << 20])
def test_hashes_beside_each_other_are_the_same(size: int) -> None:
    data = _safetensors(random.Random(2).randbytes(6000 if size < 4096 else 0x200000))
    hasher = FileHasher()
    assert b"".join(hasher.passing(data[i : i + size] for i in range(0, len(data), size))) == data
    assert hasher.hashes() == hash_stream([data])


def test_cut_off_header_has_no_tensor_hash() -> None:
    assert "AutoV3" not in hash_stream([struct.pack("<Q", 5000) + b'{"a":1}'])


def test_empty_file() -> None:
    assert hash_stream([])["SHA256"] == hashlib.sha256(b"").hexdigest().upper()
