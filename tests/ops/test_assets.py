"""The browser assets: built from what is committed, named by their content."""

import json
import re
import shutil
from pathlib import Path

import pytest

import hatch_build
from tests.ops.helpers import ROOT


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of everything that the build reads."""
    for name in ("package.json", "package-lock.json", "hatch_build.py"):
        shutil.copy(ROOT / name, tmp_path / name)
    for name in ("static", "templates"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("dist"))
    (tmp_path / "node_modules").symlink_to(ROOT / "node_modules")
    return tmp_path


def manifest(tree: Path) -> dict[str, str]:
    found: dict[str, str] = json.loads((tree / "static" / "dist" / "manifest.json").read_text())
    return found


def test_the_build_is_complete_and_skipped_when_current(tree: Path) -> None:
    assert hatch_build.build(tree)
    assert not hatch_build.build(tree)
    names = manifest(tree)
    assert {"app.css", "app.js", "icons.svg", "icon.svg", "licences.txt"} <= set(names)
    dist = tree / "static" / "dist"
    assert all((dist / target).is_file() for target in names.values())
    css = (dist / names["app.css"]).read_text()
    fonts = re.findall(r"url\(\"?\./([^\")]+\.woff2)", css)
    assert fonts
    assert all((dist / font).is_file() for font in fonts)
    assert "://" not in css.replace("http://www.w3.org", "")


def test_every_script_of_the_templates_is_built(tree: Path) -> None:
    hatch_build.build(tree)
    asked = {
        name
        for path in (tree / "templates").rglob("*.html")
        for name in re.findall(r"asset\(\s*[\"']([^\"']+)[\"']\s*\)", path.read_text())
    }
    assert asked
    assert asked <= set(manifest(tree))


def test_a_change_gets_a_new_name(tree: Path) -> None:
    hatch_build.build(tree)
    before = manifest(tree)
    script = tree / "static" / "js" / "copy.js"
    script.write_text(script.read_text() + "\nexport const changed = true;\n")
    assert hatch_build.build(tree)
    after = manifest(tree)
    assert before["copy.js"] != after["copy.js"]
    assert before["icons.svg"] == after["icons.svg"]
    assert (tree / "static" / "dist" / before["copy.js"]).exists()


def test_icons_come_from_plain_calls_and_expressions(tree: Path) -> None:
    page = tree / "templates" / "icons.html"
    page.write_text(
        """{{ icon("rocket") }} {{ icon({"a": "anchor"}[key], "Boat") }} {% set icon = "ship" %}"""
    )
    hatch_build.build(tree)
    sprite = (tree / "static" / "dist" / manifest(tree)["icons.svg"]).read_text()
    for name in ("rocket", "anchor", "ship"):
        assert f'<symbol id="{name}"' in sprite


@pytest.mark.parametrize("where", ["templates/wrong.html", "static/icons.txt"])
def test_an_unknown_icon_stops_the_build(tree: Path, where: str) -> None:
    text = "no-such-icon\n" if where.endswith(".txt") else '{{ icon("no-such-icon") }}'
    (tree / where).write_text(text)
    with pytest.raises(SystemExit, match=f"{re.escape(where)}.*no-such-icon"):
        hatch_build.build(tree)


def test_a_broken_script_says_where(tree: Path) -> None:
    (tree / "static" / "js" / "broken.js").write_text("import { nothing } from './nowhere.js';")
    with pytest.raises(SystemExit, match=r"nowhere\.js"):
        hatch_build.build(tree)
