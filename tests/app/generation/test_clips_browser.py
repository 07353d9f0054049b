"""Clips in a browser: asked for in the form, played for the mouse and the focus, never unasked."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from app.core.db import unit_of_work
from app.gallery import service as gallery
from app.images.service import create_sample
from app.jobs.models import Job
from hatch_build import build
from tests.app.generation.test_clips import deliver, video_base
from tests.app.images.clips import FPS, FRAMES, HEIGHT, WIDTH, clip, make_clip, poster_of
from tests.app.site import log_in, serving
from tests.app.training.factories import make_base
from tests.e2e.browser import chromium
from tests.factories import make_blob, make_user

pytestmark = pytest.mark.browser
PATIENCE = 120_000
PLAYING = "() => [...document.querySelectorAll('video')].filter((v) => !v.paused && v.readyState > 1).length"
ONE_PLAYS = f"{PLAYING} === 1"


@dataclass
class Place:
    address: str
    user: int
    version: int
    model: int
    clips: list[int]

    def opened(self, browser: Browser, path: str, **options: str) -> Page:
        context = browser.new_context(base_url=self.address, **options)
        context.set_default_timeout(PATIENCE)
        log_in(context, self.address, self.user)
        page = context.new_page()
        page.goto(path)
        return page


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    build(Path(__file__).parents[3])
    expect.set_options(timeout=PATIENCE)
    with chromium() as opened:
        yield opened


@pytest.fixture
def place(real_db: str) -> Iterator[Place]:
    """A checkpoint of each kind, a page with two clips, and three public clips."""
    with unit_of_work() as db:
        user = make_user(db)
        make_base(db, user)
        version = video_base(db, user)
        film, still = make_blob(db, clip(), "video/mp4"), make_blob(db, poster_of(), "image/jpeg")
        for number in range(2):
            sample = create_sample(
                db, user, blob=film, poster=still, prompt=f"a boat {number}", width=WIDTH, height=HEIGHT,
                frames=FRAMES, fps=FPS,
            )  # fmt: skip
            gallery.add_picture(db, version, sample, number)
        clips = [make_clip(db, user, visibility="public").id for _ in range(3)]
        known = user.id, version.id, version.model_id
    with serving() as address:
        yield Place(address, *known, clips)


def test_clips_play_where_somebody_looks(place: Place, browser: Browser) -> None:
    page = place.opened(browser, "/images?media=video")
    tiles = page.locator("[data-clip]")
    expect(tiles).to_have_count(5)
    assert page.locator("video").count() == 0
    for number in (0, 1):
        tiles.nth(number).hover()
        expect(tiles.nth(number).locator("video")).to_be_visible()
        page.wait_for_function(ONE_PLAYS)
        expect(page.locator("video")).to_have_count(1)
    page.mouse.move(1, 1)
    expect(page.locator("video")).to_have_count(0)
    tiles.nth(2).focus()
    page.wait_for_function(ONE_PLAYS)

    page.goto(f"/images/{place.clips[0]}")
    page.wait_for_function("() => document.querySelector('.stage video').readyState > 0")
    assert page.evaluate(PLAYING) == 0
    assert page.evaluate(
        "() => ['muted', 'loop', 'controls'].every((n) => document.querySelector('video')[n])"
    )
    page.goto(f"/images/{place.clips[0]}/file")  # opened by itself, in the browser's own page
    page.wait_for_function("() => document.querySelector('video').readyState > 1")

    page.goto(f"/models/{place.model}")
    page.locator(".carousel a").nth(1).click()
    page.wait_for_function(
        "() => [...document.querySelectorAll('.pswp video')].filter((v) => !v.paused).length === 1"
    )

    still = place.opened(browser, "/images?media=video", reduced_motion="reduce")
    still.locator("[data-clip]").first.hover()
    still.wait_for_timeout(600)
    assert still.locator("video").count() == 0


def test_a_clip_from_the_form(place: Place, browser: Browser) -> None:
    page = place.opened(browser, "/generate?media=image")
    page.fill("#prompt", "a boat sails left")
    page.get_by_role("link", name="Video").click()
    expect(page.locator("#frames")).to_be_visible()
    expect(page.locator("#prompt")).to_have_value("a boat sails left")
    expect(page.locator("[data-part=hires], [data-part=compare]")).to_have_count(0)
    expect(page.locator("#frames option:checked")).to_have_text("2.1 s · 17 frames")
    page.select_option("#fps", "16")
    expect(page.locator("#frames option:checked")).to_have_text("1.1 s · 17 frames")
    page.select_option("#frames", "9")
    page.reload()
    expect(page.locator("#frames")).to_have_value("9")
    page.click("form[data-generator] button.primary")
    card = page.locator(".feed-job")
    expect(card).to_have_count(1)
    with unit_of_work() as db:
        job = db.query(Job).one()
        assert (job.payload["frames"], job.payload["fps"]) == (9, 16)
        deliver(db, job)
    expect(card.locator("video")).to_be_visible()
    assert page.evaluate(PLAYING) == 0
    page.locator("form[data-generator]").get_by_role("link", name="Pictures").click()
    expect(page.locator("[data-part=hires]")).to_have_count(1)
    expect(page.locator(".feed-history [data-clip]")).to_have_count(4)
