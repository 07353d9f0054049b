"""Sections of BENCHMARKS.md are replaced one at a time."""

from pathlib import Path

import pytest

from tests.bench.__main__ import main, names
from tests.bench.report import write_section


def test_a_section_is_replaced_and_others_stay(tmp_path: Path) -> None:
    target = tmp_path / "BENCHMARKS.md"
    write_section("one", "First", "./dev bench one", [("a", "1 s")], target=target)
    write_section("two", "Second", "./dev bench two", [("b", "2 s")], text="More words.", target=target)
    write_section("one", "First", "./dev bench one", [("a", r"3 \s")], target=target)
    text = target.read_text()
    assert text.startswith("# Benchmarks\n")
    assert "| a | 1 s |" not in text
    assert r"| a | 3 \s |" in text
    assert text.index("## First") < text.index("## Second") < text.index("More words.")
    assert text.count("<!-- one -->") == 1
    assert "cores of" in text


def test_an_unknown_name_lists_the_known() -> None:
    assert "setup" in names()
    with pytest.raises(SystemExit, match="setup"):
        main(["nothing"])
