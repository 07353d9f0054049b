"""Embeddings: equal to the plain encoder where nothing is weighted, A1111's rules where something is."""

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.worker.inference.small import embeddings_of
from worker.inference.conditioning import chunk_size, emphasise, token_chunks
from worker.inference.errors import SettingsError
from worker.inference.prompt import Run, parse_weights


def plain_ids(pipe: Any, text: str) -> Tensor:
    ids: Tensor = pipe.tokenizer(
        text, padding="max_length", max_length=77, truncation=True, return_tensors="pt"
    ).input_ids
    return ids


def chunks(pipe: Any, text: str) -> list[list[str]]:
    return [
        pipe.tokenizer.convert_ids_to_tokens([token.id for token in chunk])
        for chunk in token_chunks(pipe.tokenizer, parse_weights(text), chunk_size(pipe))
    ]


def test_plain_prompts_are_what_the_encoder_says(pipe: Any) -> None:
    positive, negative = embeddings_of(pipe, "a red house", "blurred")
    assert torch.equal(positive, pipe.text_encoder(plain_ids(pipe, "a red house"))[0])
    assert torch.equal(negative, pipe.text_encoder(plain_ids(pipe, "blurred"))[0])


def test_lora_tags_are_not_encoded(pipe: Any) -> None:
    assert torch.equal(
        embeddings_of(pipe, "a red house <lora:ink:0.5>", "")[0], embeddings_of(pipe, "a red house", "")[0]
    )


@pytest.mark.parametrize("skip", [1, 2])
def test_clip_skip_takes_an_earlier_layer_through_the_last_norm(pipe: Any, skip: int) -> None:
    encoder = pipe.text_encoder
    hidden = encoder.embeddings(plain_ids(pipe, "a red house"))
    mask = torch.full((77, 77), float("-inf")).triu(1)[None, None]
    for layer in encoder.encoder.layers[: 3 - skip]:
        hidden = layer(hidden, attention_mask=mask)
    expected = encoder.final_layer_norm(hidden)
    found, _ = embeddings_of(pipe, "a red house", "", skip)
    assert torch.allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("skip", [0, 3])
def test_clip_skip_beyond_the_layers_is_refused(pipe: Any, skip: int) -> None:
    with pytest.raises(SettingsError, match="between 1 and 2"):
        embeddings_of(pipe, "a", "", skip)


def test_long_prompts_are_cut_into_chunks_and_none_of_it_is_lost(pipe: Any) -> None:
    text = " ".join("abcdefg"[place % 7] for place in range(160))
    found = chunks(pipe, text)
    assert [len(chunk) for chunk in found] == [75, 75, 10]
    assert [token for chunk in found for token in chunk] == [f"{letter}</w>" for letter in text.split()]


def test_chunks_break_at_a_comma_that_is_near(pipe: Any) -> None:
    found = chunks(pipe, "a " * 60 + "," + " b" * 30)
    assert [len(chunk) for chunk in found] == [61, 30]
    assert found[0][-1] == ",</w>"
    assert [len(chunk) for chunk in chunks(pipe, "a " * 50 + "," + " b" * 40)] == [75, 16]


def test_a_chunk_that_is_just_full_stays_one(pipe: Any) -> None:
    assert [len(chunk) for chunk in chunks(pipe, "a " * 75)] == [75]


def test_break_starts_a_chunk(pipe: Any) -> None:
    assert chunks(pipe, "a b BREAK c") == [["a</w>", "b</w>"], ["c</w>"]]


def test_positive_and_negative_are_padded_with_empty_chunks(pipe: Any) -> None:
    positive, negative = embeddings_of(pipe, "a " * 100, "blurred")
    empty = pipe.text_encoder(plain_ids(pipe, ""))[0]
    assert positive.shape == negative.shape == (1, 154, 32)
    assert torch.equal(negative[:, 77:], empty)
    swapped, long_negative = embeddings_of(pipe, "blurred", "a " * 100)
    assert torch.equal(swapped, negative)
    assert torch.equal(long_negative, positive)


def test_an_embedding_does_not_depend_on_the_other_prompt(pipe: Any) -> None:
    alone, _ = embeddings_of(pipe, "a red house", "")
    beside, _ = embeddings_of(pipe, "a red house", "b " * 200)
    assert torch.equal(beside[:, :77], alone)


def test_emphasis_scales_vectors_and_restores_the_mean() -> None:
    hidden = torch.rand(1, 4, 8, generator=torch.Generator().manual_seed(0)) + 1
    weights = torch.tensor([1.0, 1.5, 0.5, 1.0])
    found = emphasise(hidden, weights)
    assert found.mean().item() == pytest.approx(hidden.mean().item(), rel=1e-6)
    ratio = found / hidden
    assert torch.allclose(ratio[0, 1] / ratio[0, 0], torch.full((8,), 1.5))
    assert torch.allclose(ratio[0, 2] / ratio[0, 0], torch.full((8,), 0.5))


def test_vectors_without_a_mean_are_only_scaled() -> None:
    """The mean is noise around 0: restoring it would multiply the picture by anything, signs included."""
    hidden = torch.tensor([[[1.0, -1.002], [2.0, -1.9989]]])
    assert torch.equal(emphasise(hidden, torch.tensor([1.0, 2.0])), hidden * torch.tensor([[[1.0], [2.0]]]))


def test_no_weights_leave_every_bit() -> None:
    hidden = torch.rand(1, 4, 8)
    assert emphasise(hidden, torch.ones(4)) is hidden


def test_weights_go_to_the_tokens_of_their_words(pipe: Any) -> None:
    [chunk] = token_chunks(pipe.tokenizer, [[Run("a "), Run("red", 1.3), Run(" x")]], 75)
    assert [token.weight for token in chunk] == [1.0, 1.3, 1.3, 1.0]


def test_a_weight_changes_the_embedding_of_the_whole_prompt_only_where_it_must(pipe: Any) -> None:
    plain, _ = embeddings_of(pipe, "a red house", "")
    weighted, _ = embeddings_of(pipe, "a (red:1.5) house", "")
    changed = weighted / plain
    spread = changed.reshape(77, -1).median(dim=1).values
    assert torch.allclose(spread[2:4] / spread[0], torch.full((2,), 1.5), rtol=1e-4)
    assert torch.allclose(spread[4:] / spread[0], torch.ones(73), rtol=1e-4)
