"""Prompts as embeddings of CLIP text encoders, by the rules that A1111 users expect.

Long prompts are encoded in chunks of 75 tokens and joined, weights scale the token vectors and the
chunk's mean is restored, positive and negative are padded to equal length with empty chunks. Each
chunk is encoded alone, so an embedding depends on nothing but its own words. SDXL reads two encoders
side by side, the layer before their last, and the second one's pooled output of the first chunk.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from worker.inference.embeddings import Embedding, check_embeddings, in_place, split_names
from worker.inference.errors import SettingsError
from worker.inference.prompt import Run, parse_weights, read_prompt

COMMA_BACKTRACK = 20
"""A chunk that fills up breaks at its last comma, if that lies within this many tokens."""
PLACEHOLDER = 0
"""Token id under a learnt vector: any word, neither start nor end."""


class Token(NamedTuple):
    """`vector` is the number of a vector of a textual inversion that takes the token's place."""

    id: int
    weight: float
    embedding: Embedding | None = None
    vector: int = 0


class Prompted(NamedTuple):
    """A prompt as the U-Net takes it: [1, 77 n, width] and, for SDXL, [1, pooled width]."""

    embeddings: Tensor
    pooled: Tensor | None = None


def encode_pair(
    pipe: Any, prompt: str, negative_prompt: str, clip_skip: int = 1
) -> tuple[Prompted, Prompted]:
    """Prompt and negative prompt, of equal length, in the U-Net's dtype.

    `clip_skip` counts as A1111 does: 1 = the last layer. SettingsError where the encoder has fewer layers.
    """
    [positive], negative = Texts(pipe, clip_skip).encode([prompt], negative_prompt)
    return positive, negative


class Texts:
    """The encoded texts of one picture or more: every text is encoded once.

    Not to be kept where LoRAs are switched: they change the text encoders.
    """

    def __init__(self, pipe: Any, clip_skip: int = 1, embeddings: Sequence[Embedding] = ()) -> None:
        check_embeddings(pipe, embeddings)
        self._pipe, self._clip_skip, self._embeddings = pipe, clip_skip, embeddings
        self._encoded: dict[str, list[Prompted]] = {}
        self._empty: Prompted | None = None

    def encode(self, prompts: Sequence[str], negative_prompt: str) -> tuple[list[Prompted], Prompted]:
        """Prompts and the negative prompt they are drawn against, all of equal length."""
        sides = [self._chunks(text) for text in (*prompts, negative_prompt)]
        length = max(len(chunks) for chunks in sides)
        *positives, negative = (self._joined(chunks, length) for chunks in sides)
        zeros = getattr(self._pipe.config, "force_zeros_for_empty_prompt", False)
        if zeros and parse_weights(read_prompt(negative_prompt).text) == [[]]:
            negative = Prompted(*(torch.zeros_like(t) for t in negative if t is not None))
        return positives, negative

    def _chunks(self, text: str) -> list[Prompted]:
        words = read_prompt(text).text
        if words not in self._encoded:
            tokens = token_chunks(
                self._pipe.tokenizer, parse_weights(words), chunk_size(self._pipe), self._embeddings
            )
            self._encoded[words] = [self._encode(chunk) for chunk in tokens]
        return self._encoded[words]

    def _joined(self, chunks: list[Prompted], length: int) -> Prompted:
        missing = length - len(chunks)
        if missing and self._empty is None:
            self._empty = self._encode([])
        padded = [*chunks, *([self._empty] if self._empty else []) * missing]
        return Prompted(torch.cat([chunk.embeddings for chunk in padded], dim=1), chunks[0].pooled)

    @torch.no_grad()
    def _encode(self, tokens: list[Token]) -> Prompted:
        found = _encode_chunk(self._pipe, tokens, self._clip_skip)
        where = (self._pipe.unet.device, self._pipe.unet.dtype)
        pooled = found.pooled
        return Prompted(found.embeddings.to(*where), None if pooled is None else pooled.to(*where))


def chunk_size(pipe: Any) -> int:
    """Tokens of a chunk without its start and end: 75 for CLIP."""
    positions: int = pipe.text_encoder.config.max_position_embeddings
    limit: int = pipe.tokenizer.model_max_length
    return min(positions, limit) - 2


def token_chunks(
    tokenizer: Any, parts: list[list[Run]], size: int, embeddings: Sequence[Embedding] = ()
) -> Iterator[list[Token]]:
    """Chunks of at most `size` tokens; every part (`BREAK`) starts a chunk. At least one chunk.

    The vectors of a textual inversion stay together where a chunk can hold them all.
    """
    comma = _token_ids(tokenizer, ",")
    for part in parts:
        tokens = [
            token
            for run in part
            for piece in split_names(run.text, embeddings)
            for token in _tokens(tokenizer, piece, run.weight)
        ]
        while len(tokens) > size:
            cut = _cut(tokens, size, comma[0] if len(comma) == 1 else None)
            yield tokens[:cut]
            tokens = tokens[cut:]
        yield tokens


def _tokens(tokenizer: Any, piece: str | Embedding, weight: float) -> list[Token]:
    if isinstance(piece, str):
        return [Token(number, weight) for number in _token_ids(tokenizer, piece)]
    return [Token(PLACEHOLDER, weight, piece, number) for number in range(len(piece))]


def _token_ids(tokenizer: Any, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    return ids


def _cut(tokens: list[Token], size: int, comma: int | None) -> int:
    for place in range(size - 1, max(size - 1 - COMMA_BACKTRACK, 0), -1):
        if tokens[place].id == comma and tokens[place].embedding is None:
            return place + 1
    within = tokens[size].vector  # vectors of an embedding that would be left behind
    return size - within if 0 < within < size else size


def _encode_chunk(pipe: Any, tokens: list[Token], clip_skip: int) -> Prompted:
    """The encoders differ in what they take for padding; all else of the tokens is CLIP's."""
    tokenizer = pipe.tokenizer
    padding = chunk_size(pipe) - len(tokens)
    ids = [tokenizer.bos_token_id, *(token.id for token in tokens), tokenizer.eos_token_id]
    weights = torch.tensor([1.0, *(token.weight for token in tokens), 1.0, *[1.0] * padding])
    if getattr(pipe, "text_encoder_2", None) is None:
        padded = ids + [tokenizer.pad_token_id] * padding
        with in_place(pipe.text_encoder, _places(tokens, "text_encoder")):
            return Prompted(emphasise(_hidden(pipe.text_encoder, padded, clip_skip), weights))
    hidden, pooled = [], None
    for part, pad in (
        ("text_encoder", tokenizer.pad_token_id),
        ("text_encoder_2", pipe.tokenizer_2.pad_token_id),
    ):
        encoder = getattr(pipe, part)
        with in_place(encoder, _places(tokens, part)):
            state, pooled = _penultimate(encoder, ids + [pad] * padding, clip_skip)
        hidden.append(emphasise(state, weights))
    return Prompted(torch.cat(hidden, dim=-1), pooled)


def _places(tokens: list[Token], part: str) -> dict[int, Tensor]:
    """Learnt vectors by their place in the chunk; the start token comes first."""
    return {
        place: token.embedding.vectors[part][token.vector]
        for place, token in enumerate(tokens, start=1)
        if token.embedding is not None
    }


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
