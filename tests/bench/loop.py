"""`./dev bench loop PHOTOS`: the whole product on a folder of pictures and .txt tags, in full length.

Three walks over one fresh installation: a person in a browser, a script by REST, the command line.
Screenshots and pictures are written to `data/bench/loop`.
"""

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench.report import write_section
from tests.e2e.browser import Walk, chromium
from tests.e2e.installation import Installation, running
from tests.e2e.rest import Script

OUT = Path("data/bench/loop")
PICTURES = {".png", ".jpg", ".jpeg", ".webp", ".avif", ".heic"}
Rows = list[tuple[str, str]]


@contextmanager
def timed(rows: Rows, words: str) -> Iterator[None]:
    started = time.monotonic()
    yield
    rows.append((words, f"{time.monotonic() - started:.1f} s"))
    sys.stderr.write(f"{words}: {rows[-1][1]}\n")


def set_files(folder: Path) -> list[Path]:
    """Pictures of the folder and the labels beside them."""
    pictures = sorted(p for p in folder.iterdir() if p.suffix.lower() in PICTURES)
    labels = [p.with_suffix(".txt") for p in pictures]
    return sorted(pictures + [label for label in labels if label.exists()])


def walk_browser(
    installation: Installation, files: list[Path], trigger: str, preset: str, rows: Rows
) -> None:
    with chromium() as browser:
        context = browser.new_context(
            base_url=installation.url, viewport={"width": 1280, "height": 900}, accept_downloads=True
        )
        walk = Walk(context.new_page(), OUT)
        walk.make_admin(installation.setup_link)
        with timed(rows, f"browser: from the wizard to the end of a {preset} training"):
            walk.train(files, name=trigger.capitalize(), trigger=trigger, preset=preset)
            walk.wait_trained(1800)
        walk.publish()
        walk.download(OUT)
        with timed(rows, "browser: one picture with the LoRA, first of the process"):
            picture = walk.generate(f"{trigger}, old town, tower", seed=7, seconds=300, lora=True)
        with timed(rows, "browser: one picture without it"):
            walk.generate("old town, tower", seed=7, seconds=300, lora=False)
        walk.share(picture)
        assert walk.problems == [], walk.problems


def walk_rest(
    installation: Installation, token: str, files: list[Path], trigger: str, preset: str, rows: Rows
) -> None:
    script = Script(installation.url, token)
    with timed(rows, "REST: upload of the set"):
        dataset = script.upload_set(files, "By REST")
    with timed(rows, f"REST: {preset} training"):
        job = script.train(dataset, name="By REST", trigger=trigger, preset=preset)
    rows.append(("REST: steps of that training", str(job["metrics"]["steps"])))
    version = script.publish(job["id"])["modelVersions"][0]
    data = script.download(version["id"])
    assert hashlib.sha256(data).hexdigest().upper() == version["files"][0]["hashes"]["SHA256"]
    with timed(rows, "REST: four pictures with the LoRA, warm"):
        script.generate(f"{trigger}, old town", seed=11, loras={version["id"]: 0.8}, quantity=4)


def walk_command_line(
    installation: Installation, token: str, folder: Path, trigger: str, preset: str, rows: Rows
) -> None:
    client = {"BOTTEGA_URL": installation.url, "BOTTEGA_TOKEN": token}
    with timed(rows, f"command line: bottega train --preset {preset} --publish public"):
        told = installation.bottega(
            "train", str(folder), "--name", "By terminal", "--trigger", trigger, "--preset", preset,
            "--publish", "public", "--json", **client,
        )  # fmt: skip
    version = json.loads(told)["model"]["modelVersions"][0]["id"]
    installation.bottega("download", str(version), "--out", str(OUT), **client)
    installation.bottega("generate", f"{trigger}, alley", "--lora", str(version), "--out", str(OUT), **client)


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="./dev bench loop", description=__doc__)
    parser.add_argument("photos", type=Path, help="folder with pictures and .txt tags")
    parser.add_argument("--trigger", default="tuscany")
    parser.add_argument("--preset", default="quick", choices=("quick", "normal", "best"))
    options = parser.parse_args(arguments)
    files = set_files(options.photos)
    OUT.mkdir(parents=True, exist_ok=True)
    rows: Rows = [("pictures", str(sum(f.suffix != ".txt" for f in files)))]
    with running() as installation:
        walk_browser(installation, files, options.trigger, options.preset, rows)
        made = installation.bottega(
            "token", "create", "lorenzo", "--scopes", "read,train,generate,publish", "--json"
        )
        token = json.loads(made)["token"]
        walk_rest(installation, token, files, options.trigger, options.preset, rows)
        walk_command_line(installation, token, options.photos, options.trigger, options.preset, rows)
    write_section(
        "loop",
        "The whole loop on a folder of photographs",
        f"./dev bench loop PHOTOS --preset {options.preset}",
        rows,
    )
