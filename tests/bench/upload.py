"""`./dev bench upload [SIZE]`: a large file over loopback into a real installation, against cp and sha256sum.

Random bytes, 2 GB unless SIZE says otherwise (512MB, 7GB). The time counts from the first request to the
answer of the check: all parts sent, all hashes computed by a worker, the blob in its place.
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psutil

from app.cli.client import Client
from app.cli.sending import PARALLEL, send_file
from tests.bench.report import write_section
from tests.bench.setup import walk_pages, web_process
from tests.e2e.browser import PASSWORD
from tests.e2e.installation import Installation, running

TARGET = 2.0
GROWTH_MB = 64
UNITS = {"MB": 10**6, "GB": 10**9, "MIB": 1 << 20, "GIB": 1 << 30}


def parse_size(text: str) -> int:
    """Bytes of `512MB`, `2GB` or a plain number. Errors: ArgumentTypeError."""
    number = text.upper().rstrip("BIGM")
    unit = text.upper()[len(number) :]
    try:
        return int(float(number) * (UNITS[unit] if unit else 1))
    except (KeyError, ValueError):
        raise argparse.ArgumentTypeError(f"SIZE is like 512MB or 2GB, not {text}") from None


def write_random(path: Path, size: int) -> None:
    """A safetensors file with one tensor of `size` random bytes: no holes, nothing that compresses."""
    header = json.dumps({"w": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    with path.open("wb") as out:
        out.write(len(header).to_bytes(8, "little") + header)
        for left in range(size, 0, -(16 << 20)):
            out.write(os.urandom(min(left, 16 << 20)))
        out.flush()
        os.fsync(out.fileno())


def timed(command: list[str]) -> tuple[float, str]:
    begun = time.monotonic()
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return time.monotonic() - begun, done.stdout


class Watch(threading.Thread):
    """The highest resident memory of a process while the block runs, in bytes."""

    def __init__(self, process: psutil.Process) -> None:
        super().__init__(daemon=True)
        self._process = process
        self._over = threading.Event()
        self.before = self.peak = process.memory_info().rss

    def run(self) -> None:
        while not self._over.wait(0.05):
            self.peak = max(self.peak, self._process.memory_info().rss)

    @contextmanager
    def watching(self) -> Iterator[None]:
        self.start()
        try:
            yield
        finally:
            self._over.set()
            self.join()


def upload(installation: Installation, token: str, path: Path) -> dict[str, float]:
    """Seconds until all parts have arrived, and until the check is done."""
    marks: dict[str, float] = {}
    begun = time.monotonic()

    def note(job: dict[str, Any]) -> None:
        marks.setdefault("arrived", time.monotonic() - begun)

    with closing(Client(installation.url, token)) as client:
        output = send_file(client, path, on_job=note)
        marks["done"] = time.monotonic() - begun
        client.call("DELETE", f"/api/v1/uploads/{output['upload']}")
    with path.open("rb") as file:
        if output["sha256"] != hashlib.file_digest(file, "sha256").hexdigest():
            sys.exit("The server has other bytes than were sent.")
    return marks


def measure(installation: Installation, path: Path) -> list[tuple[str, str]]:
    size = path.stat().st_size
    installation.bottega("user", "create", "lorenzo", "--admin", "--password-stdin", stdin=PASSWORD)
    made = installation.bottega("token", "create", "lorenzo", "--scopes", "read,train,publish", "--json")
    process = web_process(installation.process.pid)
    walk_pages(int(installation.url.rsplit(":", 1)[1]))
    copy, _ = timed(["cp", str(path), str(path.with_suffix(".copy"))])
    path.with_suffix(".copy").unlink()
    sha, _ = timed(["sha256sum", str(path)])
    watch = Watch(process)
    with watch.watching():
        marks = upload(installation, json.loads(made)["token"], path)
    share, rate = marks["done"] / (copy + sha), size / 1e6 / marks["arrived"]
    grown = (watch.peak - watch.before) / 2**20
    memory = f"{watch.peak / 2**20:.0f} MB, {grown:.0f} MB more"
    return [
        ("file", f"{size / 1e9:.2f} GB of random bytes"),
        ("cp", f"{copy:.2f} s"),
        ("sha256sum", f"{sha:.2f} s"),
        (f"all parts there, {PARALLEL} at once", f"{marks['arrived']:.2f} s, {rate:.0f} MB/s"),
        ("all parts there and all hashes computed", f"{marks['done']:.2f} s"),
        (f"against cp + sha256sum (target {TARGET:g} times or less)", f"{share:.2f} times"),
        ("web process before", f"{watch.before / 2**20:.0f} MB"),
        (f"web process at its peak (target {GROWTH_MB} MB more or less)", memory),
        ("all targets met", "yes" if share <= TARGET and grown <= GROWTH_MB else "no"),
    ]  # fmt: skip


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="./dev bench upload", description=__doc__)
    parser.add_argument("size", nargs="?", type=parse_size, default=2 * 10**9, help="512MB, 2GB, 7GB")
    parser.add_argument("--print", action="store_true", help="only print, leave BENCHMARKS.md as it is")
    options = parser.parse_args(arguments)
    folder = Path(tempfile.mkdtemp(prefix="bottega-bench-"))
    try:
        if shutil.disk_usage(folder).free < 4 * options.size + (2 << 30):
            sys.exit("There is too little room in the temporary folder: four times the file is needed.")
        write_random(folder / "file.safetensors", options.size)
        with running() as installation:
            rows = measure(installation, folder / "file.safetensors")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if options.print:
        print("\n".join(f"{what:<60}{value}" for what, value in rows))
        return
    command = f"./dev bench upload {options.size / 1e9:g}GB"
    write_section("upload", "A large file over loopback", command, rows, text=TEXT)


TEXT = (
    "One run on one machine: cp and sha256sum of the file, then its upload through the web process as "
    "`bottega upload` does it, with SHA256, BLAKE3, CRC32, AutoV1 and the hash of the tensors computed by a "
    "worker. Client, web process, worker and Postgres share the cores."
)
