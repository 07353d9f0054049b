"""Prompts that change from step to step, as A1111 reads them."""

import subprocess
import sys

import pytest

from worker.inference.prompt import HEAVIEST
from worker.inference.prompt_steps import split_and, texts_by_step


def changes(text: str, before: int | None = None) -> list[tuple[int, str]]:
    """The last step of each text, of ten."""
    found: list[tuple[int, str]] = []
    for step, words in enumerate(texts_by_step(text, 10, before=before), start=1):
        if found and found[-1][1] == words:
            found.pop()
        found.append((step, words))
    return found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a house", [(10, "a house")]),
        ("a [house]", [(10, "a [house]")]),
        ("a [b:3]", [(3, "a "), (10, "a b")]),
        ("a [b: 3]", [(3, "a "), (10, "a b")]),
        ("a [b::3]", [(3, "a b"), (10, "a ")]),
        ("a [b:c:3] d", [(3, "a b d"), (10, "a c d")]),
        ("a [b : c : 1] d", [(1, "a b  d"), (10, "a  c  d")]),
        ("a [b:.5] c", [(5, "a  c"), (10, "a b c")]),
        ("a [b:c:0.25]", [(2, "a b"), (10, "a c")]),
        ("a [b:c:1.0]", [(10, "a b")]),
        ("a [b:c:0]", [(10, "a c")]),
        ("a [b:c:-2]", [(10, "a c")]),
        ("a [b:c:99]", [(10, "a b")]),
        ("a [[[b]]:2]", [(2, "a "), (10, "a [[b]]")]),
        ("[(a:2):3]", [(3, ""), (10, "(a:2)")]),
        ("([a:b:3]:1.2)", [(3, "(a:1.2)"), (10, "(b:1.2)")]),
        ("a[b:[c:d:2]:1]e", [(1, "abe"), (2, "ace"), (10, "ade")]),
        ("[a:b:2] [c:d:4]", [(2, "a c"), (4, "b c"), (10, "b d")]),
        ("a [{b|d{:.5] c", [(5, "a  c"), (10, "a {b|d{ c")]),
        ("a [unbalanced", [(10, "a [unbalanced")]),
        ("((a][:b:c [d:3]", [(3, "((a][:b:c "), (10, "((a][:b:c d")]),
        (r"\[a:b:3\]", [(10, r"\[a:b:3\]")]),
        ("[a:b:c:3]", [(10, "[a:b:c:3]")]),
        ("[a:b:three]", [(10, "[a:b:three]")]),
        ("at [12:30]", [(10, "at ")]),  # begins after step 30
    ],
)
def test_editing(text: str, expected: list[tuple[int, str]]) -> None:
    assert changes(text) == expected


def test_alternation() -> None:
    assert texts_by_step("[a|(b:1.1)]", 5) == ["a", "(b:1.1)", "a", "(b:1.1)", "a"]
    assert texts_by_step("[fe|]male", 3) == ["female", "male", "female"]
    assert texts_by_step("[fe|||]male", 5) == ["female", "male", "male", "male", "female"]
    assert texts_by_step("[a|[b|c]]", 4) == ["a", "c", "a", "c"]
    assert texts_by_step("[[a|b]:c:2]", 4) == ["a", "b", "c", "c"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a [b:.5] c", [(10, "a b c")]),
        ("a [b:1.5] c", [(5, "a  c"), (10, "a b c")]),
        ("a [b:23] c", [(3, "a  c"), (10, "a b c")]),
        ("a [b:20] c", [(10, "a b c")]),
    ],
)
def test_the_second_pass_counts_on(text: str, expected: list[tuple[int, str]]) -> None:
    assert changes(text, before=20) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a cat", [("a cat", 1.0)]),
        ("a cat :0.5", [("a cat :0.5", 1.0)]),
        ("a cat AND a dog", [("a cat", 1.0), ("a dog", 1.0)]),
        ("a cat :1.2 AND a dog AND a mouse :.5", [("a cat", 1.2), ("a dog", 1.0), ("a mouse", 0.5)]),
        ("at 12:30 AND fog : -0.5", [("at 12", 30.0), ("fog", -0.5)]),
        ("salt and SAND", [("salt and SAND", 1.0)]),
        ("AND", [("", 1.0), ("", 1.0)]),
    ],
)
def test_prompts_joined_by_and(text: str, expected: list[tuple[str, float]]) -> None:
    held = [(words, min(weight, HEAVIEST)) for words, weight in expected]
    assert split_and(text) == held


@pytest.mark.parametrize(
    "text", ["[a:" * 20000, "[" * 60000 + "a", "[a|b]" * 9000, "[" * 3000 + ":1]" * 3000, "\\" * 60000]
)
@pytest.mark.timeout(60)  # a quadratic reader would need many minutes
def test_hostile_prompts_are_read_to_their_end(text: str) -> None:
    first, second = texts_by_step(text, 2)
    assert first.count("a") in (text.count("a"), 0, 9000)
    assert len(second) <= len(text)


def test_reader_needs_no_torch() -> None:
    code = "import sys, worker.inference.prompt_steps, app.contract.passes; print('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"
