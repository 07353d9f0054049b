"""`./dev bench setup`: from a fresh clone to a ready page, again when warm, and what the web process holds.

The clone lies in a temporary folder and pip's cache is not used; only what is committed is measured.
"""

import argparse
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from app.cli.embedded import free_port
from tests.bench.report import ROOT, write_section
from tests.ops.helpers import clean_environment

READY = "Bottega is ready"
TARGETS = {"cold": 120, "warm": 6, "web": 180, "tests": 720}


@contextmanager
def started(clone: Path, env: dict[str, str]) -> Iterator[tuple[float, int]]:
    """`./dev up` until it is ready: (seconds, process id). It is ended afterwards."""
    begun = time.monotonic()
    process = subprocess.Popen(
        ["./dev", "up"], cwd=clone, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    said = []
    for line in process.stdout:
        said.append(line)
        print(f"  {line}", end="")
        if READY in line:
            break
    else:
        raise SystemExit("It did not start:\n" + "".join(said))
    try:
        yield time.monotonic() - begun, process.pid
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=90)


def web_process(parent: int) -> psutil.Process:
    children = psutil.Process(parent).children(recursive=True)
    return next(child for child in children if any("uvicorn" in part for part in child.cmdline()))


def walk_pages(port: int) -> None:
    """Ask for what a visitor would see first, so that the memory is that of a process in use."""
    from urllib.error import HTTPError
    from urllib.request import urlopen

    for path in ("/", "/images", "/docs", "/openapi.json", "/healthz", "/readyz") * 5:
        try:
            urlopen(f"http://127.0.0.1:{port}{path}", timeout=30).read()
        except HTTPError as error:
            error.close()


def left_after_kill(pid: int) -> float:
    """Kill the parent without warning; seconds until none of its children is left."""
    children = psutil.Process(pid).children(recursive=True)
    os.kill(pid, signal.SIGKILL)
    begun = time.monotonic()
    psutil.wait_procs(children, timeout=60)
    alive = [c for c in children if c.is_running() and c.status() != psutil.STATUS_ZOMBIE]
    if alive:
        raise SystemExit(f"Still there: {alive}")
    return time.monotonic() - begun


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="./dev bench setup", description=__doc__)
    parser.add_argument("--tests", action="store_true", help="also time ./dev test in the clone")
    options = parser.parse_args(arguments)
    folder = Path(tempfile.mkdtemp(prefix="bottega-bench-"))
    folder.chmod(0o755)
    clone, port = folder / "clone", free_port()
    subprocess.run(["git", "clone", "-q", ROOT, clone], check=True)
    env = clean_environment(clone / "data", port) | {"PIP_NO_CACHE_DIR": "1"}
    env.pop("OMP_NUM_THREADS")
    rows = []
    try:
        with started(clone, env) as (seconds, _):
            rows.append((f"fresh clone to ready page (target {TARGETS['cold']} s)", f"{seconds:.0f} s"))
        with started(clone, env) as (seconds, _):
            rows.append(("second start", f"{seconds:.1f} s"))
        with started(clone, env) as (seconds, pid):
            rows.append((f"third start (target {TARGETS['warm']} s)", f"{seconds:.1f} s"))
            walk_pages(port)
            held = web_process(pid).memory_info().rss / 2**20
            rows.append((f"web process after 30 pages (target {TARGETS['web']} MB)", f"{held:.0f} MB"))
            rows.append(
                ("after kill -9 of the parent, nothing is left within", f"{left_after_kill(pid):.1f} s")
            )
        if options.tests:
            rows.append((f"./dev test (target {TARGETS['tests']} s)", time_tests(clone, env)))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    write_section("setup", "Set-up", "./dev bench setup" + (" --tests" if options.tests else ""), rows)


def time_tests(clone: Path, env: dict[str, str]) -> str:
    begun = time.monotonic()
    done = subprocess.run(["./dev", "test"], cwd=clone, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        print(done.stdout[-20_000:], done.stderr[-5_000:], sep="\n")
    last = done.stdout.strip().split("\n")[-1].strip("= ")
    return f"{time.monotonic() - begun:.0f} s ({last})"
