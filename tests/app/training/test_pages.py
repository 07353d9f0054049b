"""The training pages: mistakes are told at their field, choices stay, every end offers a way on."""

import re

from sqlalchemy.orm import Session

from app.training import drafts
from tests.app.conftest import Browser
from tests.app.training.factories import deliver_sample, make_training
from tests.factories import make_user

FORM = {"epoch": "2", "name": "Tuscany", "visibility": "public", "allow_derivatives": "on"}


def test_a_wrong_strength_is_told_at_its_field_and_the_licence_stays(db: Session, browser: Browser) -> None:
    user = make_user(db)
    job = make_training(db, user, epochs=2)
    answer = browser(user).post(f"/trainings/{job.id}/publish", data=FORM | {"strength": "9"})
    assert answer.status_code == 422
    assert '<a href="#f-strength">must be at most 2</a>' in re.sub(r"\s+", " ", answer.text)
    ticked = re.findall(r'name="(allow_\w+)" value="on" checked', answer.text)
    assert ticked == ["allow_derivatives"]


def test_an_epoch_that_is_no_number_is_a_422(db: Session, browser: Browser) -> None:
    user = make_user(db)
    job = make_training(db, user, epochs=1)
    answer = browser(user).post(f"/trainings/{job.id}/publish", data=FORM | {"epoch": "last"})
    assert answer.status_code == 422
    assert "must be a whole number" in answer.text


def test_a_seed_that_is_no_number_does_not_break_the_review(db: Session, browser: Browser) -> None:
    user = make_user(db)
    draft = drafts.create_draft(db, user)
    answer = browser(user).post(f"/train/{draft.id}/review", data={"prompt-0": "house", "seed-0": "x"})
    assert answer.status_code == 200
    assert draft.fields["sample_prompts"] == [{"prompt": "house", "seed": 1}]


def test_prompts_that_are_emptied_mean_no_samples(db: Session, browser: Browser) -> None:
    user = make_user(db)
    draft = drafts.create_draft(db, user)
    client, address = browser(user), f"/train/{draft.id}/review"
    client.post(address, data={"preset": "quick", "prompt-0": "", "prompt-1": ""})
    assert "sample_prompts" not in draft.fields
    client.post(address, data={"prompt-0": "house", "seed-0": "1"})
    client.post(address, data={"prompt-0": "", "seed-0": "1"})
    assert draft.fields["sample_prompts"] == []


def test_a_failed_training_can_be_tried_again_and_says_its_words_once(db: Session, browser: Browser) -> None:
    user = make_user(db)
    job = make_training(db, user)
    job.status, job.error = "failed", {"title": "Failed", "detail": "The numbers overflowed at step 12."}
    db.flush()
    page = browser(user).get(f"/trainings/{job.id}").text
    assert f'action="/jobs/{job.id}/retry"' in page
    body = page.split("<main")[1]
    assert body.count("The numbers overflowed") == 1


def test_headings_of_the_samples_leave_out_the_trigger_word(db: Session, browser: Browser) -> None:
    user = make_user(db)
    job = make_training(db, user, epochs=1, sample_prompts=[{"prompt": "tuscany, olive tree", "seed": 1}])
    page = browser(user).get(f"/trainings/{job.id}").text
    assert 'title="tuscany, olive tree">olive tree</span>' in page
    assert f'action="/trainings/{job.id}/further/1"' in page


def test_samples_between_two_saves_have_a_row_without_buttons(db: Session, browser: Browser) -> None:
    user = make_user(db)
    job = make_training(db, user, epochs=1)
    deliver_sample(db, job, 1, step=7)
    page = browser(user).get(f"/trainings/{job.id}").text
    assert re.findall(r'<span class="strong">(\w+ \d+)</span>', page) == ["Epoch 1", "Step 7"]
    assert page.count(f"/trainings/{job.id}/publish?epoch=1") == 1


def test_what_was_asked_for_is_said(db: Session, browser: Browser) -> None:
    user = make_user(db)
    job = make_training(db, user)
    page = browser(user).get(f"/trainings/{job.id}", params={"asked": "sample"}).text
    assert "drawn after the step that runs now" in page


def test_a_draft_that_was_started_leads_to_its_training(db: Session, browser: Browser) -> None:
    user = make_user(db)
    draft = drafts.create_draft(db, user)
    draft.job_id = make_training(db, user).id
    db.flush()
    page = browser(user).get(f"/train/{draft.id}/review").text
    assert "This training has started already." in page
    assert 'name="start"' not in page
