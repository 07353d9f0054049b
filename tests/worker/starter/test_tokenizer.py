"""Ten ordinary tags fit into the 75 tokens, and none is spelled out letter by letter."""

from random import Random

import pytest
from transformers import CLIPTokenizer

from worker.starter import WEIGHTS
from worker.starter.vocabulary import filler_tags, ordinary_tags

pytestmark = pytest.mark.skipif(
    not (WEIGHTS / "tokenizer").exists(), reason="the checkpoint is not built yet"
)


@pytest.fixture(scope="module")
def tokenizer() -> CLIPTokenizer:
    return CLIPTokenizer.from_pretrained(WEIGHTS / "tokenizer", local_files_only=True)


def test_the_list_is_broad() -> None:
    assert 4000 <= len(ordinary_tags()) <= 8000


def test_fillers_share_no_word_with_the_scenes() -> None:
    assert not {"red", "house", "night", "snow"} & {w for t in filler_tags() for w in t.split()}


def test_ten_ordinary_tags_fit(tokenizer: CLIPTokenizer) -> None:
    rng = Random(0)
    captions = [", ".join(rng.sample(ordinary_tags(), 10)) for _ in range(200)]
    assert max(len(ids) for ids in tokenizer(captions).input_ids) <= 77 - 20


@pytest.mark.parametrize(
    ("tag", "tokens"),
    [
        ("wrought iron lantern", 3),
        ("mullioned windows", 2),
        ("overcast sky", 2),
        ("medieval town", 2),
        ("no humans", 2),
        ("cobblestone street", 2),
    ],
)
def test_ordinary_words_are_one_token(tokenizer: CLIPTokenizer, tag: str, tokens: int) -> None:
    assert len(tokenizer(tag).input_ids) == tokens + 2


def test_unknown_words_are_spelled_not_lost(tokenizer: CLIPTokenizer) -> None:
    assert tokenizer.decode(tokenizer("tsca").input_ids, skip_special_tokens=True) == "tsca"
