"""Prompts as embeddings of a CLIP text encoder, by the rules that A1111 users expect.

Long prompts are encoded in chunks of 75 tokens and joined, weights scale the token vectors and the
chunk's mean is restored, positive and negative are padded to equal length with empty chunks. Each
chunk is encoded alone, so an embedding depends on nothing but its own words.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from worker.inference.errors import SettingsError
from worker.inference.prompt import Run, parse_weights, read_prompt

COMMA_BACKTRACK = 20
"""A chunk that fills up breaks at its last comma, if that lies within this many tokens."""

Token = tuple[int, float]
"""Token id and weight."""


@torch.no_grad()
def encode_pair(pipe: Any, prompt: str, negative_prompt: str, clip_skip: int = 1) -> tuple[Tensor, Tensor]:
    """Embeddings [1, 77 n, width] of prompt and negative prompt, of equal length, in the U-Net's dtype.

    `clip_skip` counts as A1111 does: 1 = the last layer. SettingsError where the encoder has fewer layers.
    """
    sides = [
        list(token_chunks(pipe.tokenizer, parse_weights(read_prompt(text).text), chunk_size(pipe)))
        for text in (prompt, negative_prompt)
    ]
    length = max(len(chunks) for chunks in sides)
    positive, negative = (
        torch.cat(
            [_encode_chunk(pipe, chunk, clip_skip) for chunk in chunks + [[]] * (length - len(chunks))], dim=1
        ).to(pipe.unet.device, pipe.unet.dtype)
        for chunks in sides
    )
    return positive, negative


def chunk_size(pipe: Any) -> int:
    """Tokens of a chunk without its start and end: 75 for CLIP."""
    positions: int = pipe.text_encoder.config.max_position_embeddings
    limit: int = pipe.tokenizer.model_max_length
    return min(positions, limit) - 2


def token_chunks(tokenizer: Any, parts: list[list[Run]], size: int) -> Iterator[list[Token]]:
    """Chunks of at most `size` tokens; every part (`BREAK`) starts a chunk. At least one chunk."""
    for part in parts:
        tokens = [(token, run.weight) for run in part for token in _token_ids(tokenizer, run.text)]
        comma = _token_ids(tokenizer, ",")
        while len(tokens) > size:
            cut = _cut(tokens, size, comma[0] if len(comma) == 1 else None)
            yield tokens[:cut]
            tokens = tokens[cut:]
        yield tokens


def _token_ids(tokenizer: Any, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    return ids


def _cut(tokens: list[Token], size: int, comma: int | None) -> int:
    for place in range(size - 1, max(size - 1 - COMMA_BACKTRACK, 0), -1):
        if tokens[place][0] == comma:
            return place + 1
    return size


def _encode_chunk(pipe: Any, tokens: list[Token], clip_skip: int) -> Tensor:
    tokenizer, encoder = pipe.tokenizer, pipe.text_encoder
    padding = chunk_size(pipe) - len(tokens)
    ids = [tokenizer.bos_token_id, *(token for token, _ in tokens), tokenizer.eos_token_id]
    ids += [tokenizer.pad_token_id] * padding
    hidden = _hidden(encoder, torch.tensor([ids], device=encoder.device), clip_skip)
    weights = torch.tensor([1.0, *(weight for _, weight in tokens), 1.0, *[1.0] * padding])
    return emphasise(hidden, weights)


def _hidden(encoder: Any, ids: Tensor, clip_skip: int) -> Tensor:
    if not 1 <= clip_skip <= encoder.config.num_hidden_layers:
        raise SettingsError(f"Clip skip must be between 1 and {encoder.config.num_hidden_layers}.")
    if clip_skip == 1:
        last: Tensor = encoder(ids).last_hidden_state
        return last
    states = encoder(ids, output_hidden_states=True).hidden_states
    body = getattr(encoder, "text_model", encoder)  # CLIPTextModel of transformers 5 has no `text_model`
    skipped: Tensor = body.final_layer_norm(states[-clip_skip])
    return skipped


def emphasise(hidden: Tensor, weights: Tensor) -> Tensor:
    """Scale each token vector of `hidden` [1, tokens, width] by its weight, then restore the mean.

    Encoders whose vectors have no mean to speak of (it is noise around 0) would get an arbitrary
    factor; there the vectors are only scaled.
    """
    if bool((weights == 1).all()):
        return hidden
    full = hidden.float()
    scaled = full * weights.to(hidden.device)[None, :, None]
    restore = float(full.mean() / scaled.mean())
    if 0.5 <= restore * float(weights.mean()) <= 2.0:
        scaled = scaled * restore
    return scaled.to(hidden.dtype)
