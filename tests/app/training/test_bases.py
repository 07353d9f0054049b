"""What can be trained on: bases that cannot are shown with the reason and refused, a VAE can be chosen."""

import re
from typing import Any

import pytest
from sqlalchemy.orm import Session

from app.accounts.models import User
from app.contract.jobs import TrainJob
from app.core.errors import Invalid
from app.gallery.words import training_settings
from app.training import drafts, publishing, service
from app.training.schemas import PublishIn
from tests.app.conftest import Browser, Script
from tests.app.gallery.test_matching import page
from tests.app.training.factories import deliver_epoch, make_base, training_body
from tests.factories import make_user


@pytest.fixture
def user(db: Session) -> User:
    return make_user(db)


def body(db: Session, user: User, base: dict[str, Any]) -> dict[str, Any]:
    return training_body(db, user, base=base).model_dump(mode="json", exclude_unset=True)


@pytest.mark.parametrize("dry", [True, False])
@pytest.mark.parametrize(
    ("base_model", "facts", "words"),
    [
        ("SDXL 1.0", {"architecture": "sdxl-refiner", "variant": "refiner"}, "is a refiner"),
        ("SD 1.5", {"architecture": "sd1", "variant": "inpaint"}, "is made for inpainting"),
        ("Flux.1 D", {"architecture": "flux1"}, "cannot train or draw here yet"),
    ],
)
def test_a_base_that_cannot_be_trained_is_a_422_in_words(
    db: Session, user: User, script: Script, base_model: str, facts: dict[str, Any], words: str, *, dry: bool
) -> None:
    base = page(db, user, "Checkpoint", base_model, name="Big", **facts)
    answer = script(user).post(
        "/api/v1/trainings", params={"dry_run": dry}, json=body(db, user, {"model_version_id": base.id})
    )
    assert answer.status_code == 422
    problem = answer.json()
    assert (problem["code"], words in problem["detail"]) == ("base-model-unsupported", True)
    assert [e["pointer"] for e in problem["errors"]] == ["#/base/model_version_id"]


def test_step_one_greys_them_with_the_reason(db: Session, user: User, browser: Browser) -> None:
    make_base(db, user)
    refiner = page(
        db, user, "Checkpoint", "SDXL 1.0", architecture="sdxl-refiner", variant="refiner", name="Refiner"
    )
    page(db, user, "Checkpoint", "Flux.1 D", architecture="flux1", name="Flux")
    draft = drafts.create_draft(db, user)
    text = browser(user).get(f"/train/{draft.id}/about").text
    cards = re.findall(r'<div class="base off" aria-disabled="true">(.*?)</div>', text, re.S)
    assert ["cannot train or draw here yet" in cards[0], "is a refiner" in cards[1]] == [True, True]
    assert f'value="{refiner.id}"' not in text
    assert 'name="vae"' not in text
    answer = browser(user).post(
        f"/train/{draft.id}/about", data={"name": "Ink", "type": "style", "base": refiner.id}
    )
    assert answer.status_code == 422
    assert "is a refiner" in answer.text


def test_a_vae_is_chosen_in_step_one(db: Session, user: User, browser: Browser) -> None:
    base = page(db, user, "Checkpoint", "SDXL 1.0", architecture="sdxl", name="XL")
    other = page(db, user, "Checkpoint", "SD 1.5", architecture="sd1", name="Small")
    vae = page(db, user, "VAE", "Pony", kind="vae", component="VAE with 4 latent channels", name="Fix")
    page(db, user, "VAE", "Flux.1 D", name="No use")
    draft = drafts.create_draft(db, user)
    visitor = browser(user)
    text = visitor.get(f"/train/{draft.id}/about").text
    assert re.findall(r'<option value="(\d+)" data-fits="([\d ]+)"', text) == [(str(vae.id), str(base.id))]
    form = {"name": "Ink", "type": "style", "base": other.id, "vae": vae.id}
    refused = visitor.post(f"/train/{draft.id}/about", data=form)
    assert refused.status_code == 422
    assert "Fix is a VAE for Pony, not for Small (SD 1.5)." in refused.text.replace("&#39;", "'")
    assert visitor.post(f"/train/{draft.id}/about", data=form | {"base": base.id}).status_code == 303
    db.refresh(draft)
    asked = drafts.draft_body(draft).base
    assert (asked.model_version_id, asked.vae_version_id) == (base.id, vae.id)
    assert visitor.post(f"/train/{draft.id}/about", data=form | {"vae": ""}).status_code == 303
    db.refresh(draft)
    assert draft.fields["vae"] is None


