"""The generator: cards of the queue, refusals in plain words, pictures deleted in place."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.contract.events import Finished, Picture, Unplaced
from app.core.storage import get_storage
from app.generation import service
from app.images import service as images
from app.images.models import Image
from app.jobs.models import Job
from tests.app.conftest import Browser
from tests.app.generation.making import body, deliver, make_component, pixels_of, png
from tests.app.generation.test_service import PNG
from tests.app.training.factories import make_base, make_lora
from tests.factories import make_blob, make_user

HTMX = {"HX-Request": "true"}


def test_a_running_card_asks_again_and_a_finished_one_keeps_its_prompt(db: Session, browser: Browser) -> None:
    user = make_user(db)
    job = service.start_generation(db, user, body(make_base(db, user).id, seed=5, prompt="red house, dawn"))
    client, path = browser(user), f"/generate/jobs/{job.id}"
    waiting = client.get(path, headers=HTMX).text
    assert f'hx-get="{path}"' in waiting
    assert "Cancel" in waiting
    event = Picture(index=0, seed=5, path="000.png", width=128, height=128, infotext="red house, dawn")
    picture = service.add_picture(db, job, event, make_blob(db, PNG, "image/png"))
    job.output = service.complete_generation(db, job, Finished(outcome="succeeded", run_seconds=2.0))
    job.status = "succeeded"
    db.flush()
    done = client.get(path, headers=HTMX).text
    assert f'hx-get="{path}"' not in done
    assert 'data-copy="red house, dawn"' in done
    assert done.count(f'href="/generate?image={picture.id}"') == 2


def test_what_cannot_be_drawn_is_said_in_plain_words(db: Session, browser: Browser) -> None:
    user = make_user(db)
    form = {"model_version_id": make_base(db, user).id, "prompt": "house", "steps": "900", "seed": "many"}
    answer = browser(user).post("/generate", data=form, headers=HTMX)
    assert answer.status_code == 422
    assert "steps: must be at most 150" in answer.text
    assert "seed: must be a whole number" in answer.text


def test_a_picture_deleted_in_the_feed_leaves_the_page_where_it_is(db: Session, browser: Browser) -> None:
    user = make_user(db)
    job = service.start_generation(db, user, body(make_base(db, user).id, seed=5))
    event = Picture(index=0, seed=5, path="000.png", width=128, height=128, infotext="")
    picture = service.add_picture(db, job, event, make_blob(db, PNG, "image/png")).id
    answer = browser(user).post(f"/images/{picture}/delete", headers=HTMX)
    assert answer.status_code == 200
    assert "hx-redirect" not in answer.headers
    assert db.scalar(select(Image.id).where(Image.id == picture)) is None


def test_a_picture_shared_by_link_can_be_remixed_with_its_key(db: Session, browser: Browser) -> None:
    owner = make_user(db)
    job = service.start_generation(db, owner, body(make_base(db, owner).id, seed=5, prompt="a lighthouse"))
    event = Picture(index=0, seed=5, path="000.png", width=128, height=128, infotext="a lighthouse")
    picture = service.add_picture(db, job, event, make_blob(db, PNG, "image/png"))
    key = images.share_image(db, owner, picture.id).share_key
    stranger = browser(make_user(db))
    assert stranger.get("/generate", params={"image": picture.id}).status_code == 404
    link = f"/generate?image={picture.id}&amp;key={key}"
    assert link in stranger.get(f"/images/{picture.id}", params={"key": key}).text.replace("&key", "&amp;key")
    assert "a lighthouse</textarea>" in stranger.get(link.replace("&amp;", "&")).text


def test_the_form_is_drawn_with_all_that_it_held(db: Session, browser: Browser) -> None:
    user = make_user(db)
    base, lora, vae = make_base(db, user), make_lora(db, user), make_component(db, user, "VAE", "soft")
    form = {
        "model_version_id": str(base.id), "prompt": "a <mill>", "sampler": "Euler", "schedule": "Karras",
        f"lora-{lora.id}": "0.45", "vae_version_id": str(vae.id), "hires": "on", "hires_upscaler": "Lanczos",
        "compare": "on", "x_axis": "cfg_scale", "x_values": "3, 5",
    }  # fmt: skip
    answer = browser(user).post("/generate/form", data=form, headers=HTMX)
    assert answer.status_code == 200
    text = answer.text
    assert "a &lt;mill&gt;</textarea>" in text
    assert f'name="lora-{lora.id}" value="0.45"' in text
    for chosen in ("Karras", "Lanczos"):
        assert f"<option selected>{chosen}</option>" in text
    assert f'<option value="{vae.id}" selected>' in text
    assert '<option value="cfg_scale" selected>' in text
    assert 'value="3, 5"' in text


def test_without_a_model_the_form_says_so(db: Session, browser: Browser) -> None:
    client = browser(make_user(db))
    assert "No model can draw here yet" in client.get("/generate").text
    answer = client.post("/generate/form", data={"prompt": "house"}, headers=HTMX)
    assert (answer.status_code, "No model can draw here yet" in answer.text) == (409, True)


def test_a_model_that_cannot_draw_is_told_and_another_taken(db: Session, browser: Browser) -> None:
    user = make_user(db)
    able = make_base(db, user)
    other = make_base(db, user, family=None, base_model="SD 3.5")
    page = browser(user).get("/generate", params={"version": other.id}).text
    assert "SD 3.5" in page
    assert f'name="model_version_id" value="{able.id}"' in page


def test_a_picture_is_kept_shown_and_started_from(db: Session, browser: Browser) -> None:
    user = make_user(db)
    base = make_base(db, user).id
    client = browser(user)
    kept = client.post("/generate/pictures", files={"file": ("photo.png", png(), "image/png")}).json()
    assert pixels_of(client.get(kept["url"]).content).size == (128, 96)
    form = {"model_version_id": base, "prompt": "house", "start": kept["source"], "mask": kept["source"],
            "denoise": "0.4", "mask_blur": "6"}  # fmt: skip
    assert client.post("/generate", data=form, headers=HTMX).status_code == 200
    (job,) = [entry["job"] for entry in service.unfinished(db, user)]
    start = job.payload["start"]
    assert (start["denoise"], start["mask_blur"], start["mask"]["name"]) == (0.4, 6, "mask.png")
    refused = client.post(
        "/generate/pictures", files={"file": ("x.png", b"no picture", "image/png")}, headers=HTMX
    )
    assert (refused.status_code, "not a picture" in refused.text) == (422, True)


def test_a_dropped_picture_gives_the_form(db: Session, browser: Browser) -> None:
    user = make_user(db)
    make_base(db, user)
    data = png("a castle <lora:nowhere:1>\nSteps: 21, Sampler: Euler a, CFG scale: 6, Seed: 77")
    answer = browser(user).post(
        "/generate/read", files={"file": ("castle.png", data, "image/png")}, headers=HTMX
    )
    assert "Filled from image; 1 LoRA not installed: nowhere." in answer.text
    assert 'value="77"' in answer.text
    none = browser(user).post("/generate/read", files={"file": ("x.png", png(), "image/png")}, headers=HTMX)
    assert (none.status_code, "no generation data" in none.text) == (422, True)


def test_the_footer_is_counted_before_anything_starts(db: Session, browser: Browser) -> None:
    user = make_user(db)
    client, form = browser(user), {"model_version_id": make_base(db, user).id, "prompt": "house"}
    grid = form | {
        "compare": "on",
        "x_axis": "steps",
        "x_values": "4-12 x3",
        "y_axis": "seed",
        "y_values": "1, 2",
    }
    assert client.post("/generate/estimate", data=grid).json() == {
        "pictures": 6, "words": "", "problem": "", "notes": []
    }  # fmt: skip
    wrong = client.post("/generate/estimate", data=grid | {"x_values": "many"}).json()
    assert "“many” is no number" in wrong["problem"]
    told = client.post("/generate/estimate", data=form | {"prompt": "<lora:nowhere:1>"}).json()
    assert "nowhere" in told["notes"][0]
    assert db.scalar(select(Job.id)) is None


def test_a_grid_is_a_table_with_headers_and_one_picture(db: Session, browser: Browser) -> None:
    user = make_user(db)
    form = {"model_version_id": make_base(db, user).id, "prompt": "house", "compare": "on",
            "x_axis": "steps", "x_values": "4, 8", "y_axis": "sampler",
            "y_values": "Euler a, UniPC"}  # fmt: skip
    client = browser(user)
    client.post("/generate", data=form, headers=HTMX)
    job = service.unfinished(db, user)[0]["job"]
    image = deliver(db, job, 2)
    page = client.get(f"/generate/grids/{job.id}").text
    for header in ('<th scope="col">8</th>', '<th scope="row">UniPC</th>'):
        assert header in page
    assert 'alt="Steps 4, Sampler UniPC"' in page
    assert f'href="/generate?image={image.id}"' in page
    assert page.count('aria-label="Not drawn yet"') == 3
    sheet = client.get(f"/generate/grids/{job.id}/sheet.png")
    assert sheet.headers["content-type"] == "image/png"
    assert pixels_of(sheet.content).width > 256
    assert "Open the grid" in client.get(f"/generate/jobs/{job.id}", headers=HTMX).text


def test_a_preview_is_shown_while_a_picture_is_drawn(db: Session, browser: Browser) -> None:
    user = make_user(db)
    client = browser(user)
    job = service.start_generation(db, user, body(make_base(db, user).id, seed=5))
    path = f"/generate/jobs/{job.id}"
    assert "data-preview" not in client.get(path, headers=HTMX).text
    job.status, job.fence, job.progress = (
        "running",
        1,
        {"current": 5, "total": 20, "preview": {"n": 3, "index": 0}},
    )
    get_storage().put(service.preview_key(job), png())
    assert f'src="{path}/preview?n=3"' in client.get(path, headers=HTMX).text
    shown = client.get(f"{path}/preview", params={"n": 3})
    assert (shown.status_code, shown.headers["content-type"]) == (200, "image/jpeg")


def test_what_the_prompt_names_in_vain_stands_on_the_card(db: Session, browser: Browser) -> None:
    user = make_user(db)
    form = {"model_version_id": make_base(db, user).id, "prompt": "a <lora:nowhere:1>"}
    assert "There is no LoRA “nowhere” here" in browser(user).post("/generate", data=form, headers=HTMX).text


def test_layers_of_a_lora_that_did_nothing_stand_in_the_job_and_on_the_card(
    db: Session, browser: Browser
) -> None:
    user = make_user(db)
    job = service.start_generation(db, user, body(make_base(db, user).id, seed=5))
    lost = Unplaced(lora="ink", count=2, names=("lora_unet_nowhere", "emphasis"))
    finished = Finished(outcome="succeeded", run_seconds=2.0, unplaced=(lost,))
    job.output = service.complete_generation(db, job, finished)
    job.status = "succeeded"
    db.flush()
    assert job.output["unplaced"] == [{"lora": "ink", "count": 2, "names": ["lora_unet_nowhere", "emphasis"]}]
    card = browser(user).get(f"/generate/jobs/{job.id}", headers=HTMX).text
    assert "2 entries have no place here and do nothing: lora_unet_nowhere, emphasis" in card
