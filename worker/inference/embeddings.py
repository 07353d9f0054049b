"""Textual inversions: a name in the prompt stands for learnt vectors that take the place of tokens.

Read from safetensors only: `emb_params` or one tensor of any name (SD1), `clip_l` and `clip_g` (SDXL).
A name is found as a word of its own, in any case, with or without `embedding:` before it.
"""

import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from worker.inference.errors import SettingsError

MOST_VECTORS = 256
_CALLED = re.compile(r"\bembedding:([\w.-]{1,200})", re.IGNORECASE)
SDXL_KEYS = {"text_encoder": "clip_l", "text_encoder_2": "clip_g"}


class EmbeddingError(SettingsError):
    """An embedding that cannot be used. The words are for whoever chose it."""


@dataclass(frozen=True, eq=False)
class Embedding:
    """`vectors` by text encoder (`text_encoder`, `text_encoder_2`): [n, width], n alike."""

    name: str
    vectors: dict[str, Tensor]

    def __len__(self) -> int:
        return len(next(iter(self.vectors.values())))


def read_embedding(path: Path, name: str) -> Embedding:
    """Read a textual inversion. EmbeddingError where the file is none or damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise EmbeddingError(
            f"The file of the embedding “{name}” cannot be read: it must be a whole .safetensors file."
        ) from error
    return Embedding(name, _vectors(tensors, name))


def _vectors(tensors: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    if "clip_l" in tensors and "clip_g" in tensors:
        found = {encoder: tensors[key] for encoder, key in SDXL_KEYS.items()}
    elif "emb_params" in tensors:
        found = {"text_encoder": tensors["emb_params"]}
    elif len(tensors) == 1:
        found = {"text_encoder": next(iter(tensors.values()))}
    else:
        raise EmbeddingError(f"The file of the embedding “{name}” holds something else.")
    found = {encoder: (each[None] if each.dim() == 1 else each).float() for encoder, each in found.items()}
    counts = {len(each) for each in found.values()}
    finite = all(bool(torch.isfinite(each).all()) for each in found.values())
    if any(each.dim() != 2 for each in found.values()) or len(counts) != 1 or not finite:
        raise EmbeddingError(f"The file of the embedding “{name}” is damaged.")
    if not 1 <= counts.pop() <= MOST_VECTORS:
        raise EmbeddingError(f"The embedding “{name}” has too many vectors.")
    return found


def check_embeddings(pipe: Any, embeddings: Sequence[Embedding]) -> None:
    """EmbeddingError where one was made for other text encoders than this pipeline's."""
    encoders = {part: getattr(pipe, part, None) for part in SDXL_KEYS}
    wanted = {
        part: encoder.get_input_embeddings().embedding_dim for part, encoder in encoders.items() if encoder
    }
    for embedding in embeddings:
        found = {part: vectors.shape[1] for part, vectors in embedding.vectors.items()}
        if found != wanted:
            words = [" and ".join(map(str, widths.values())) for widths in (found, wanted)]
            raise EmbeddingError(
                f"The embedding “{embedding.name}” needs another base model: its vectors have {words[0]} "
                f"numbers, this checkpoint's text encoder reads {words[1]}."
            )


def split_names(text: str, embeddings: Sequence[Embedding]) -> Iterator[str | Embedding]:
    """The text, with embeddings in place of their names; of names that overlap the longest counts."""
    by_name = {each.name.lower(): each for each in embeddings}
    if not by_name:
        yield text
        return
    names = "|".join(re.escape(name) for name in sorted(by_name, key=len, reverse=True))
    pattern = rf"(?<![\w-])(?:embedding:)?({names})(?![\w-]|\.\w)"
    at = 0
    for match in re.finditer(pattern, text, re.IGNORECASE):
        if match.start() > at:
            yield text[at : match.start()]
        yield by_name[match[1].lower()]
        at = match.end()
    if at < len(text):
        yield text[at:]


def unknown_names(text: str, names: Collection[str]) -> list[str]:
    """What `embedding:…` calls and is not among `names`."""
    known = {name.lower() for name in names}
    called = [found.rstrip(".") for found in _CALLED.findall(text)]
    return [name for name in dict.fromkeys(called) if name and name.lower() not in known]


@contextmanager
def in_place(encoder: Any, places: dict[int, Tensor]) -> Iterator[None]:
    """Let the encoder read these vectors [width] at these places of its next text."""
    if not places:
        yield
        return

    def put(_module: Any, _arguments: Any, looked_up: Tensor) -> Tensor:
        changed = looked_up.clone()
        for place, vector in places.items():
            changed[:, place] = vector.to(changed)
        return changed

    handle = encoder.get_input_embeddings().register_forward_hook(put)
    try:
        yield
    finally:
        handle.remove()
