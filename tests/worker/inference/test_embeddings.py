"""Textual inversions against the encoder run by hand with their vectors in place."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from worker.inference.conditioning import Texts, chunk_size, emphasise, token_chunks
from worker.inference.embeddings import Embedding, EmbeddingError, read_embedding, split_names
from worker.inference.prompt import parse_weights

WIDTH = 32


def learnt(name: str = "ink-style", count: int = 3, width: int = WIDTH, seed: int = 0) -> Embedding:
    made = torch.Generator().manual_seed(seed)
    return Embedding(name, {"text_encoder": torch.randn((count, width), generator=made)})


def by_hand(pipe: Any, pieces: list[str | Tensor]) -> Tensor:
    """CLIP's layers called one by one on rows looked up here: [1, 77, width]."""
    encoder, tokenizer = pipe.text_encoder, pipe.tokenizer
    table = encoder.embeddings.token_embedding.weight
    rows = [table[[tokenizer.bos_token_id]]]
    for piece in pieces:
        is_text = isinstance(piece, str)
        rows.append(table[tokenizer(piece, add_special_tokens=False)["input_ids"]] if is_text else piece)
    rows.append(table[[tokenizer.eos_token_id]])
    missing = 77 - sum(map(len, rows))
    rows.append(table[[tokenizer.pad_token_id] * missing])
    hidden = (torch.cat(rows) + encoder.embeddings.position_embedding.weight)[None]
    mask = torch.full((77, 77), float("-inf")).triu(1)[None, None]
    for layer in encoder.encoder.layers:
        hidden = layer(hidden, attention_mask=mask)
    found: Tensor = encoder.final_layer_norm(hidden)
    return found


@pytest.mark.parametrize("text", ["a ink-style house", "a embedding:Ink-Style house", "a INK-STYLE house"])
def test_its_vectors_stand_in_the_place_of_the_name(pipe: Any, text: str) -> None:
    style = learnt()
    [found], negative = Texts(pipe, embeddings=[style]).encode([text], "ink-style")
    vectors = style.vectors["text_encoder"]
    assert torch.allclose(found.embeddings, by_hand(pipe, ["a", vectors, "house"]), atol=1e-5)
    assert torch.allclose(negative.embeddings, by_hand(pipe, [vectors]), atol=1e-5)


def test_a_weight_is_that_of_all_its_vectors(pipe: Any) -> None:
    style = learnt()
    [found], _ = Texts(pipe, embeddings=[style]).encode(["a (ink-style:1.4)"], "")
    weights = torch.ones(77)
    weights[2:5] = 1.4
    expected = emphasise(by_hand(pipe, ["a", style.vectors["text_encoder"]]), weights)
    assert torch.allclose(found.embeddings, expected, atol=1e-5)


def test_the_encoder_is_left_as_it_was(pipe: Any) -> None:
    before, _ = Texts(pipe).encode(["a red house"], "")
    Texts(pipe, embeddings=[learnt()]).encode(["a ink-style house"], "")
    after, _ = Texts(pipe).encode(["a red house"], "")
    assert torch.equal(before[0].embeddings, after[0].embeddings)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ink", ["<ink>"]),
        ("a ink, b", ["a ", "<ink>", ", b"]),
        ("inkwell", ["inkwell"]),
        ("ink-style", ["<ink-style>"]),
        ("ink_style", ["ink_style"]),
        ("ink.2 ink.", ["ink.2 ", "<ink>", "."]),
        ("embedding:ink-style ink", ["<ink-style>", " ", "<ink>"]),
        ("embedding:unknown", ["embedding:unknown"]),
    ],
)
def test_names_are_words_of_their_own(text: str, expected: list[str]) -> None:
    found = split_names(text, [learnt("ink"), learnt("ink-style")])
    assert [piece if isinstance(piece, str) else f"<{piece.name}>" for piece in found] == expected


def test_vectors_take_tokens_and_stay_together(pipe: Any) -> None:
    parts = parse_weights("a " * 73 + "ink-style b")
    chunks = list(token_chunks(pipe.tokenizer, parts, chunk_size(pipe), [learnt()]))
    assert [len(chunk) for chunk in chunks] == [73, 4]
    assert [token.vector for token in chunks[1]] == [0, 1, 2, 0]
    large = list(token_chunks(pipe.tokenizer, parse_weights("big"), 75, [learnt("big", 100)]))
    assert [len(chunk) for chunk in large] == [75, 25]


def test_one_for_other_encoders_is_refused_in_words(pipe: Any) -> None:
    with pytest.raises(EmbeddingError, match="48 numbers, this checkpoint's text encoder reads 32"):
        Texts(pipe, embeddings=[learnt(width=48)])
    both = Embedding("xl", {"text_encoder": torch.ones(1, 32), "text_encoder_2": torch.ones(1, 24)})
    with pytest.raises(EmbeddingError, match="needs another base model"):
        Texts(pipe, embeddings=[both])


@pytest.mark.parametrize("key", ["emb_params", "<ink-style>"])
@pytest.mark.parametrize("shape", [(4, WIDTH), (WIDTH,)])
def test_files_of_sd1(tmp_path: Path, key: str, shape: tuple[int, ...]) -> None:
    tensor = torch.rand(shape)
    save_file({key: tensor.half()}, tmp_path / "e.safetensors")
    found = read_embedding(tmp_path / "e.safetensors", "ink")
    assert torch.equal(found.vectors["text_encoder"], tensor.half().float().reshape(-1, WIDTH))
    assert len(found) == (4 if len(shape) == 2 else 1)


def test_files_of_sdxl(tmp_path: Path) -> None:
    save_file({"clip_l": torch.ones(2, 32), "clip_g": torch.zeros(2, 24)}, tmp_path / "e.safetensors")
    found = read_embedding(tmp_path / "e.safetensors", "ink")
    assert {part: tuple(each.shape) for part, each in found.vectors.items()} == {
        "text_encoder": (2, 32),
        "text_encoder_2": (2, 24),
    }


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ({"a": torch.ones(1, 4), "b": torch.ones(1, 4)}, "something else"),
        ({"emb_params": torch.ones(1, 2, 4)}, "damaged"),
        ({"emb_params": torch.tensor([[float("nan")]])}, "damaged"),
        ({"clip_l": torch.ones(1, 4), "clip_g": torch.ones(2, 4)}, "damaged"),
        ({"emb_params": torch.ones(1000, 4)}, "too many"),
        ({"emb_params": torch.ones(0, 4)}, "too many|damaged"),
    ],
)
def test_other_files_are_refused_in_words(tmp_path: Path, tensors: dict[str, Tensor], words: str) -> None:
    save_file(tensors, tmp_path / "e.safetensors")
    with pytest.raises(EmbeddingError, match=words):
        read_embedding(tmp_path / "e.safetensors", "ink")


def test_a_pickle_is_not_opened(tmp_path: Path) -> None:
    torch.save({"string_to_param": {"*": torch.ones(1, 32)}}, tmp_path / "e.pt")
    with pytest.raises(EmbeddingError, match="safetensors"):
        read_embedding(tmp_path / "e.pt", "ink")
