"""Prompts as embeddings of CLIP text encoders, by the rules that A1111 users expect.

Long prompts are encoded in chunks of 75 tokens and joined, weights scale the token vectors and the
chunk's mean is restored, positive and negative are padded to equal length with empty chunks. Each
chunk is encoded alone, so an embedding depends on nothing but its own words. SDXL reads two encoders
side by side, the layer before their last, and the second one's pooled output of the first chunk.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from worker.inference.errors import SettingsError
from worker.inference.prompt import Run, parse_weights, read_prompt

COMMA_BACKTRACK = 20
"""A chunk that fills up breaks at its last comma, if that lies within this many tokens."""

Token = tuple[int, float]
"""Token id and weight."""


class Prompted(NamedTuple):
    """A prompt as the U-Net takes it: [1, 77 n, width] and, for SDXL, [1, pooled width]."""

    embeddings: Tensor
    pooled: Tensor | None = None


@torch.no_grad()
def encode_pair(
    pipe: Any, prompt: str, negative_prompt: str, clip_skip: int = 1
) -> tuple[Prompted, Prompted]:
    """Prompt and negative prompt, of equal length, in the U-Net's dtype.

    `clip_skip` counts as A1111 does: 1 = the last layer. SettingsError where the encoder has fewer layers.
    """
    sides = [
        list(token_chunks(pipe.tokenizer, parse_weights(read_prompt(text).text), chunk_size(pipe)))
        for text in (prompt, negative_prompt)
    ]
    length = max(len(chunks) for chunks in sides)
    positive, negative = (
        _encode(pipe, chunks + [[]] * (length - len(chunks)), clip_skip) for chunks in sides
    )
    if not any(sides[1]) and getattr(pipe.config, "force_zeros_for_empty_prompt", False):
        negative = Prompted(*(torch.zeros_like(t) for t in negative if t is not None))
    return positive, negative


def _encode(pipe: Any, chunks: list[list[Token]], clip_skip: int) -> Prompted:
    found = [_encode_chunk(pipe, chunk, clip_skip) for chunk in chunks]
    where = (pipe.unet.device, pipe.unet.dtype)
    pooled = found[0].pooled
    return Prompted(
        torch.cat([chunk.embeddings for chunk in found], dim=1).to(*where),
        None if pooled is None else pooled.to(*where),
    )


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


def _encode_chunk(pipe: Any, tokens: list[Token], clip_skip: int) -> Prompted:
    """The encoders differ in what they take for padding; all else of the tokens is CLIP's."""
    tokenizer = pipe.tokenizer
    padding = chunk_size(pipe) - len(tokens)
    ids = [tokenizer.bos_token_id, *(token for token, _ in tokens), tokenizer.eos_token_id]
    weights = torch.tensor([1.0, *(weight for _, weight in tokens), 1.0, *[1.0] * padding])
    if getattr(pipe, "text_encoder_2", None) is None:
        padded = ids + [tokenizer.pad_token_id] * padding
        return Prompted(emphasise(_hidden(pipe.text_encoder, padded, clip_skip), weights))
    hidden, pooled = [], None
    for encoder, pad in (
        (pipe.text_encoder, tokenizer.pad_token_id),
        (pipe.text_encoder_2, pipe.tokenizer_2.pad_token_id),
    ):
        state, pooled = _penultimate(encoder, ids + [pad] * padding, clip_skip)
        hidden.append(emphasise(state, weights))
    return Prompted(torch.cat(hidden, dim=-1), pooled)


def _ids(encoder: Any, tokens: list[int], clip_skip: int) -> Tensor:
    if not 1 <= clip_skip <= encoder.config.num_hidden_layers:
        raise SettingsError(f"Clip skip must be between 1 and {encoder.config.num_hidden_layers}.")
    return torch.tensor([tokens], device=encoder.device)


def _penultimate(encoder: Any, tokens: list[int], clip_skip: int) -> tuple[Tensor, Any]:
    """What SDXL reads: the layer before the last for clip skip 1 and 2, without the last norm; and pooled."""
    output = encoder(_ids(encoder, tokens, clip_skip), output_hidden_states=True)
    return output.hidden_states[-max(2, clip_skip)], getattr(output, "text_embeds", None)


def _hidden(encoder: Any, tokens: list[int], clip_skip: int) -> Tensor:
    ids = _ids(encoder, tokens, clip_skip)
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
