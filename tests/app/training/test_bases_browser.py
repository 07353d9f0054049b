"""Step 1 of the wizard in a browser: VAEs and text encoders are offered with the models that they fit."""

from pathlib import Path

import pytest
from playwright.sync_api import expect

from app.core.db import unit_of_work
from app.training import drafts
from hatch_build import build
from tests.app.gallery.test_companions import page as clips
from tests.app.gallery.test_companions import texts
from tests.app.gallery.test_matching import page as thing
from tests.app.site import log_in, serving
from tests.app.training.factories import make_base
from tests.e2e.browser import chromium
from tests.factories import make_user

pytestmark = pytest.mark.browser


def test_only_fitting_parts_are_offered(real_db: str) -> None:
    build(Path(__file__).parents[3])
    with unit_of_work() as db:
        user = make_user(db)
        starter = make_base(db, user).id
        large = thing(db, user, "Checkpoint", "SDXL 1.0", architecture="sdxl").id
        vae = thing(db, user, "VAE", "SDXL 1.0").id
        wan = clips(db, user, "wan", name="Wan", format_="Diffusers", architecture="wan-1.3b").id
        text = texts(db, user, "UMT5 XXL", "umt5").id
        draft, viewer = drafts.create_draft(db, user).id, user.id
    with serving() as address, chromium() as browser:
        context = browser.new_context(base_url=address)
        log_in(context, address, viewer)
        page = context.new_page()
        page.goto(f"/train/{draft}/about")
        field, chosen = page.locator("[data-vae]"), page.locator("select[name=vae]")
        page.check(f"input[name=base][value='{large}']", force=True)
        expect(field).to_be_visible()
        chosen.select_option(str(vae))
        page.check(f"input[name=base][value='{starter}']", force=True)
        expect(field).to_be_hidden()
        expect(chosen).to_have_value("")
        step, encoders = page.locator(".steps [data-words]"), page.locator("select[name=text]")
        expect(encoders).to_be_hidden()
        expect(step).to_have_text("Pictures and labels")
        page.check("input[name=media][value=video]", force=True)
        expect(step).to_have_text("Clips and captions")
        expect(page.locator(f"input[name=base][value='{wan}']")).to_be_checked()
        encoders.select_option(str(text))
        page.check("input[name=media][value=image]", force=True)
        expect(step).to_have_text("Pictures and labels")
