"""A model file from the disk to its page, as people do it in a browser: broken off, resumed, filled in."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from playwright.sync_api import Browser, BrowserContext, Page, Route, expect

from app.accounts.models import User
from app.core.config import get_settings
from app.core.db import unit_of_work
from app.core.storage import get_storage
from app.datasets import service as datasets
from app.gallery.models import Model, ModelVersion
from app.jobs import leases
from app.uploads import service as uploads
from hatch_build import build
from tests.app.datasets.pictures import png, zipped
from tests.app.recognition.listings import KOHYA, lora, whole
from tests.app.site import log_in, serving
from tests.e2e.browser import chromium
from tests.factories import make_user
from worker.files_job import run_files_job

pytestmark = pytest.mark.browser
ROOT = Path(__file__).parents[3]
PATIENCE = 60_000
TO_K = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
SD1 = whole(lora({TO_K: (768, 320)}, ends=KOHYA), {"modelspec.trigger_phrase": "tuscany, gold"})


@dataclass
class Site:
    address: str
    user: int
    shots: Path | None = None

    def open(self, browser: Browser, path: str, **options: object) -> Page:
        context = browser.new_context(base_url=self.address, **options)
        log_in(context, self.address, self.user)
        return self.tab(context, path)

    def tab(self, context: BrowserContext, path: str) -> Page:
        context.set_default_timeout(PATIENCE)
        expect.set_options(timeout=PATIENCE)
        page = context.new_page()
        page.on("dialog", lambda dialog: dialog.accept())
        page.goto(path)
        return page


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    build(ROOT)
    with chromium() as opened:
        yield opened


@pytest.fixture
def site(real_db: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setattr(uploads, "PART_SIZE", 2000)
    with serving() as address:
        with unit_of_work() as db:
            user = make_user(db, "lorenzo").id
        yield Site(address, user)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "tuscan_gold-v1.safetensors"
    path.write_bytes(SD1)
    return path


def picture(path: Path, infotext: str) -> Path:
    info = PngInfo()
    info.add_text("parameters", infotext)
    Image.new("RGB", (96, 128), (180, 120, 60)).save(path, pnginfo=info)
    return path


def test_broken_off_resumed_and_made_a_page(browser: Browser, site: Site, file: Path, tmp_path: Path) -> None:
    page = site.open(browser, "/models/new", viewport={"width": 1280, "height": 900})
    parts = -(-len(SD1) // 2000)
    let_through = 3
    passed: list[str] = []
    answered: list[str] = []

    def cut(route: Route) -> None:
        if len(passed) < let_through:
            passed.append(route.request.url)
            route.continue_()
        else:
            route.abort("connectionfailed")

    page.route("**/parts/*", cut)
    page.on("requestfinished", lambda r: answered.append(r.url) if r.url in passed else None)
    page.set_input_files("[data-file]", str(file))
    expect(page.locator("[data-rate]")).to_have_text("Trying again …")
    for _ in range(600):  # a fourth part fails at once, while these three are still on their way
        if len(answered) == let_through:
            break
        page.wait_for_timeout(50)
    assert sorted(answered) == sorted(passed)
    expect(page.locator("[data-sending] h2")).to_have_text(file.name)
    page.close(run_before_unload=False)

    page = site.tab(page.context, "/models/new")
    expect(page.locator("[data-unfinished]")).to_contain_text("arrived, begun")
    sent: list[str] = []
    page.on("request", lambda r: sent.append(r.url) if r.method == "PUT" else None)
    page.set_input_files("[data-file]", str(file))
    page.wait_for_url("**/models/new?upload=*")
    assert len(sent) == parts - let_through

    expect(page.locator("h2#recognised")).to_have_text("This is a LoRA for SD 1.5")
    expect(page.locator(".standing")).to_contain_text("Generates here")
    assert page.input_value("[name=name]") == "Tuscan gold-v1"
    assert page.input_value("[name=trained_words]") == "tuscany, gold"
    assert page.locator("[name=base_model] option").all_inner_texts()[0] == "SD 1.5"
    assert "SDXL 1.0" not in page.inner_text("[name=base_model]")
    made = picture(
        tmp_path / "a.png",
        "tuscany, tower\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 42, Size: 96x128, Model: dusk",
    )
    plain = picture(tmp_path / "b.png", "")
    page.set_input_files("[data-cover-files]", [str(made), str(plain)])
    expect(page.locator(".cover-list li").nth(0)).to_contain_text("tuscany, tower")
    expect(page.locator(".cover-list li").nth(0)).to_contain_text("seed 42")
    expect(page.locator(".cover-list li").nth(0)).to_contain_text("with dusk (not on this server)")
    expect(page.locator(".cover-list li").nth(1)).to_contain_text("No generation data")
    page.click(".cover-list li:nth-child(2) [aria-label='Move forward']")
    page.fill("[name=description]", "**Gold** <script>alert(1)</script>")
    page.focus("[name=tags]")
    page.keyboard.type("light, hill")
    page.keyboard.press("Enter")

    page.wait_for_url("**/models/*/tuscan-gold-v1*")
    expect(page.locator("h1")).to_have_text("Tuscan gold-v1")
    expect(page.locator(".owner-bar")).to_contain_text("Only you see this page")
    expect(page.locator(".prose strong")).to_have_text("Gold")
    expect(page.locator(".carousel img")).to_have_count(2)
    expect(page.locator(".carousel img").nth(1)).to_have_attribute("alt", "tuscany, tower")
    with unit_of_work() as db:
        version = db.query(ModelVersion).one()
        assert (version.trained_words, version.family, version.files[0].size) == (
            ["tuscany", "gold"],
            "sd1",
            len(SD1),
        )
        assert [tag.tag for tag in version.model.tags] == ["hill", "light"]
        assert uploads.list_uploads(db, db.get_one(User, site.user)) == []
    page.context.close()


def test_what_cannot_be_uploaded_is_said_at_once(
    browser: Browser, site: Site, file: Path, tmp_path: Path
) -> None:
    page = site.open(browser, "/models/new")
    requests: list[str] = []
    page.on("request", lambda r: requests.append(r.url) if r.method != "GET" else None)
    for name, words in (
        ("model.ckpt", "pickle"),
        ("photo.jpg", "no model file"),
        ("none.safetensors", "empty"),
    ):
        (tmp_path / name).write_bytes(b"" if name.startswith("none") else b"x")
        page.set_input_files("[data-file]", str(tmp_path / name))
        expect(page.locator("[data-problem]")).to_contain_text(words)
    assert requests == []
    (tmp_path / "page.safetensors").write_bytes(b"<!DOCTYPE html>" + bytes(5000))
    page.set_input_files("[data-file]", str(tmp_path / "page.safetensors"))
    expect(page.locator("[data-problem]")).to_contain_text("This is a web page, not a model")
    with unit_of_work() as db:
        assert uploads.list_uploads(db, db.get_one(User, site.user)) == []
    page.context.close()


def test_another_file_does_not_go_on_with_a_session(
    browser: Browser, site: Site, file: Path, tmp_path: Path
) -> None:
    with unit_of_work() as db:
        uploads.create_upload(db, get_storage(), db.get_one(User, site.user), name=file.name, size=len(SD1))
    page = site.open(browser, "/models/new")
    other = tmp_path / "other.safetensors"
    other.write_bytes(SD1[:-2])
    with page.expect_file_chooser() as chooser:
        page.click("[data-go-on]")
    chooser.value.set_files(str(other))
    expect(page.locator("[data-problem]")).to_contain_text(f"To go on, choose {file.name}")
    with page.expect_file_chooser() as chooser:
        page.click("[data-go-on]")
    chooser.value.set_files(str(file))
    page.wait_for_url("**/models/new?upload=*")
    page.context.close()


def work_on_files() -> None:
    """Do the one waiting job of the queue as a worker does it."""
    with unit_of_work() as db:
        job = leases.claim(db, "w", ["files"])
    assert job is not None
    run_files_job(get_storage(), job, time.monotonic())


def test_a_large_file_waits_for_a_worker(
    browser: Browser, site: Site, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "AT_ONCE_BYTES", 0)
    page = site.open(browser, "/models/new")
    page.set_input_files("[data-file]", str(file))
    expect(page.locator("[data-words]")).to_contain_text("no worker is running to check it")
    page.close()
    page = site.tab(page.context, "/models/new")
    expect(page.locator("[data-unfinished]")).to_contain_text("it is being checked")
    page.click("[data-go-on]")
    expect(page.locator("[data-words]")).to_contain_text("no worker is running to check it")
    work_on_files()
    page.wait_for_url("**/models/new?upload=*")
    expect(page.locator("h2#recognised")).to_have_text("This is a LoRA for SD 1.5")
    page.context.close()


def test_large_zips_of_pictures_go_the_same_way(
    browser: Browser, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(get_settings().limits, "upload_bytes", 100)
    with unit_of_work() as db:
        dataset = datasets.create_dataset(db, db.get_one(User, site.user), name="Towns").id
    (tmp_path / "towns.zip").write_bytes(zipped([("a.png", png(1)), ("a.txt", b"bell tower")]))
    page = site.open(browser, f"/datasets/{dataset}")
    sent: list[str] = []
    page.on("request", lambda r: sent.append(r.url) if r.method == "PUT" else None)
    page.set_input_files("[data-files]", str(tmp_path / "towns.zip"))
    expect(page.locator("[data-item]")).to_have_count(1)
    assert sent
    page.context.close()


def test_on_a_phone_without_scripts(browser: Browser, site: Site, file: Path, tmp_path: Path) -> None:
    page = site.open(
        browser, "/models/new", viewport={"width": 360, "height": 740}, java_script_enabled=False
    )
    page.set_input_files("[data-file]", str(file))
    page.click("text=Upload it")
    expect(page.locator("h2#recognised")).to_have_text("This is a LoRA for SD 1.5")
    page.fill("[name=name]", "Gold")
    page.click("text=Make the page")
    expect(page.locator("h1")).to_have_text("Gold")
    page.click("text=Edit")
    page.set_input_files("[name=files]", str(picture(tmp_path / "a.png", "")))
    page.click("text=Add them")
    expect(page.locator(".carousel img")).to_have_count(1)
    with unit_of_work() as db:
        assert db.query(Model).one().visibility == "private"
    page.context.close()
