"""The editor of a set of clips: posters, the preview under mouse and focus, the strip with what is cut."""

from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from app.core.config import get_settings
from app.core.db import unit_of_work
from app.datasets.models import Dataset
from tests.app.datasets.films import film, gif
from tests.app.datasets.pictures import png
from tests.app.datasets.test_editor_browser import PATIENCE, Site, browser, opened, problems, site

__all__ = ["browser", "problems", "site"]
pytestmark = pytest.mark.browser


@pytest.fixture
def clips(site: Site, monkeypatch: pytest.MonkeyPatch) -> Site:
    """Larger clips go in parts, as everything over 16 MB does, and their labels after them."""
    monkeypatch.setattr(get_settings().limits, "upload_bytes", 3000)
    with unit_of_work() as db:
        dataset = db.get_one(Dataset, site.dataset)
        dataset.media, dataset.label_type = "video", "caption"
    return site


def upload(page: Page, folder: Path) -> None:
    files = {
        "boat.mp4": film(48, 24, (192, 128)),
        "bird.gif": gif(5),
        "still.png": png(1),
        "page.mp4": b"<html>",
    }
    files["boat.txt"] = b"A boat sails left."
    for name, data in files.items():
        (folder / name).write_bytes(data)
    page.set_input_files("[data-files]", [str(folder / name) for name in files])
    expect(page.locator("[data-item]")).to_have_count(3)
    expect(page.locator("[data-problems]")).to_contain_text("page.mp4 is a web page, not a clip")


def phone(browser: Browser, clips: Site, problems: list[str]) -> None:
    """The clip on the whole screen; nothing moves by itself where less motion is asked for."""
    small = browser.new_context(
        viewport={"width": 360, "height": 740}, has_touch=True, reduced_motion="reduce"
    )
    page = opened(small, clips, problems)
    page.locator("[data-item]").first.focus()
    page.wait_for_timeout(400)
    expect(page.locator(".tile-preview")).to_have_count(0)
    page.tap("[data-item][aria-label^='boat.mp4']")
    expect(page.locator("[data-inspector] .cut-strip img")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.click("[data-done]")
    expect(page.locator("[data-inspector]")).to_be_hidden()
    assert [p for p in problems if "Failed to load" not in p] == []
    page.context.close()


def test_clips_are_added_previewed_and_shown_as_they_are_cut(
    browser: Browser, clips: Site, problems: list[str], tmp_path: Path
) -> None:
    expect.set_options(timeout=PATIENCE)
    page = opened(browser.new_context(viewport={"width": 1280, "height": 900}), clips, problems)
    upload(page, tmp_path)
    expect(page.locator("[data-meter]")).to_contain_text("3 clips, 2 without a caption")
    boat = page.locator("[data-item][aria-label^='boat.mp4, 2.0 s: A boat']")
    expect(boat.locator(".tile-length")).to_have_text("2.0 s")
    boat.hover()
    expect(boat.locator("video")).to_have_count(1)
    assert boat.locator("video").evaluate("v => [v.muted, v.loop, v.controls]") == [True, True, False]
    page.mouse.move(2, 2)
    expect(page.locator(".tile-preview")).to_have_count(0)
    boat.focus()
    expect(boat.locator("video")).to_have_count(1)
    page.keyboard.press("Enter")

    panel = page.locator("[data-inspector]")
    expect(panel).to_contain_text("192 × 128 · 2.0 s, 48 frames at 24 a second")
    expect(panel.locator("figure video")).to_have_attribute("controls", "")
    panel.get_by_label("Model and its rate").select_option("wan")
    panel.get_by_label("Length of a piece").select_option("33")
    expect(panel.locator(".cut [role=status]")).to_have_text(
        "1 piece of 29 frames (1.8 s). 3 frames of 32 are not used."
    )
    panel.get_by_label("How it is cut").select_option("chunks")
    panel.get_by_label("Length of a piece").select_option("17")
    expect(panel.locator(".cut [role=status]")).to_have_text(
        "2 pieces of 17 frames (1.1 s). Every frame is used."
    )
    expect(panel.locator(".cut-bar")).to_have_count(2)
    panel.locator(".caption-entry").fill("A bird flies up.")
    page.click("[data-item][aria-label^='still.png']")
    expect(panel).to_contain_text("a clip of one frame")
    expect(panel.locator(".cut")).to_have_count(0)
    page.click("text=Label with tags instead")
    expect(page.locator("[data-tag-panel] h2")).to_have_text("Tags")
    label = page.locator("[data-item][aria-label^='boat.mp4'] .picture-tile-label")
    expect(label).to_have_text("A bird flies up.")
    page.click("text=Label with sentences instead")
    expect(page.locator("[data-tag-panel] h2")).to_have_text("Captions")
    assert [p for p in problems if "Failed to load" not in p] == []
    page.context.close()
    phone(browser, clips, problems)
