"""The uploader and the label editor, as somebody uses them with a mouse, by keyboard, and on a phone."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Route, expect

from app.accounts.models import User
from app.core.db import unit_of_work
from app.datasets import service
from app.datasets.models import Dataset
from hatch_build import build
from tests.app.datasets.pictures import png, zipped
from tests.app.site import log_in, serving
from tests.e2e.browser import chromium
from tests.factories import make_user

pytestmark = pytest.mark.browser
ROOT = Path(__file__).parents[3]
PATIENCE = 90_000


@dataclass
class Site:
    address: str
    owner: int
    dataset: str

    def labels(self) -> dict[str, str]:
        with unit_of_work() as db:
            dataset = db.get_one(Dataset, self.dataset)
            owner = db.get_one(User, dataset.user_id)
            return {item.file.name: item.label for item in service.snapshot(db, owner, dataset.id)}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    build(ROOT)
    with chromium() as opened:
        yield opened


@pytest.fixture
def site(real_db: str) -> Iterator[Site]:
    with serving() as address:
        with unit_of_work() as db:
            user = make_user(db)
            dataset = service.create_dataset(db, user, name="Towns").id
        yield Site(address, user.id, dataset)


@pytest.fixture
def problems() -> list[str]:
    return []


def opened(
    context: BrowserContext, site: Site, problems: list[str], *, slow: list[Route] | None = None
) -> Page:
    """The data set's page. `slow`: the editor's script is held back there, and the page given before it."""
    log_in(context, site.address, site.owner)
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda line: problems.append(line.text) if line.type == "error" else None)
    if slow is not None:
        page.route("**/dataset-editor-*.js", lambda route: slow.append(route))
    page.goto(f"{site.address}/datasets/{site.dataset}", wait_until="load" if slow is None else "commit")
    return page


def change_all_and_take_back(page: Page, site: Site) -> None:
    """The tag list: remove from all, undo, rename, filter, and several pictures at once."""
    page.hover("[data-tag='dusk']")
    page.click("[data-tag='dusk'] [aria-label='dusk, 3 pictures, remove from all']")
    expect(page.locator(".toast")).to_contain_text("“dusk” removed from 3 pictures.")
    assert site.labels()["4.png"] == ""
    page.keyboard.press("Control+z")
    expect(page.locator("[data-tag='dusk'] .num")).to_have_text("3")
    assert site.labels()["4.png"] == "dusk"

    page.focus("[data-tag='dusk'] .tag-name")
    page.keyboard.press("F2")
    page.keyboard.type("evening")
    page.keyboard.press("Enter")
    expect(page.locator("[data-tag='evening'] .num")).to_have_text("3")
    page.click("[data-tag='evening'] .tag-name")
    expect(page.locator("[data-item]")).to_have_count(3)
    page.click("text=Choose all of them")
    page.click("[data-inspector] button[aria-label='Remove evening from 3 pictures']")
    expect(page.locator(".toast")).to_contain_text("removed from 3 pictures")
    assert not any("evening" in label for label in site.labels().values())


def test_upload_and_label_with_the_keyboard(
    browser: Browser, site: Site, problems: list[str], tmp_path: Path
) -> None:
    expect.set_options(timeout=PATIENCE)
    files = {f"{n}.png": png(n, (200, 160)) for n in range(3)}
    files |= {
        "0.txt": b"bell tower, dusk",
        "page.png": b"<!DOCTYPE html>",
        "more.zip": zipped([("4.png", png(4)), ("4.txt", b"dusk")]),
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    page = opened(browser.new_context(viewport={"width": 1280, "height": 900}), site, problems)

    page.set_input_files("[data-files]", [str(tmp_path / name) for name in files])
    expect(page.locator("[data-item]")).to_have_count(4)
    expect(page.locator("[data-problems]")).to_contain_text("page.png is a web page")
    expect(page.locator("[data-meter]")).to_contain_text("4 pictures, 2 without a label")
    assert site.labels() == {"0.png": "bell tower, dusk", "1.png": "", "2.png": "", "4.png": "dusk"}

    page.click("[data-item][aria-label^='1.png']")
    field = page.locator(".tag-entry")
    field.press_sequentially("olive grove, du")
    expect(page.locator(".suggestions li")).to_have_text(["dusk"])
    field.press("ArrowDown")
    field.press("Enter")
    expect(page.locator("[data-inspector] figcaption")).to_contain_text("2.png")
    field.press_sequentially("hill")
    field.press("Enter")
    expect(page.locator("[data-meter]")).to_contain_text("all labelled")
    expect(page.locator(".tag-name").first).to_have_text("untagged0")
    page.wait_for_function("document.querySelectorAll('[data-tag]').length === 4")
    _wait(lambda: site.labels()["1.png"] == "olive grove, dusk" and site.labels()["2.png"] == "hill")

    change_all_and_take_back(page, site)
    assert [p for p in problems if "Failed to load" not in p] == []
    page.context.close()


def test_pictures_chosen_before_the_script_came_are_taken(
    browser: Browser, site: Site, problems: list[str], tmp_path: Path
) -> None:
    expect.set_options(timeout=PATIENCE)
    (tmp_path / "a.png").write_bytes(png(1, (200, 160)))
    held: list[Route] = []
    page = opened(browser.new_context(), site, problems, slow=held)
    page.set_input_files("[data-files]", str(tmp_path / "a.png"))
    page.wait_for_function("document.querySelector('[data-files]').files.length === 1")
    for route in held:
        route.continue_()
    expect(page.locator("[data-item]")).to_have_count(1)
    assert problems == []
    page.context.close()


def test_a_phone_has_the_picture_on_the_whole_screen(
    browser: Browser, site: Site, problems: list[str], tmp_path: Path
) -> None:
    expect.set_options(timeout=PATIENCE)
    for n in range(2):
        (tmp_path / f"{n}.png").write_bytes(png(n, (200, 160)))
    page = opened(browser.new_context(viewport={"width": 360, "height": 740}, has_touch=True), site, problems)
    page.set_input_files("[data-files]", [str(tmp_path / "0.png"), str(tmp_path / "1.png")])
    expect(page.locator("[data-item]")).to_have_count(2)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.tap("[data-item] >> nth=0")
    box = page.locator("[data-inspector]").bounding_box()
    assert box is not None
    assert (box["width"], box["height"]) == (360, 740)
    page.locator(".tag-entry").fill("one")
    page.locator(".tag-entry").press("Enter")
    expect(page.locator("[data-inspector]")).to_contain_text("2 of 2")
    page.click("[data-inspector] figcaption button")
    page.click("dialog button[value=yes]")
    expect(page.locator("[data-item]")).to_have_count(1)
    page.click("[data-done]")
    expect(page.locator("[data-inspector]")).to_be_hidden()
    _wait(lambda: list(site.labels().values()) == ["one"])
    assert problems == []
    page.context.close()


def test_a_large_set_with_a_label_too_many(
    browser: Browser, site: Site, problems: list[str], tmp_path: Path
) -> None:
    expect.set_options(timeout=PATIENCE)
    for n in range(66):
        (tmp_path / f"{n:02d}.png").write_bytes(png(n, (70, 70)))
    (tmp_path / "notes.txt").write_text("about these pictures")
    (tmp_path / "00.txt").write_text("first")
    page = opened(browser.new_context(), site, problems)
    requests: list[str] = []
    page.on("request", lambda r: requests.append(r.url) if r.method == "POST" else None)
    page.set_input_files("[data-files]", sorted(str(path) for path in tmp_path.glob("*.*")))
    expect(page.locator("[data-item]")).to_have_count(66)
    expect(page.locator("[data-problems]")).to_contain_text("notes.txt")
    assert site.labels()["00.png"] == "first"
    assert len(requests) == 10
    assert problems == []
    page.context.close()


def test_the_page_works_without_scripts(
    browser: Browser, site: Site, problems: list[str], tmp_path: Path
) -> None:
    expect.set_options(timeout=PATIENCE)
    (tmp_path / "a.png").write_bytes(png(1, (200, 160)))
    (tmp_path / "b.png").write_bytes(b"nothing")
    page = opened(browser.new_context(java_script_enabled=False), site, problems)
    page.set_input_files("input[name=files]", [str(tmp_path / "a.png"), str(tmp_path / "b.png")])
    page.click("text=Add them")
    expect(page.locator("main")).to_contain_text("b.png is not a picture")
    page.click("text=Go on without them")
    page.click("[data-grid] a")
    page.fill("textarea[name=label]", "bell tower")
    page.click("text=Save")
    expect(page.locator("[data-grid]")).to_contain_text("bell tower")
    assert site.labels() == {"a.png": "bell tower"}
    page.context.close()


def _wait(condition: Callable[[], bool]) -> None:
    ends = time.monotonic() + PATIENCE / 1000
    while not condition():
        assert time.monotonic() < ends, "it never came true"
        time.sleep(0.1)
