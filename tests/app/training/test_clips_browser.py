"""Trainings on clips in a browser: step 1 offers what fits, samples play in step, one is looked at alone."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, Page, expect
from sqlalchemy.orm import Session

from app.contract.events import Sample
from app.core.db import unit_of_work
from app.jobs.models import Job
from app.training import drafts, service
from hatch_build import build
from tests.app.datasets.films import film, scene
from tests.app.site import log_in, serving
from tests.app.training.factories import deliver_epoch, finish, make_base, make_clip_base, make_clip_training
from tests.e2e.browser import chromium
from tests.factories import make_blob, make_user

pytestmark = pytest.mark.browser
PATIENCE = 60_000
SIZE = (64, 64)
PLAYING = "() => [...document.querySelectorAll('#samples video')].filter((v) => !v.paused).length"
IN_STEP = """(count) => {
  const clips = [...document.querySelectorAll('#samples video')].filter((v) => !v.paused && v.readyState > 1);
  const at = clips.map((v) => v.currentTime);
  return clips.length === count && Math.max(...at) - Math.min(...at) < 0.3;
}"""


@dataclass
class Place:
    address: str
    user: int
    draft: str
    stills: int
    films: int
    job: str

    def opened(self, browser: Browser, path: str, **options: Any) -> Page:
        context: BrowserContext = browser.new_context(base_url=self.address, **options)
        context.set_default_timeout(PATIENCE)
        log_in(context, self.address, self.user)
        page = context.new_page()
        page.goto(path)
        return page


@pytest.fixture
def place(real_db: str) -> Iterator[Place]:
    build(Path(__file__).parents[3])
    with unit_of_work() as db:
        user = make_user(db)
        stills, films = make_base(db, user).id, make_clip_base(db, user).id
        draft = drafts.create_draft(db, user).id
        job = make_clip_training(db, user)
        _deliver(db, job)
        known = (user.id, draft, stills, films, job.id)
    with serving() as address:
        yield Place(address, *known)


def _deliver(db: Session, job: Job) -> None:
    """Three epochs and the row without the LoRA, two prompts each, as real clips."""
    for epoch in range(4):
        if epoch:
            deliver_epoch(db, job, epoch, two_files=epoch == 2, clip=True)
        for index in range(2):
            movie = film(17, 8, SIZE, draw=partial(_drawn, epoch))
            event = Sample(
                epoch=epoch, step=epoch * 10, prompt_index=index, prompt=f"b0at, a boat sails {index}",
                seed=index + 1, baseline=not epoch, path="x.mp4", width=64, height=64, frames=17, fps=8,
                poster="x.jpg",
            )  # fmt: skip
            still = make_blob(db, _poster(epoch), "image/jpeg")
            service.add_sample(db, job, event, make_blob(db, movie, "video/mp4"), poster=still)
    finish(db, job, 3)


def _drawn(epoch: int, frame: int) -> Image.Image:
    """Each epoch sails a little further ahead, so that no two clips are the same file."""
    return scene(epoch + frame, SIZE)


def _poster(epoch: int) -> bytes:
    out = BytesIO()
    _drawn(epoch, 8).save(out, "JPEG")
    return out.getvalue()


def until(page: Page, script: str, arg: int | None = None) -> None:
    """Wait until it is true. Playwright's own waiting needs a script from text, which the CSP forbids."""
    end = time.monotonic() + PATIENCE / 1000
    while not page.evaluate(script, arg):
        assert time.monotonic() < end, script
        page.wait_for_timeout(100)


def test_trainings_on_clips(place: Place) -> None:
    expect.set_options(timeout=PATIENCE)
    with chromium() as browser:
        _step_one(browser, place)
        _grid(browser, place)
        _less_motion(browser, place)


def _step_one(browser: Browser, place: Place) -> None:
    page = place.opened(browser, f"/train/{place.draft}/about")
    stills, films = (page.locator(f"input[name=base][value='{n}']") for n in (place.stills, place.films))
    expect(stills).to_be_visible()
    page.check("input[name=media][value=video]", force=True)
    expect(stills).to_be_hidden()
    expect(films).to_be_checked()
    expect(page.locator("[data-next]")).to_have_text("Next: clips")
    page.fill("input[name=name]", "Boats")
    page.click("text=Next: clips")
    expect(page.locator("[data-dropzone] h2")).to_have_text("Drop clips here")
    page.context.close()


def _grid(browser: Browser, place: Place) -> None:
    problems: list[str] = []
    page = place.opened(browser, f"/trainings/{place.job}", viewport={"width": 1280, "height": 1400})
    page.on("pageerror", lambda error: problems.append(str(error)))
    until(page, IN_STEP, 8)
    assert page.evaluate("[...document.querySelectorAll('#samples video')].every((v) => v.muted && v.loop)")
    button = page.locator("[data-play-all]")
    button.click()
    until(page, f"() => ({PLAYING})() === 0")
    expect(button).to_have_text("Play")
    button.click()
    until(page, IN_STEP, 8)
    page.set_viewport_size({"width": 1280, "height": 300})
    until(page, f"() => ({PLAYING})() < 8")
    page.set_viewport_size({"width": 1280, "height": 1400})

    page.locator(".cell").first.click()
    large = page.locator(".lightbox video")
    expect(large).to_be_visible()
    until(page, f"() => ({PLAYING})() === 0")
    first = large.get_attribute("src")
    page.keyboard.press("ArrowDown")
    expect(page.locator(".lightbox > p").first).to_contain_text("Epoch 2")
    assert large.get_attribute("src") != first
    page.keyboard.press("Escape")
    until(page, IN_STEP, 8)
    assert problems == []
    page.context.close()


def _less_motion(browser: Browser, place: Place) -> None:
    """Stills until somebody asks; a phone has room for all of it."""
    page = place.opened(
        browser, f"/trainings/{place.job}", viewport={"width": 360, "height": 740}, reduced_motion="reduce"
    )
    button = page.locator("[data-play-all]")
    expect(button).to_have_text("Play")
    assert page.evaluate(PLAYING) == 0
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.locator("#samples video").first.scroll_into_view_if_needed()
    button.click()
    until(page, f"() => ({PLAYING})() > 0")
    page.context.close()
