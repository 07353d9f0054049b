"""The generator and the wizard's last step, as somebody uses them while the page renews itself."""

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Response, Route, expect
from sqlalchemy import func, select

from app.core.db import unit_of_work
from app.core.storage import get_storage
from app.jobs.models import Job
from app.training import drafts
from hatch_build import build
from tests.app.generation.making import pixels_of, png
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


def payload() -> dict[str, Any]:
    """Of the newest job."""
    with unit_of_work() as db:
        found = db.scalar(select(Job).order_by(Job.seq.desc()).limit(1))
        return dict(found.payload) if found else {}


DROP = """([name, data, where]) => {
  const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
  const carried = new DataTransfer();
  carried.items.add(new File([bytes], name, { type: "image/png" }));
  const options = { bubbles: true, cancelable: true, dataTransfer: carried };
  document.querySelector(where).dispatchEvent(new DragEvent("drop", options));
}"""
TEXT = "a (castle:1.7) <lora:nowhere:1>\nSteps: 22, Sampler: DPM++ 2M Karras, CFG scale: 6.5, Seed: 4242"


def drop(page: Page, data: bytes, where: str) -> None:
    page.evaluate(DROP, ["castle.png", base64.b64encode(data).decode(), where])


def test_a_dropped_picture_fills_the_form_and_can_be_undone(visit: Visit) -> None:
    page = visit.page
    page.goto("/generate")
    page.fill("#prompt", "red house")
    drop(page, png(TEXT), ".feed")
    expect(page.locator("[data-filled]")).to_contain_text("Filled from image; 1 LoRA not installed: nowhere")
    expect(page.locator("#prompt")).to_have_value("a (castle:1.7) <lora:nowhere:1>")
    expect(page.locator("[data-advanced-words]")).to_have_text(
        "DPM++ 2M Karras, 22 steps, CFG 6.5, seed 4242"
    )
    expect(page.locator(".prompt-mirror .heavy").first).to_contain_text("(")
    expect(page.locator("#prompt-told")).to_contain_text("A weight of 1.7 is very strong")
    expect(page.locator("[data-told-notes]")).to_contain_text("There is no LoRA “nowhere” here")
    page.reload()
    expect(page.locator("#seed")).to_have_value("4242")
    drop(page, png(TEXT.replace("4242", "17")), ".feed")
    expect(page.locator("#seed")).to_have_value("17")
    page.click("[data-undo]")
    expect(page.locator("#seed")).to_have_value("4242")
    expect(page.locator(".feed-job")).to_have_count(0)


def test_what_is_typed_while_the_form_comes_back_is_kept(visit: Visit) -> None:
    page = visit.page
    page.goto("/generate")
    page.fill("#prompt", "red house")
    page.click("[data-advanced] > summary")
    page.fill("#steps", "33")

    def slowly(route: Route) -> None:
        page.wait_for_timeout(700)
        route.continue_()

    page.route("**/generate/form", slowly)
    with page.expect_response("**/generate/form"):
        page.reload(wait_until="domcontentloaded")
        page.wait_for_function("window.htmx")
        page.locator("[data-advanced]").evaluate("part => { part.open = true; }")
        page.fill("#seed", "77")
        page.fill("#prompt", "blue house")
    expect(page.locator("#steps")).to_have_value("33")
    expect(page.locator("#seed")).to_have_value("77")
    expect(page.locator("#prompt")).to_have_value("blue house")


def test_a_mask_is_drawn_over_the_start_picture_and_sent(visit: Visit) -> None:
    page = visit.page
    page.goto("/generate")
    page.fill("#prompt", "a castle")
    page.click("[data-part=start] > summary")
    drop(page, png(size=(128, 96)), "[data-start-drop]")
    expect(page.locator("[data-start-chosen]")).to_be_visible()
    expect(page.locator("#width")).to_have_value("144")
    page.click("[data-mask-open]")
    page.click("[data-mask-save]")
    expect(page.locator("[data-mask-told]")).to_contain_text("Paint over")
    box = page.locator("[data-mask-canvas]").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] * 0.2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.4, box["y"] + box["height"] / 2, steps=4)
    page.mouse.up()
    page.click("[data-mask-save]")
    expect(page.locator("[data-mask-word]")).to_have_text("Change the mask")
    page.fill("#denoise", "0.5")
    page.click("form[data-generator] button.primary")
    expect(page.locator(".feed-job")).to_have_count(1)
    start = payload()["start"]
    assert start["denoise"] == 0.5
    mask = pixels_of(get_storage().get(f"blobs/{start['mask']['sha256']}")).convert("L")
    assert mask.size == (128, 96)
    assert mask.getpixel((38, 48)) > 200
    assert mask.getpixel((110, 80)) < 50


def test_a_mask_by_keyboard(visit: Visit) -> None:
    page = visit.page
    page.set_viewport_size({"width": 360, "height": 740})
    page.goto("/generate")
    page.click("[data-part=start] > summary")
    drop(page, png(size=(128, 96)), "[data-start-drop]")
    expect(page.locator("[data-mask-open]")).to_be_visible()
    page.locator("[data-mask-open]").press("Enter")
    expect(page.locator("#mask-dialog")).to_be_visible()
    page.locator(".mask-dialog summary").press("Enter")
    page.fill("#mask-left", "0")
    page.locator("[data-mask-rectangle]").press("Enter")
    expect(page.locator("[data-mask-told]")).to_have_text("25 % of the picture is drawn anew.")
    page.locator("[data-mask-invert]").press("Enter")
    expect(page.locator("[data-mask-told]")).to_have_text("75 % of the picture is drawn anew.")
    page.locator("[data-mask-save]").press("Enter")
    expect(page.locator("[data-mask-word]")).to_have_text("Change the mask")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_grid_says_how_many_pictures_before_it_starts(visit: Visit) -> None:
    page = visit.page
    page.goto("/generate")
    page.fill("#prompt", "red house")
    page.click("[data-part=compare] > summary")
    page.check("input[name=compare]")
    page.select_option("#x-axis", "cfg_scale")
    page.fill("#x-values", "3-9 x4")
    page.select_option("#y-axis", "prompt")
    page.fill("#y-values", "red, blue, green")
    expect(page.locator("[data-grid-count]")).to_have_text("12 pictures.")
    expect(page.locator("form[data-generator] button.primary")).to_contain_text("Draw the grid · 12 pictures")
    page.fill("#x-values", "3-9 x40")
    expect(page.locator("[data-grid-count]")).to_contain_text("a grid has at most 64")
    page.fill("#x-values", "3, 5")
    page.click("form[data-generator] button.primary")
    page.click("text=Open the grid")
    expect(page.locator("h1")).to_have_text("CFG × Prompt")
    expect(page.locator("table.xy th[scope=row]")).to_have_text(["red", "blue", "green"])


def test_only_fitting_schedules_are_offered_and_presets_choose(visit: Visit) -> None:
    page = visit.page
    page.goto("/generate")
    page.click("[data-advanced] > summary")
    page.click("[data-preset='Euler a']")
    expect(page.locator("#sampler")).to_have_value("Euler a")
    assert "Karras" not in page.locator("#schedule").inner_text()
    page.click("[data-preset='DPM++ 2M']")
    expect(page.locator("#schedule")).to_have_value("Karras")
    expect(page.locator("[data-preset='DPM++ 2M']")).to_have_attribute("aria-pressed", "true")


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
