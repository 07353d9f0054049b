"""Step 1 of the wizard in a browser: a VAE is offered with the models that it fits, and with no other."""

from pathlib import Path

import pytest
from playwright.sync_api import expect

from app.core.db import unit_of_work
from app.training import drafts
from hatch_build import build
from tests.app.gallery.test_matching import page as thing
from tests.app.site import log_in, serving
from tests.app.training.factories import make_base
from tests.e2e.browser import chromium
from tests.factories import make_user

pytestmark = pytest.mark.browser


def test_only_fitting_vaes_are_offered(real_db: str) -> None:
    build(Path(__file__).parents[3])
    with unit_of_work() as db:
        user = make_user(db)
        starter = make_base(db, user).id
        large = thing(db, user, "Checkpoint", "SDXL 1.0", architecture="sdxl").id
        vae = thing(db, user, "VAE", "SDXL 1.0").id
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
