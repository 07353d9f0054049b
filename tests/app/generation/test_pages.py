"""The generator: cards of the queue, refusals in plain words, pictures deleted in place."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.contract.events import Finished, Picture
from app.generation import service
from app.images import service as images
from app.images.models import Image
from tests.app.conftest import Browser
from tests.app.generation.test_service import PNG, body
from tests.app.training.factories import make_base
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
