"""Trains a CLIP tokenizer (lower-cased BPE with word ends) on the tag list.

Only vocab.json and merges.txt come out of the training; CLIPTokenizer reads those two,
as it reads the ones of the large checkpoints.
"""

import json
from pathlib import Path
from random import Random

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from worker.starter.scenes import sample_scene, training_caption
from worker.starter.vocabulary import ordinary_tags

VOCABULARY_SIZE = 4608
MAX_TOKENS = 77
_BOS, _EOS = "<|startoftext|>", "<|endoftext|>"
_WORD = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


def _corpus() -> list[str]:
    rng = Random(0)
    captions = [training_caption(sample_scene(rng), rng) for _ in range(2000)]
    return [*ordinary_tags() * 2, *captions]


def train_tokenizer(folder: Path) -> CLIPTokenizer:
    """Writes the tokenizer's files to `folder` and returns it."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = Tokenizer(models.BPE(end_of_word_suffix="</w>", continuing_subword_prefix=""))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORD), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE - 2 - len(alphabet),
        initial_alphabet=alphabet,
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    tokenizer.train_from_iterator(_corpus(), trainer)
    return _as_clip(json.loads(tokenizer.to_str())["model"]["merges"], alphabet, folder)


def _as_clip(merges: list[list[str]], alphabet: list[str], folder: Path) -> CLIPTokenizer:
    """CLIP's order: bytes, bytes at a word's end, merges, start, end (the highest id)."""
    pieces = [*alphabet, *(letter + "</w>" for letter in alphabet)]
    pieces += ["".join(merge) for merge in merges]
    pieces = [*dict.fromkeys(pieces), _BOS, _EOS]
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    pairs = [(first, second) for first, second in merges]
    tokenizer = CLIPTokenizer(vocab=vocabulary, merges=pairs, model_max_length=MAX_TOKENS)
    write_tokenizer(tokenizer, folder)
    return tokenizer


def write_tokenizer(tokenizer: CLIPTokenizer, folder: Path) -> None:
    """Saves it as vocab.json and merges.txt, which every version of transformers reads."""
    tokenizer.save_pretrained(folder)
    saved = folder / "tokenizer.json"
    model = json.loads(saved.read_text())["model"]
    saved.unlink()
    (folder / "vocab.json").write_text(json.dumps(model["vocab"], ensure_ascii=False))
    lines = ["#version: 0.2", *(" ".join(pair) for pair in model["merges"])]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n")
