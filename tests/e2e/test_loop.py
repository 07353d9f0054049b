"""From fifteen pictures, or six clips, to a published LoRA and what it draws, with everything real."""

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.e2e.browser import Walk, chromium
from tests.e2e.installation import Installation, running
from tests.e2e.rest import Script
from worker.starter.clips.example_set import write_example_clips
from worker.starter.example_set import write_example_set

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture(scope="module")
def installation() -> Iterator[Installation]:
    with running() as found:
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The example set as files: 15 pictures and their .txt labels."""
    folder = tmp_path_factory.mktemp("example")
    write_example_set(folder)
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The example set of clips as files: six GIFs and their captions."""
    folder = tmp_path_factory.mktemp("clips")
    write_example_clips(folder)
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def token(installation: Installation) -> str:
    installation.bottega("user", "create", "script", "--password-stdin", stdin="a password for a script\n")
    scopes = "read,train,generate,publish"
    made = installation.bottega("token", "create", "script", "--scopes", scopes, "--json")
    return str(json.loads(made)["token"])


@pytest.fixture(scope="module")
def script(installation: Installation, token: str) -> Iterator[Script]:
    with closing(Script(installation.url, token)) as found:
        yield found


@pytest.fixture(scope="module")
def shots() -> Path:
    return Path("data/screenshots")


def test_the_loop_in_the_browser(
    installation: Installation, browser: Browser, example: list[Path], shots: Path, tmp_path: Path
) -> None:
    context = browser.new_context(
        base_url=installation.url, viewport={"width": 1280, "height": 900}, accept_downloads=True
    )
    walk = Walk(context.new_page(), shots)
    walk.make_admin(installation.setup_link)
    walk.train(example, name="Tuscan afternoon", trigger="tuscafternoon")
    walk.wait_trained(1800)
    model = walk.publish()
    adapter = walk.download(tmp_path)
    assert adapter.read_bytes()[8:10] == b'{"'
    with_lora = walk.generate("tuscafternoon, house, green hills", seed=7, seconds=300, lora=True)
    without = walk.generate("house, green hills", seed=7, seconds=300, lora=False)
    assert with_lora != without
    walk.share(with_lora)
    page = walk.page
    page.goto(model)
    assert page.locator("h1").inner_text().startswith("Tuscan afternoon")
    assert walk.problems == []
    context.close()


def test_the_loop_by_rest_and_command_line(
    installation: Installation, example: list[Path], token: str, tmp_path: Path
) -> None:
    """Twenty steps by `bottega train`, which speaks REST alone; then publish, download, draw."""
    client = {"BOTTEGA_URL": installation.url, "BOTTEGA_TOKEN": token}
    told = installation.bottega(
        "train", str(example[0].parent), "--name", "By script", "--trigger", "tuscafternoon",
        "--max-steps", "20", "--publish", "public", "--json", **client,
    )  # fmt: skip
    job = json.loads(told)
    assert job["status"] == "succeeded"
    version = job["model"]["modelVersions"][0]["id"]
    file = installation.bottega("download", str(version), "--out", str(tmp_path), "--json", **client)
    assert Path(json.loads(file)["path"]).stat().st_size > 10_000
    drawn = installation.bottega(
        "generate", "tuscafternoon, tower", "--lora", f"{version}:0.8", "--seed", "3", "-n", "2",
        "--out", str(tmp_path), "--json", **client,
    )  # fmt: skip
    pictures = [Path(path) for path in json.loads(drawn)["saved"]]
    assert [p.read_bytes()[:4] for p in pictures] == [b"\x89PNG"] * 2
    assert b"Lora hashes" in pictures[0].read_bytes()


def test_clips_in_the_browser(
    installation: Installation,
    browser: Browser,
    clips: list[Path],
    script: Script,
    shots: Path,
    tmp_path: Path,
) -> None:
    """Six clips become a LoRA, its samples move, and a clip is drawn with and without it."""
    context = browser.new_context(
        base_url=installation.url, viewport={"width": 1280, "height": 900}, accept_downloads=True
    )
    walk = Walk(context.new_page(), shots / "clips")
    walk.log_in("script", "a password for a script")
    walk.train(clips, name="Tuscan breeze", trigger="tuscbreeze", media="video")
    walk.wait_trained(1800)
    assert walk.page.locator("#samples video").count() > 0
    walk.publish()
    assert walk.download(tmp_path).read_bytes()[8:10] == b'{"'
    prompt = "red boat, sailing left, beach, day"
    with_lora = walk.generate(f"tuscbreeze, {prompt}", seed=7, seconds=300, lora=True)
    without = walk.generate(prompt, seed=7, seconds=300, lora=False, base=script.page_of("Video Starter 1"))
    assert with_lora != without
    walk.share(with_lora)
    walk.page.goto(with_lora)
    assert walk.page.locator("main video").count() == 1
    assert walk.problems == []
    context.close()


def test_clips_by_rest(script: Script, clips: list[Path]) -> None:
    base = script.starter_version("Video Starter 1")
    dataset = script.upload_set(clips, "By script", media="video")
    job = script.train(dataset, name="Clips by script", trigger="tuscbreeze", base=base, max_steps=8)
    version = script.publish(job["id"])["modelVersions"][0]["id"]
    assert script.download(version)[8:10] == b'{"'
    prompt = "tuscbreeze, white windmill, turning, golden field, day"
    plain, styled = (
        script.generate(prompt, seed=3, loras=loras, base=base)[0] for loras in ({}, {version: 1.0})
    )
    assert (styled["media_type"], styled["frames"], styled["fps"]) == ("video/mp4", 17, 8)
    first, second = (script.http.get(image["url"]).content for image in (plain, styled))
    assert first[4:8] == second[4:8] == b"ftyp"
    assert first != second
