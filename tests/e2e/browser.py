"""Headless Chromium, and the loop as a person walks it: admin link, wizard, training, page, pictures."""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from playwright.sync_api import Browser, Page, expect, sync_playwright

ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
PASSWORD = "fifteen pictures of one town"
PATIENCE = 120_000
"""Milliseconds for what usually takes a moment: other work may keep all cores busy."""


@contextmanager
def chromium() -> Iterator[Browser]:
    """The system's Chromium. Errors: RuntimeError that says how to install it."""
    path = os.environ.get("BOTTEGA_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        raise RuntimeError("Chromium is missing. Run ./dev test, or: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


@dataclass
class Walk:
    """One walk through the product. `problems` collects what the browser's console complained about."""

    page: Page
    shots: Path
    problems: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.shots.mkdir(parents=True, exist_ok=True)
        self.page.set_default_timeout(PATIENCE)
        expect.set_options(timeout=PATIENCE)
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on(
            "console", lambda line: self.problems.append(line.text) if line.type == "error" else None
        )

    def shot(self, name: str) -> None:
        self.page.screenshot(path=str(self.shots / f"{name}.png"), full_page=True)

    def make_admin(self, link: str, username: str = "lorenzo") -> None:
        self.page.goto(link)
        self.page.fill("input[name=username]", username)
        self.page.fill("input[name=password]", PASSWORD)
        self.shot("1-welcome")
        self.page.click("main button.primary")
        expect(self.page.locator("header")).to_contain_text("Train a LoRA")

    def log_in(self, username: str, password: str) -> None:
        self.page.goto("/login")
        self.page.fill("input[name=username]", username)
        self.page.fill("input[name=password]", password)
        self.page.click("main button.primary")
        expect(self.page.locator("header")).to_contain_text("Train a LoRA")

    def train(
        self, files: list[Path], *, name: str, trigger: str, preset: str = "quick", media: str = "image"
    ) -> str:
        """The three steps of the wizard; gives the address of the job page."""
        page = self.page
        page.goto("/train")
        page.click("main button.primary")
        page.check(f"input[name=media][value={media}]", force=True)
        page.check("input[name=type][value=style]", force=True)
        page.fill("input[name=name]", name)
        page.fill("input[name=trigger_word]", trigger)
        self.shot("2-what-is-it")
        page.click("[data-next]")
        page.set_input_files("input[data-files]", [str(f) for f in files])
        pictures = [f for f in files if f.suffix != ".txt"]
        expect(page.locator("[data-grid] [data-item]")).to_have_count(len(pictures))
        self.shot("3-pictures")
        page.check("input[name=rights]")
        page.click("text=Next: review")
        page.check(f"input[name=preset][value={preset}]", force=True)
        page.wait_for_timeout(1500)
        self.shot("4-review")
        page.click("button[name=start]")
        page.wait_for_url("**/trainings/*")
        return page.url

    def wait_trained(self, seconds: float) -> None:
        """Watch the job page until it says that it is done."""
        self.page.wait_for_selector("#samples img, #samples video", timeout=seconds * 1000)
        self.shot("5-training")
        expect(self.page.locator("h1")).to_contain_text("Done", timeout=seconds * 1000)
        self.shot("6-results")

    def publish(self) -> str:
        """Publish the preselected epoch for everybody; gives the model page's address."""
        page = self.page
        page.click("a.primary:has-text('Publish')")
        page.check("input[name=visibility][value=public]", force=True)
        self.shot("7-publish")
        page.click("main button.primary")
        page.wait_for_url(re.compile(r"/models/\d+"))
        self.shot("8-model")
        return page.url

    def download(self, folder: Path) -> Path:
        """Take the adapter from the model page's download menu."""
        page = self.page
        page.click("summary:has-text('Download')")
        with page.expect_download() as waiting:
            page.click(".menu-items a:has-text('.safetensors') >> nth=0")
        target = folder / waiting.value.suggested_filename
        waiting.value.save_as(target)
        return target

    def generate(self, prompt: str, *, seed: int, seconds: float, lora: bool, base: str = "/generate") -> str:
        """Draw one picture or clip; gives its address. With `lora` from the model page that is open, else
        from the page `base`."""
        page = self.page
        if not lora:
            page.goto(base)
        if lora or base.startswith("/models/"):
            page.click("a:has-text('Create with it')")
        page.fill("textarea[name=prompt]", prompt)
        page.evaluate("document.querySelector('[data-advanced]').open = true")
        page.fill("input[name=seed]", str(seed))
        page.click("form[data-generator] button.primary")
        picture = page.locator("#queue .feed-job").first.locator("figure a[href^='/images/']").first
        expect(picture).to_be_visible(timeout=seconds * 1000)
        self.shot("9-with-lora" if lora else "10-without-lora")
        return str(picture.get_attribute("href"))

    def share(self, picture: str) -> None:
        """Publish a picture and find it in the public gallery."""
        page = self.page
        page.goto(picture)
        self.shot("11-picture")
        page.click("button:has-text('Publish')")
        page.goto("/images")
        expect(page.locator(f"main a[href^='{picture}']").first).to_be_visible()
        self.shot("12-gallery")
