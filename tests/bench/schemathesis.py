"""`./dev bench schemathesis [SECONDS]`: does anything in our OpenAPI document answer with a 5xx?

Schemathesis makes requests from the document, right ones and wrong ones, against a real web process whose
database holds a small catalogue. It acts as a member who owns a part of that; no worker runs, so jobs wait.
It is installed, pinned, in an environment of its own: what it needs must not decide what we use.
"""

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

from tests.bench.catalogue import servers, web
from tests.bench.filling import Size, fill
from tests.bench.report import ROOT, write_section

PINNED = (
    "schemathesis==4.32.5", "anyio==4.16.0", "click==8.5.1", "graphql-core==3.3.2", "harfile==0.6.0",
    "hypothesis==6.170.17", "hypothesis-graphql==0.13.5", "jsonschema-rs==0.60.3", "pyrate-limiter==4.5.1",
    "pytest==9.2.0", "pyyaml==6.0.4", "requests==2.34.2", "rich==15.0.0", "typing-extensions==4.16.0",
    "werkzeug==3.1.9",
)  # fmt: skip
SECONDS, MODELS = 300, 1000
MEMBER = "person1"
"""Owns about a fifth of the catalogue."""
EXPECTED = """[checks]
not_a_server_error.expected-statuses = ["2xx", "3xx", "4xx", 504]
"""
"""504 is what faces of other programs answer when a picture takes longer than a request may wait."""
LEFT_OUT = r"^/api/v1/jobs/\{job_id\}/events"
"""A stream that ends with its job."""


def program() -> Path:
    """Schemathesis in its own environment below .venv, made on first use. Errors: SystemExit."""
    wanted = hashlib.sha256(" ".join(PINNED).encode()).hexdigest()[:10]
    folder = Path(sys.prefix) / "clients" / f"schemathesis-{wanted}"
    if not (folder / "ready").exists():
        shutil.rmtree(folder, ignore_errors=True)
        venv.create(folder, with_pip=True)
        pip = (
            str(folder / "bin" / "python"),
            "-m",
            "pip",
            "install",
            "--disable-pip-version-check",
            "--quiet",
        )
        done = subprocess.run([*pip, *PINNED], capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"Schemathesis could not be installed:\n{done.stderr}")
        (folder / "ready").touch()
    return folder / "bin" / "schemathesis"


def member_token(addresses: dict[str, str], home: Path) -> str:
    command = [sys.executable, "-m", "app.cli.main", "token", "create", MEMBER]
    scopes = ["--scopes", "read,train,generate,publish", "--json"]
    environment = os.environ | addresses | {"BOTTEGA_HOME": str(home)}
    done = subprocess.run(
        [*command, *scopes], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    return str(json.loads(done.stdout)["token"])


def try_all(port: int, token: str, seconds: int, seed: int) -> str:
    """What it prints; its last lines count the requests and what failed."""
    command = [
        program(), "run", f"http://127.0.0.1:{port}/openapi.json", "--checks", "not_a_server_error",
        "--max-time", seconds, "--header", f"Authorization: Bearer {token}",
        "--exclude-path-regex", LEFT_OUT, "--request-timeout", 150, "--continue-on-failure", "--seed", seed,
        "--suppress-health-check", "all", "--warnings", "off", "--no-color",
    ]  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="bottega-bench-") as folder:
        (Path(folder) / "schemathesis.toml").write_text(EXPECTED)
        done = subprocess.run(
            [str(part) for part in command], cwd=folder, capture_output=True, text=True, check=False
        )
    return done.stdout + done.stderr


def crashes(log: str) -> list[str]:
    """What the web process says of each request that it could not answer."""
    return sorted(set(re.findall(r"ERROR bottega\S* (.+)", log)))


def run(seconds: int, seed: int) -> tuple[list[tuple[str, str]], str]:
    home = Path(tempfile.mkdtemp(prefix="bottega-bench-", dir="/tmp"))
    home.chmod(0o711)
    try:
        with servers(home) as addresses:
            fill(addresses["DATABASE_URL"], Size.of(MODELS))
            token = member_token(addresses, home)
            with web(home, addresses, BOTTEGA_HOLD_SECONDS="1") as port:
                said = try_all(port, token, seconds, seed)
            log = (home / "web.log").read_text()
    finally:
        shutil.rmtree(home, ignore_errors=True)
    found = crashes(log)
    tested, cases = (re.search(pattern, said) for pattern in (r"Tested: (\d+)", r"Test cases:\s+(.+)"))
    rows = [
        ("time, seed", f"{seconds} s, {seed}"),
        ("operations, requests", f"{tested[1]}, {cases[1]}" if tested and cases else "none: see above"),
        ("answered with 5xx (target none)", str(len(re.findall(r"- Server error", said)))),
        ("errors in the log of the web process (target none)", str(len(found))),
    ]
    return rows, said + "\n" + "\n".join(found)


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="./dev bench schemathesis", description=__doc__)
    parser.add_argument("seconds", nargs="?", type=int, default=SECONDS)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--print", action="store_true", help="only print, leave BENCHMARKS.md as it is")
    options = parser.parse_args(arguments)
    rows, said = run(options.seconds, options.seed)
    print(said)
    if not options.print:
        write_section(
            "schemathesis", "Requests made from the OpenAPI document", "./dev bench schemathesis", rows
        )