def test_a_vae_that_is_gone_is_told_at_its_field(db: Session, user: User) -> None:
    base = make_base(db, user)
    draft = drafts.create_draft(db, user)
    with pytest.raises(Invalid) as refused:
        drafts.save_about(
            db, user, draft.id, type="style", name="Ink", base=base.id, trigger="ink", vae=987_654_321
        )
    assert [e.pointer for e in refused.value.errors] == ["vae"]


def test_the_vae_goes_with_the_training_and_its_page(db: Session, user: User, browser: Browser) -> None:
    base = page(db, user, "Checkpoint", "Starter 1", architecture="starter", name="First")
    vae = page(db, user, "VAE", "Starter 1", architecture="starter", name="Clear", file="clear.safetensors")
    named = {"model_version_id": base.id, "vae_version_id": vae.id}
    job = service.start_training(db, user, training_body(db, user, base=named))
    payload = TrainJob.model_validate(job.payload)
    assert payload.base.vae is not None
    assert payload.base.vae.sha256 == vae.files[0].blob_sha256
    assert job.input["base"] == named | {"name": "First", "vae": "clear.safetensors"}
    assert "<dt>vae</dt><dd>clear.safetensors</dd>" in browser(user).get(f"/trainings/{job.id}").text
    again = drafts.duplicate_settings(db, user, job.id)
    assert drafts.draft_body(again).base.vae_version_id == vae.id
    deliver_epoch(db, job, 1)
    model = publishing.publish_checkpoint(db, user, job.id, PublishIn(checkpoint=1))
    assert training_settings(model.versions[0])[:2] == [("Base", "First"), ("VAE", "clear.safetensors")]


def test_without_one_nothing_is_said_of_it(db: Session, user: User, browser: Browser) -> None:
    job = service.start_training(db, user, training_body(db, user))
    assert set(job.input["base"]) == {"model_version_id", "name"}
    assert "the checkpoint&#39;s own" in browser(user).get(f"/trainings/{job.id}").text


@pytest.mark.parametrize(
    ("type", "base_model", "code"),
    [
        ("VAE", "SD 1.5", "vae-base-mismatch"),
        ("VAE", "Other", "vae-base-unknown"),
        ("LORA", "Starter 1", "not-a-vae"),
    ],
)
def test_a_wrong_vae_is_a_422_at_its_field(
    db: Session, user: User, script: Script, type: str, base_model: str, code: str
) -> None:
    vae = page(db, user, type, base_model)
    named = {"model_version_id": make_base(db, user).id, "vae_version_id": vae.id}
    answer = script(user).post("/api/v1/trainings", params={"dry_run": True}, json=body(db, user, named))
    assert (answer.status_code, answer.json()["code"]) == (422, code)
    assert [e["pointer"] for e in answer.json()["errors"]] == ["#/base/vae_version_id"]


def test_somebody_elses_private_vae_does_not_exist(db: Session, user: User, script: Script) -> None:
    vae = page(db, make_user(db), "VAE", "Starter 1")
    vae.model.visibility = "private"
    named = {"model_version_id": make_base(db, user).id, "vae_version_id": vae.id}
    answer = script(user).post("/api/v1/trainings", params={"dry_run": True}, json=body(db, user, named))
    assert answer.status_code == 404


def test_a_place_in_the_queue_is_that_of_a_new_job(db: Session, user: User, script: Script) -> None:
    for _ in range(3):
        service.start_training(db, user, training_body(db, user))
    other = make_user(db)
    for viewer, ahead in ((user, 3), (other, 1)):
        answer = script(viewer).post(
            "/api/v1/trainings",
            params={"dry_run": True},
            json=training_body(db, viewer).model_dump(mode="json", exclude_unset=True),
        )
        assert answer.json()["queue_position"] == ahead
