"""What must not be in the repository, looked for in every committed file."""

import ast
import re
import subprocess
from functools import lru_cache
from pathlib import Path

import pytest

from tests.ops.helpers import ROOT

HOSTS = ("pypi", "pythonhosted", "npmjs", "deb.debian", "download.pytorch", "unpkg", "jsdelivr", "cdnjs")
REGISTRIES = [re.escape(host) + r"\.(?:org|com|net)\b" for host in HOSTS]


def committed() -> list[Path]:
    """Every file that git tracks and that is there."""
    listing = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    return [ROOT / name for name in listing.split("\0") if name and (ROOT / name).is_file()]


@lru_cache
def texts() -> dict[str, str]:
    found = {}
    for path in committed():
        try:
            found[path.relative_to(ROOT).as_posix()] = path.read_text()
        except UnicodeDecodeError:
            continue
    return found


@lru_cache
def python_trees() -> dict[str, ast.AST]:
    return {name: ast.parse(text) for name, text in texts().items() if name.endswith(".py")}


@pytest.mark.parametrize("registry", REGISTRIES)
def test_no_address_of_a_package_registry(registry: str) -> None:
    assert [name for name, text in texts().items() if re.search(registry, text)] == []


def test_no_built_or_vendored_file() -> None:
    names = [path.relative_to(ROOT).as_posix() for path in committed()]
    wrong = re.compile(r"(^|/)(dist|node_modules|vendor|\.venv)/|\.min\.(js|css)$|\.map$")
    assert [name for name in names if wrong.search(name)] == []
    libraries = ("htmx", "uplot", "photoswipe", "alpine")
    assert [name for name in names if Path(name).stem.lower().startswith(libraries)] == []


def test_scripts_are_written_by_hand() -> None:
    """A minified file has very long lines."""
    long = {
        name: max(map(len, text.split("\n")))
        for name, text in texts().items()
        if name.endswith((".js", ".css")) and max(map(len, text.split("\n"))) > 400
    }
    assert long == {}


def test_no_not_implemented_outside_a_protocol() -> None:
    raised = [
        f"{name}:{node.lineno}"
        for name, tree in python_trees().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Raise) and node.exc and "NotImplemented" + "Error" in ast.unparse(node.exc)
    ]
    assert raised == []


def is_stub(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Nothing in its body, and no sentence that says why nothing is to be done."""
    body = [part for part in function.body if not isinstance(part, ast.Pass)]
    constants = [
        part.value.value
        for part in body
        if isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant)
    ]
    return len(constants) == len(body) and not any(isinstance(value, str) for value in constants)


def test_no_function_is_a_stub() -> None:
    """An empty body is allowed in a Protocol, and where a docstring says why it is empty."""
    stubs = []
    for name, tree in python_trees().items():
        functions = {
            node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and any("Protocol" in ast.unparse(base) for base in node.bases):
                functions -= set(node.body)
        stubs += [f"{name}:{function.lineno}" for function in functions if is_stub(function)]
    assert stubs == []


def test_nothing_is_left_for_later() -> None:
    marks = re.compile(r"\b(TO" + r"DO|FIX" + r"ME)\b")
    found = [
        name
        for name, text in texts().items()
        if name.endswith((".py", ".js", ".css", ".html")) and marks.search(text)
    ]
    assert found == []


def test_application_code_never_commits() -> None:
    """Only the edge does: `unit_of_work`, and Alembic's own environment."""
    allowed = {"app/core/db.py", "migrations/env.py"}
    callers = {
        name
        for name, tree in python_trees().items()
        if not name.startswith("tests/")
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "commit"
    }
    assert callers == allowed


def test_the_lock_names_no_download_address() -> None:
    assert '"resolved"' not in (ROOT / "package-lock.json").read_text()


def test_constraints_are_pins_and_nothing_else() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert all(re.fullmatch(r"[a-z0-9.-]+==[A-Za-z0-9.]+", line) for line in lines)
    assert "torch==2.13.0" in lines
    names = [line.split("==")[0] for line in lines]
    assert names == sorted(set(names))
