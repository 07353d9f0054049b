"""Other people's programs, installed as they are published, each in a folder of its own beside our libraries.

Two of them are imported under the same name, and none may change what we install; so pip puts each into
`.venv/clients/`, pinned and without what we have already. A second run finds them there.
"""

import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hatch_build import node, npm_program
from tests.e2e.installation import clean_environment

ROOT = Path(__file__).parents[3]
HERE = Path(__file__).parent
STORE = Path(sys.prefix) / "clients"
PYTHON = {
    "civitdl": ("civitdl==2.2.0", "appdirs==1.4.4"),
    "civitai": ("civitai==1.0.0",),
    "civitai-py": ("civitai-py==0.1.10",),
    "webuiapi": ("webuiapi==0.9.17",),
    "openai": ("openai==3.57.0", "jiter==0.19.0", "sniffio==1.3.1"),
}
"""Program → what is installed for it. What it needs beyond that is pinned in constraints.txt."""


def _kept(name: str, wanted: str, make: Callable[[Path], None]) -> Path:
    """The folder that `make` filled for `wanted`, now or on an earlier run; whole or not there."""
    folder = STORE / f"{name}-{hashlib.sha256(wanted.encode()).hexdigest()[:10]}"
    if not folder.exists():
        STORE.mkdir(exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=STORE))
        make(part)
        try:
            part.rename(folder)
        except OSError:  # another process was quicker
            shutil.rmtree(part)
    return folder


def python_client(name: str) -> Path:
    """Folder for PYTHONPATH. Errors: AssertionError with pip's words."""
    requirements = PYTHON[name]

    def install(folder: Path) -> None:
        pip = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--no-deps", "--quiet"]
        done = subprocess.run([*pip, "--target", folder, *requirements], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    return _kept(name, " ".join(requirements), install)


def npm_clients() -> Path:
    """Folder with the `node_modules` of package.json here. Errors: AssertionError with npm's words."""
    lock = (HERE / "package-lock.json").read_text()

    def install(folder: Path) -> None:
        for name in ("package.json", "package-lock.json"):
            shutil.copy(HERE / name, folder)
        quiet = ("--ignore-scripts", "--no-fund", "--no-audit", "--loglevel=error")
        done = node(folder, npm_program(), "ci", *quiet)
        assert done.returncode == 0, done.stderr

    return _kept("npm", lock, install)


def run_python(client: str, script: str, *arguments: str, **environment: str) -> Any:
    """Run `script` of this folder with `client` installed; gives the JSON that it prints."""
    command = [sys.executable, str(HERE / script), *arguments]
    return json.loads(run(command, {"PYTHONPATH": str(python_client(client)), **environment}))


def run_node(script: str, folder: Path, *arguments: str) -> Any:
    """Bundle `script` with the npm clients in an empty `folder` and run it; gives the JSON of its last line.

    Bundled, because `@civitai/client` is published for bundlers: node alone cannot import it.
    """
    (folder / "node_modules").symlink_to(npm_clients() / "node_modules")
    shutil.copy(HERE / script, folder)
    bundle = folder / "bundle.mjs"
    options = ("--bundle", "--platform=node", "--format=esm", f"--outfile={bundle}", "--log-level=error")
    done = node(folder, ROOT / "node_modules" / "esbuild" / "bin" / "esbuild", folder / script, *options)
    assert done.returncode == 0, done.stderr
    done = node(folder, bundle, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def run(command: list[str], environment: Mapping[str, str]) -> str:
    done = subprocess.run(
        command, env=clean_environment() | environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
