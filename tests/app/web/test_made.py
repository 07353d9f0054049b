"""What is made of the same text is made once, within bounds."""

from functools import partial

from app.web.made import Made


def test_the_same_text_is_made_once() -> None:
    made, asked = Made(most=100_000), []

    def make(text: str) -> bytes:
        asked.append(text)
        return text.encode()

    for text in ("one", "two", "one", "one"):
        assert made.of((text, "https://here"), partial(make, text)) == text.encode()
    assert made.of(("one", "https://there"), partial(make, "one there")) == b"one there"
    assert asked == ["one", "two", "one there"]


def test_the_oldest_go_when_it_is_full() -> None:
    made = Made(most=10_000)
    for number in range(9):
        made.of((str(number),), lambda: b"x" * 1000)
    made.of(("3",), lambda: b"another")
    assert made.held <= 10_000
    assert made.of(("8",), lambda: b"new") == b"x" * 1000
    assert made.of(("0",), lambda: b"new") == b"new"


def test_what_is_too_large_is_not_kept() -> None:
    made = Made(most=1000)
    assert made.of(("a",), lambda: b"x" * 2000) == b"x" * 2000
    assert made.held == 0
    assert made.of(("a",), lambda: b"y") == b"y"
