"""`./dev` where things are missing: it says what to do."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.ops.helpers import ROOT

TOOLS = ("sh", "dirname", "cat", "cksum", "date", "id", "uname", "mkdir", "rm", "sleep", "tail", "grep")


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A checkout on a machine with a shell and little else."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in TOOLS:
        found = shutil.which(name)
        assert found
        (tools / name).symlink_to(found)
    shutil.copy(ROOT / "dev", tmp_path / "dev")
    return tmp_path


def dev(folder: Path, *arguments: str, path: str | None = None) -> "subprocess.CompletedProcess[str]":
    env = {"PATH": path or str(folder / "bin"), "HOME": str(folder)}
    return subprocess.run(
        ["/bin/sh", folder / "dev", *arguments], env=env, capture_output=True, text=True, check=False
    )


def test_help_and_unknown_commands(bare: Path) -> None:
    assert dev(bare).stdout == dev(bare, "help").stdout
    wrong = dev(bare, "strat")
    assert wrong.returncode == 1
    assert "no command 'strat'" in wrong.stderr


def test_without_python(bare: Path) -> None:
    done = dev(bare, "up")
    assert done.returncode == 1
    assert "Python 3.11 or newer" in done.stderr
    assert not (bare / ".venv").exists()


def test_an_old_python_does_not_count(bare: Path) -> None:
    old = bare / "bin" / "python3"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    assert "Python 3.11 or newer" in dev(bare, "up").stderr


@pytest.mark.parametrize("command", ["doctor", "bottega", "reset"])
def test_before_anything_is_installed(bare: Path, command: str) -> None:
    done = dev(bare, command)
    assert done.returncode == 1
    assert "./dev up" in done.stderr


def test_it_is_plain_posix_sh() -> None:
    """Debian's /bin/sh is dash, which knows no bash words."""
    subprocess.run(["/bin/sh", "-n", ROOT / "dev"], check=True)
    text = (ROOT / "dev").read_text()
    assert text.startswith("#!/bin/sh\n")
    assert "[[" not in text
    assert os.access(ROOT / "dev", os.X_OK)


def test_ci_runs_the_command_of_the_readme() -> None:
    assert "./dev test" in (ROOT / ".ci" / "run").read_text()
    assert "./dev test" in (ROOT / "README.md").read_text()
