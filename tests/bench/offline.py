"""`./dev bench offline`: a checkpoint of SD 1.5's size through the browser, with the network cut off.

The whole installation and the browser run in a network namespace that holds nothing but its own loopback.
One file of random weights is uploaded, becomes a page, draws a picture and is trained for two steps, all
of it by the buttons that people have. Linux only; not as root it needs unprivileged user namespaces.
"""

import argparse
import fcntl
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
from playwright.sync_api import Page, expect

from tests.bench.full_size import SIDE_ON_A_CPU, write_checkpoint
from tests.bench.loop import Rows, timed
from tests.bench.report import write_section
from tests.e2e.browser import Walk, chromium
from tests.e2e.installation import running
from worker.starter.example_set import write_example_set

OUT = Path("data/bench/offline")
INSIDE = "BOTTEGA_BENCH_OFFLINE"
SECONDS = 900
SIOCSIFFLAGS, IFF_UP = 0x8914, 1


def cut_off() -> int:
    """Run this benchmark again where there is no network; gives its exit status."""
    command = ["unshare", "--net", *([] if os.geteuid() == 0 else ["--map-root-user"])]
    command += [sys.executable, "-m", "tests.bench", "offline"]
    return subprocess.run(command, env={**os.environ, INSIDE: "1"}, check=False).returncode


def start_loopback() -> None:
    """A new namespace has a loopback that is down."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP))


def check_cut_off() -> None:
    """The documentation's own address (RFC 5737) must not even have a route."""
    with socket.socket() as outside:
        outside.settimeout(5)
        if outside.connect_ex(("192.0.2.1", 80)) == 0 or set(psutil.net_if_addrs()) != {"lo"}:
            sys.exit("The network is not cut off; nothing was measured.")


def upload(page: Page, file: Path, rows: Rows) -> None:
    """From the file to its page."""
    page.goto("/models/new")
    with timed(rows, f"upload of {file.stat().st_size / 1e9:.2f} GB and all its hashes, to the filled form"):
        page.set_input_files("[data-file]", str(file))
        page.wait_for_url("**/models/new?upload=*", timeout=SECONDS * 1000)
    rows.append(("what the form says", page.inner_text("h2#recognised")))
    page.fill("[name=name]", "Random fifteen")
    page.click("main .sticky-action button.primary")
    page.wait_for_url(re.compile(r"/models/\d+"))


def draw(page: Page, rows: Rows) -> None:
    """Two steps at the size that a CPU can do, from the model's page."""
    page.click("a:has-text('Create with it')")
    page.check("[data-custom]", force=True)
    page.fill("input[name=width]", str(SIDE_ON_A_CPU))
    page.fill("input[name=height]", str(SIDE_ON_A_CPU))
    page.evaluate("document.querySelector('[data-advanced]').open = true")
    page.fill("input[name=steps]", "2")
    page.fill("textarea[name=prompt]", "a village on a hill")
    with timed(rows, f"a picture of {SIDE_ON_A_CPU} px in two steps, loading included"):
        page.click("form[data-generator] button.primary")
        picture = page.locator("#queue .feed-job").first.locator("figure a[href^='/images/']").first
        expect(picture).to_be_visible(timeout=SECONDS * 1000)


def train(walk: Walk, files: list[Path], rows: Rows) -> None:
    """Two steps on the example set, by the wizard."""
    page = walk.page
    page.goto("/train")
    page.click("main button.primary")
    page.check("input[name=type][value=style]", force=True)
    page.fill("input[name=name]", "Two steps")
    page.check(".base:has-text('Random fifteen') input", force=True)
    page.click("text=Next: pictures")
    page.set_input_files("input[data-files]", [str(file) for file in files])
    pictures = [file for file in files if file.suffix != ".txt"]
    expect(page.locator("[data-grid] [data-item]")).to_have_count(len(pictures), timeout=SECONDS * 1000)
    page.check("input[name=rights]")
    page.click("text=Next: review")
    page.evaluate("document.getElementById('advanced').open = true")
    for name, value in (("resolution", SIDE_ON_A_CPU), ("max_steps", 2), ("epochs", 1)):
        page.fill(f"#p-{name}", str(value))
    for n in range(3):
        page.fill(f"#prompt-{n}", "")
    page.wait_for_timeout(1500)
    walk.shot("review")
    with timed(rows, f"a training of two steps at {SIDE_ON_A_CPU} px, to the file"):
        page.click("button[name=start]")
        page.wait_for_url("**/trainings/*")
        expect(page.locator("h1")).to_contain_text("Done", timeout=SECONDS * 1000)
    walk.shot("trained")


def measure(folder: Path) -> Rows:
    rows: Rows = []
    file, example = folder / "random-fifteen.safetensors", folder / "example"
    write_checkpoint("sd1", file)
    example.mkdir()
    write_example_set(example)
    with running() as installation, chromium() as browser:
        walk = Walk(browser.new_context(base_url=installation.url).new_page(), OUT)
        walk.make_admin(installation.setup_link)
        upload(walk.page, file, rows)
        walk.shot("model")
        draw(walk.page, rows)
        walk.shot("drawn")
        train(walk, sorted(example.iterdir()), rows)
        assert walk.problems == [], walk.problems
    return rows


def main(arguments: list[str]) -> None:
    argparse.ArgumentParser(prog="./dev bench offline", description=__doc__).parse_args(arguments)
    if INSIDE not in os.environ:
        sys.exit(cut_off())
    start_loopback()
    check_cut_off()
    folder = Path(tempfile.mkdtemp(prefix="bottega-offline-"))
    try:
        rows = measure(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    write_section(
        "offline", "A real checkpoint without a network", "./dev bench offline", rows,
        text="Random weights of SD 1.5's names and shapes; browser and server see only their own loopback.",
    )  # fmt: skip
