"""The generator and the wizard's last step, as somebody uses them while the page renews itself."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Response, expect
from sqlalchemy import func, select

from app.core.db import unit_of_work
from app.jobs.models import Job
from app.training import drafts
from hatch_build import build
from tests.app.site import log_in, serving
from tests.app.training.factories import make_base
from tests.e2e.browser import chromium
from tests.factories import make_dataset, make_user

pytestmark = pytest.mark.browser
PATIENCE = 90_000


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    build(Path(__file__).parents[3])
    with chromium() as opened:
        yield opened


@dataclass
class Visit:
    page: Page
    draft: str


@pytest.fixture
def visit(real_db: str, browser: Browser) -> Iterator[Visit]:
    """Somebody who is logged in, with a checkpoint and a draft whose pictures are there."""
    with unit_of_work() as db:
        user = make_user(db)
        base = make_base(db, user).id
        draft = drafts.create_draft(db, user)
        drafts.save_about(db, user, draft.id, type="style", name="Towns", base=base, trigger="towns")
        drafts.use_dataset(db, user, draft.id, make_dataset(db, user, items=10).id)
        drafts.confirm_rights(db, user, draft.id, rights=True)
        user_id, draft_id = user.id, draft.id
    with serving() as address:
        context = browser.new_context(base_url=address)
        context.set_default_timeout(PATIENCE)
        log_in(context, address, user_id)
        yield Visit(context.new_page(), draft_id)
        context.close()


def jobs_made() -> int:
    with unit_of_work() as db:
        return db.scalar(select(func.count()).select_from(Job)) or 0


def test_the_queue_renews_itself_around_the_button_in_use(visit: Visit) -> None:
    page = visit.page
    page.goto("/generate")
    page.fill("#prompt", "red house, green hills")
    page.dblclick("form[data-generator] button.primary")
    cancel = page.get_by_role("button", name="Cancel")
    cancel.focus()
    for _ in range(2):
        with page.expect_response("**/generate/jobs/*"):
            pass
    expect(cancel).to_be_focused()
    assert jobs_made() == 1
    page.keyboard.press("Enter")
    card = page.locator(".feed-job")
    expect(card).to_contain_text("Stopped red house, green hills")
    expect(card.get_by_role("button", name="Copy prompt")).to_be_visible()
    page.reload()
    expect(page.locator("#prompt")).to_have_value("red house, green hills")


def test_a_refusal_stands_above_the_button_and_goes_again(visit: Visit) -> None:
    page = visit.page
    page.goto("/generate")
    page.locator("[data-advanced] > summary").click()
    page.evaluate("document.getElementById('steps').removeAttribute('max')")
    page.fill("#prompt", "red house")
    page.fill("#steps", "900")
    page.click("form[data-generator] button.primary")
    expect(page.locator("#generate-error")).to_contain_text("steps: must be at most 150")
    expect(page.locator(".feed-job")).to_have_count(0)
    page.fill("#steps", "20")
    page.click("form[data-generator] button.primary")
    expect(page.locator(".feed-job")).to_have_count(1)
    expect(page.locator("#generate-error")).to_be_empty()


def test_enter_in_a_field_of_the_review_starts_nothing(visit: Visit) -> None:
    page = visit.page
    page.goto(f"/train/{visit.draft}/review")
    page.locator("#advanced > summary").click()
    page.fill("#p-max_steps", "40")

    def renewed(answer: Response) -> bool:
        return answer.request.method == "POST"

    with page.expect_response(renewed):
        page.keyboard.press("Enter")
    expect(page.locator("aside dl")).to_contain_text("40, each picture seen")
    expect(page.locator("#p-max_steps")).to_be_focused()
    assert page.locator("#advanced").get_attribute("open") is not None
    assert jobs_made() == 0
