"""Labels as text: one normal form, bulk changes, encodings."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.datasets.labels import (
    MAX_LABEL,
    UnreadableLabel,
    change_label,
    looks_like_captions,
    normalise_label,
    read_text,
    split_tags,
)


@pytest.mark.parametrize(
    ("typed", "normal"),
    [
        (" olive  tree ,noon,, ", "olive tree, noon"),
        ("Red, red, RED, blue", "Red, blue"),
        ("a\nb\r\nc", "a, b, c"),
        ("1girl，blue hair、smile", "1girl, blue hair, smile"),
        ("smile :), (weights:1.2)", "smile :), (weights:1.2)"),
        (",,,", ""),
        ("bell\x00ding", "bell ding"),
    ],
)
def test_tags_have_one_form(typed: str, normal: str) -> None:
    assert normalise_label(typed, "tag") == normal


def test_what_is_too_long_is_cut_never_lost() -> None:
    assert normalise_label("x" * (MAX_LABEL + 9), "tag") == "x" * MAX_LABEL
    tags = normalise_label(", ".join(f"tag {n}" for n in range(900)), "tag")
    assert MAX_LABEL - 10 < len(tags) <= MAX_LABEL
    assert all(tag.startswith("tag ") for tag in tags.split(", "))


def test_a_caption_is_changed_only_where_it_was_asked() -> None:
    caption = "A man, a dog，and、a man, a dog, walking."
    changes = {
        ("add", "at noon", ""): f"{caption}, at noon",
        ("add", "a man", ""): caption,
        ("remove", "at noon", ""): caption,
        ("prepend", "a photo", ""): f"a photo, {caption}",
        ("rename", "walking.", "sleeping."): "A man, a dog，and、a man, a dog, sleeping.",
    }
    for (op, tag, to), after in changes.items():
        assert change_label(caption, op, tag, to, label_type="caption") == after


def test_captions_keep_their_commas_and_words() -> None:
    assert normalise_label(" A man,  a man\nand his dog. ", "caption") == "A man, a man and his dog."


@given(st.text(max_size=300))
def test_the_normal_form_stays_as_it_is(text: str) -> None:
    for kind in ("tag", "caption"):
        once = normalise_label(text, kind)
        assert normalise_label(once, kind) == once
        assert len(once) <= MAX_LABEL


def test_long_labels_end_with_a_whole_tag() -> None:
    label = normalise_label(", ".join(f"tag{n}" for n in range(2000)), "tag")
    assert len(label) <= MAX_LABEL
    assert all(tag.startswith("tag") and len(tag) > 3 for tag in split_tags(label))


@pytest.mark.parametrize(
    ("op", "tag", "to", "after"),
    [
        ("add", "noon", "", "hill, olive tree, noon"),
        ("add", "Hill", "", "hill, olive tree"),
        ("add", "a, b", "", "hill, olive tree, a, b"),
        ("remove", "HILL", "", "olive tree"),
        ("remove", "sea", "", "hill, olive tree"),
        ("rename", "hill", "mountain", "mountain, olive tree"),
        ("rename", "hill", "olive tree", "olive tree"),
        ("rename", "sea", "lake", "hill, olive tree"),
        ("rename", "hill", "Hill", "Hill, olive tree"),
        ("prepend", "olive tree", "", "olive tree, hill"),
        ("prepend", "style", "", "style, hill, olive tree"),
        ("set", "only this", "", "only this"),
        ("set", "", "", ""),
    ],
)
def test_bulk_changes(op: str, tag: str, to: str, after: str) -> None:
    assert change_label("hill, olive tree", op, tag, to) == after


@pytest.mark.parametrize(
    ("data", "text", "guessed"),
    [
        ("città".encode(), "città", False),
        ("città".encode("utf-8-sig"), "città", False),
        ("città".encode("cp1252"), "città", True),
        ("città".encode("utf-16"), "città", True),
        ("citta".encode("utf-16-le"), "citta", True),
        ("citta".encode("utf-16-be"), "citta", True),
        (b"", "", False),
    ],
)
def test_files_in_other_encodings(data: bytes, text: str, guessed: bool) -> None:
    assert read_text(data) == (text, guessed)


@pytest.mark.parametrize(
    "data", [bytes(range(256)), b"x" * 70_000, b"<!DOCTYPE html><html>", b"\xff\xfe\x00"]
)
def test_files_that_are_no_labels(data: bytes) -> None:
    with pytest.raises(UnreadableLabel):
        read_text(data)


def test_sentences_are_told_from_tags() -> None:
    assert looks_like_captions(
        ["A photograph of an old town in Tuscany with a tower that stands behind many houses."]
    )
    assert not looks_like_captions(
        ["bell tower, romanesque, mullioned windows, narrow street, wrought iron lantern, x"]
    )
    assert not looks_like_captions([])
    assert not looks_like_captions(["", "tag"])
