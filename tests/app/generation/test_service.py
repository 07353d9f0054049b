"""Generations: what is refused and why, defaults, and pictures that are written once."""

from typing import Any

import pytest
from sqlalchemy.orm import Session

from app.accounts.models import User
from app.contract.events import Finished, Picture
from app.contract.jobs import GenerateJob
from app.core.errors import Invalid, NotFound
from app.generation import plan, prefill, service
from app.generation.schemas import GenerationIn
from tests.app.training.factories import make_base, make_lora, make_training
from tests.factories import make_blob, make_model, make_user, make_version

PNG = (
    b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x02\x00\x00\x00\x90wS\xde"
    b"\x00\x00\x00\x0cIDATx\x9cc\xf8\xcf\xc0\x00\x00\x03\x01\x01\x00\xc9\xfe\x92\xef\x00\x00\x00\x00IEND\xaeB`\x82"
)


def body(version_id: int, **fields: Any) -> GenerationIn:
    return GenerationIn.model_validate({"model_version_id": version_id, "prompt": "red house"} | fields)


def planned(db: Session, user: User, wanted: GenerationIn) -> GenerateJob:
    return plan.plan_generation(db, user, wanted).job


def test_what_is_left_out_is_the_familys_default(db: Session) -> None:
    user = make_user(db)
    job = planned(db, user, body(make_base(db, user).id, seed=7, quantity=3))
    assert (job.width, job.height, job.steps) == (128, 128, 20)
    assert job.seeds == (7, 8, 9)


def test_null_is_as_good_as_left_out(db: Session) -> None:
    user = make_user(db)
    base = make_base(db, user).id
    optional = set(GenerationIn.model_fields) - {"model_version_id", "prompt"}
    nulls = planned(db, user, body(base, seed=7, **dict.fromkeys(optional - {"seed"})))
    assert nulls == planned(db, user, body(base, seed=7))
    named = planned(db, user, body(base, seed=7, init_image=None, denoise=0.75, hires=None))
    assert named == nulls


def test_seeds_wrap_at_the_end(db: Session) -> None:
    user = make_user(db)
    job = planned(db, user, body(make_base(db, user).id, seed=2**32 - 1, quantity=2))
    assert job.seeds == (2**32 - 1, 0)


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"sampler": "Magic"}, "#/sampler"),
        ({"width": 130}, "#/width"),
        ({"height": 1024}, "#/height"),
        ({"steps": 100}, "#/steps"),
        ({"denoise": 0.5}, "#/denoise"),
    ],
)
def test_limits_of_the_family_are_named(db: Session, fields: dict[str, Any], pointer: str) -> None:
    user = make_user(db)
    with pytest.raises(Invalid) as caught:
        planned(db, user, body(make_base(db, user).id, **fields))
    assert [e.pointer for e in caught.value.errors] == [pointer]


def test_a_lora_for_another_base_is_refused(db: Session) -> None:
    user = make_user(db)
    lora = make_lora(db, user, base_model="SDXL 1.0")
    with pytest.raises(Invalid) as caught:
        planned(db, user, body(make_base(db, user).id, resources=[{"model_version_id": lora.id}]))
    assert caught.value.code == "lora-base-mismatch"


def test_what_is_no_lora_is_named_by_its_place(db: Session) -> None:
    user = make_user(db)
    base, lora = make_base(db, user), make_lora(db, user)
    listed = [{"model_version_id": version.id} for version in (lora, base)]
    with pytest.raises(Invalid) as caught:
        planned(db, user, body(base.id, resources=listed))
    assert (caught.value.code, caught.value.errors[0].pointer) == ("not-a-lora", "#/resources/1")


def test_the_same_lora_twice_is_refused(db: Session) -> None:
    user = make_user(db)
    twice = [{"model_version_id": make_lora(db, user).id}] * 2
    with pytest.raises(Invalid) as caught:
        planned(db, user, body(make_base(db, user).id, resources=twice))
    assert caught.value.code == "duplicate-lora"


def test_a_private_model_of_somebody_else_does_not_exist(db: Session) -> None:
    user, other = make_user(db), make_user(db)
    private = make_version(db, make_model(db, other))
    with pytest.raises((Invalid, NotFound)):
        planned(db, user, body(make_base(db, user).id, resources=[{"model_version_id": private.id}]))


def test_an_epoch_that_is_not_published_can_be_tried(db: Session) -> None:
    user = make_user(db)
    training = make_training(db, user, epochs=2)
    base = training.payload["base"]["model_version_id"]
    job = planned(db, user, body(base, checkpoint_of_training={"id": training.id, "epoch": 2}))
    assert [(x.name, x.strength) for x in job.loras] == [("Tuscany-000002", 0.8)]


def test_a_picture_that_comes_twice_is_one_row(db: Session) -> None:
    user = make_user(db)
    job = service.start_generation(db, user, body(make_base(db, user).id, seed=5))
    blob = make_blob(db, PNG, "image/png")
    event = Picture(index=0, seed=5, path="000.png", width=128, height=128, infotext="red house\nSteps: 20")
    first = service.add_picture(db, job, event, blob)
    assert service.add_picture(db, job, event, blob).id == first.id
    output = service.complete_generation(db, job, Finished(outcome="succeeded", run_seconds=2.0))
    assert [(i["id"], i["seed"]) for i in output["images"]] == [(first.id, 5)]
    assert [r.kind for r in first.resources] == ["checkpoint"]
    assert first.visibility == "private"


def test_remix_fills_the_form_from_a_picture(db: Session) -> None:
    user = make_user(db)
    base, lora = make_base(db, user), make_lora(db, user)
    wanted = body(base.id, seed=5, steps=12, resources=[{"model_version_id": lora.id, "strength": 0.6}])
    job = service.start_generation(db, user, wanted)
    event = Picture(index=0, seed=5, path="000.png", width=128, height=128, infotext="")
    image = service.add_picture(db, job, event, make_blob(db, PNG, "image/png"))
    filled = prefill.from_query(db, user, image=image.id)
    assert filled.base is not None
    assert filled.base.version_id == base.id
    assert [(c.choice.version_id, c.strength) for c in filled.loras] == [(lora.id, 0.6)]
    assert (filled.fields["seed"], filled.fields["steps"]) == (5, 12)


def test_estimates_come_from_pictures_that_were_drawn_here(db: Session) -> None:
    user = make_user(db)
    base = make_base(db, user)
    assert service.estimate(db, user, body(base.id)).eta_seconds is None
    job = service.start_generation(db, user, body(base.id))
    service.complete_generation(db, job, Finished(outcome="succeeded", run_seconds=2.0))
    job.status = "succeeded"
    db.flush()
    assert service.estimate(db, user, body(base.id, quantity=3)).eta_seconds == pytest.approx(6.0)
