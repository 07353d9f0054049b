"""CLIP's vocabulary: taken out of a wheel at set-up, checked, never committed."""

import hashlib
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

import hatch_build
from app.cli import doctor
from tests.ops.helpers import ROOT

MINE = ROOT / "worker" / "families" / hatch_build.VOCABULARY


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout without the vocabulary, where pip finds nothing but what lies in `wheels`."""
    (tmp_path / "worker" / "families").mkdir(parents=True)
    (tmp_path / "wheels").mkdir()
    shutil.copy(ROOT / "constraints.txt", tmp_path)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    return tmp_path


def write_wheel(tree: Path, content: bytes) -> None:
    name, version = "open_clip_torch", "3.3.0"
    facts = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nRequires-Dist: nothing-of-this-name\n"
    with zipfile.ZipFile(tree / "wheels" / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"open_clip/{hatch_build.VOCABULARY}", content)
        wheel.writestr(f"{name}-{version}.dist-info/METADATA", facts)
        wheel.writestr(f"{name}-{version}.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr(f"{name}-{version}.dist-info/RECORD", "")


def test_set_up_has_brought_it_and_git_does_not_know_it() -> None:
    assert hashlib.sha256(MINE.read_bytes()).hexdigest() == hatch_build.VOCABULARY_SHA256
    ignored = subprocess.run(["git", "check-ignore", "-q", MINE], cwd=ROOT, check=False)
    assert ignored.returncode == 0


def test_it_is_taken_out_of_the_wheel_without_what_that_depends_on(tree: Path) -> None:
    write_wheel(tree, MINE.read_bytes())
    assert hatch_build.fetch_vocabulary(tree)
    target = tree / "worker" / "families" / hatch_build.VOCABULARY
    assert target.read_bytes() == MINE.read_bytes()
    shutil.rmtree(tree / "wheels")
    assert hatch_build.fetch_vocabulary(tree)


def test_without_the_network_set_up_goes_on_and_says_so(
    tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not hatch_build.fetch_vocabulary(tree)
    assert "run with the network on" in capsys.readouterr().err
    assert list((tree / "worker" / "families").iterdir()) == []


def test_other_content_is_refused(tree: Path) -> None:
    write_wheel(tree, b"something else")
    assert not hatch_build.fetch_vocabulary(tree)
    assert list((tree / "worker" / "families").iterdir()) == []


def test_the_doctor_knows_whether_it_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor.VOCABULARY == MINE
    assert [finding.state for finding in doctor.check_vocabulary()] == ["ok"]
    monkeypatch.setattr(doctor, "VOCABULARY", tmp_path / "none.gz")
    (finding,) = doctor.check_vocabulary()
    assert (finding.state, finding.fix) == ("note", "Run ./dev up with the network on.")
