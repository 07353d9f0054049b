"""A plain sentence is not rendered: what comes out must be what rendering it would give."""

from random import Random

import pytest

from app.web import templating
from app.web.templating import markdown

SIGNS = "abÄ1 0,;.()!?-xyZ é\n*_#&<'\""


def test_a_plain_sentence_is_what_it_would_be_rendered_to() -> None:
    random, plain = Random(1), 0
    for _ in range(3000):
        text = "".join(random.choice(SIGNS) for _ in range(random.randint(1, 9)))
        plain += templating._SENTENCE.fullmatch(text) is not None
        assert markdown(text) == templating._rendered.__wrapped__(text), text
    assert plain > 100


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", ""),
        ("A style of old maps.", "<p>A style of old maps.</p>\n"),
        ("1. one", "<ol>\n<li>one</li>\n</ol>\n"),
        ("**bold** <script>x</script>", "<p><strong>bold</strong> &lt;script&gt;x&lt;/script&gt;</p>\n"),
        ("[x](javascript:alert)", "<p>[x](javascript:alert)</p>\n"),
    ],
)
def test_what_a_person_has_written_is_shown_safely(text: str, shown: str) -> None:
    assert markdown(text) == shown


def test_long_texts_are_not_kept() -> None:
    before = templating._rendered.cache_info().currsize
    assert markdown("*" * 2 + "x" * templating.LONG).startswith("<p>**xx")
    assert templating._rendered.cache_info().currsize == before
