"""What the form starts with: a remix with everything, a dropped picture, the form as it was left."""

import io
from typing import Any

import pytest
from sqlalchemy.orm import Session

from app.accounts.models import User
from app.core.errors import Invalid
from app.core.security import new_key
from app.gallery.models import FileHash, ModelVersion
from app.generation import prefill, reading, service
from app.generation.form import body_of
from tests.app.generation.making import body, deliver, make_component, png
from tests.app.training.factories import make_base, make_lora, make_training
from tests.factories import make_image, make_user

TEXT = """a (castle:1.2) <lora:windmills:0.4:0.6> <lora:nowhere:1>
Negative prompt: blurry, easyneg
Steps: 22, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 6.5, Seed: 4242, Size: 152x104, \
Model hash: {model}, Model: other, Lora hashes: "windmills: {lora}, nowhere: abcdefabcdef", \
Denoising strength: 0.5, Hires upscale: 1.5, Hires upscaler: R-ESRGAN 4x+, Version: v1.10.1"""


@pytest.fixture
def user(db: Session) -> User:
    return make_user(db)


def hashed(db: Session, version: ModelVersion, kind: str, value: str) -> None:
    db.add(FileHash(file_id=version.files[0].id, kind=kind, value=value.upper()))
    db.flush()


@pytest.mark.parametrize(
    "rest",
    [
        {"mask": 0, "mask_blur": 7, "mask_padding": 0},
        {"hires": {"scale": 2, "upscaler": "Lanczos", "denoise": 0.3, "steps": 9}},
    ],
)
def test_remix_keeps_everything(db: Session, user: User, rest: dict[str, Any]) -> None:
    vae, lora, start = make_component(db, user, "VAE", "soft"), make_lora(db, user), make_image(db, user)
    base = make_base(db, user)
    rest = {name: start.id if name == "mask" else value for name, value in rest.items()}
    wanted = body(
        base.id, seed=5, steps=12, sampler="Euler", schedule="Karras", vae_version_id=vae.id,
        resources=[{"model_version_id": lora.id, "strength": 0.6, "text_encoder_strength": 0.2}],
        init_image=start.id, denoise=0.4, **rest,
    )  # fmt: skip
    image = deliver(db, service.start_generation(db, user, wanted))
    filled = prefill.from_query(db, user, image=image.id)
    assert [(c.choice.version_id, c.strength, c.text_encoder) for c in filled.loras] == [(lora.id, 0.6, 0.2)]
    assert filled.start_url == f"/images/{start.id}/file"
    form = {name: str(value) for name, value in filled.fields.items() if value is not None}
    form |= {f"lora-{lora.id}": "0.6", f"lora-te-{lora.id}": "0.2", "model_version_id": str(base.id)}
    again = body_of(form)
    resolved = {"width": 128, "height": 128, "clip_skip": 1, "cfg_scale": 5.0}
    assert again == wanted.model_copy(update=resolved)


def test_a_cell_of_a_grid_is_remixed_alone(db: Session, user: User) -> None:
    lora = make_lora(db, user)
    wanted = body(
        make_base(db, user).id, resources=[{"model_version_id": lora.id}], prompt="red house",
        grid={"x": {"axis": "lora_strength", "values": "0.3, 0.9"},
              "y": {"axis": "prompt", "values": "red, blue"}},
    )  # fmt: skip
    image = deliver(db, service.start_generation(db, user, wanted), 3)
    filled = prefill.from_query(db, user, image=image.id)
    assert filled.fields["prompt"] == "blue house"
    assert [card.strength for card in filled.loras] == [0.9]
    assert "compare" not in filled.fields


def test_an_epoch_is_remixed_as_an_epoch(db: Session, user: User) -> None:
    training = make_training(db, user, epochs=2)
    base = training.payload["base"]["model_version_id"]
    epoch = {"id": training.id, "epoch": 1, "strength": 0.7}
    image = deliver(db, service.start_generation(db, user, body(base, checkpoint_of_training=epoch)))
    filled = prefill.from_query(db, user, image=image.id)
    assert filled.epoch is not None
    assert (filled.epoch["epoch"], filled.epoch["strength"]) == (1, 0.7)
    assert filled.notes == []


def test_all_epochs_of_a_training_are_compared(db: Session, user: User) -> None:
    training = make_training(db, user, epochs=3)
    filled = prefill.from_query(db, user, training=training.id, epoch=2)
    prefill.compare_epochs(filled, training.id)
    base = str(training.payload["base"]["model_version_id"])
    form = {"model_version_id": base, "training": training.id, "epoch": "2"}
    form |= {name: str(value) for name, value in filled.fields.items()}
    found = service.estimate(db, user, body_of(form))
    assert found.pictures == 4


def test_others_see_of_a_shared_picture_what_it_tells(db: Session, user: User) -> None:
    lora = make_lora(db, user)
    start = make_image(db, user)
    wanted = body(
        make_base(db, user).id,
        resources=[{"model_version_id": lora.id, "strength": 0.5}],
        init_image=start.id,
    )
    image = deliver(db, service.start_generation(db, user, wanted))
    image.visibility, image.share_key = "unlisted", new_key()
    filled = prefill.from_query(db, make_user(db), image=image.id, key=image.share_key)
    assert [(c.choice.version_id, c.strength) for c in filled.loras] == [(lora.id, 0.5)]
    assert not filled.fields.get("start")
    assert "not shared" in filled.notes[0]


def test_a_dropped_picture_fills_the_form_and_names_what_is_missing(db: Session, user: User) -> None:
    lora, base = make_lora(db, user), make_base(db, user)
    hashed(db, base, "AutoV2", "1234567890")
    hashed(db, lora, "AutoV3", "abcdef012345")
    text = TEXT.format(model="1234567890", lora="abcdef012345")
    filled = reading.read_picture(db, user, io.BytesIO(png(text)), name="castle.png", base="")
    assert filled.good == "Filled from image; 1 LoRA not installed: nowhere (abcdefabcdef)."
    assert filled.base is not None
    assert filled.base.version_id == base.id
    card = filled.loras[0]
    assert (card.choice.version_id, card.strength, card.text_encoder) == (lora.id, 0.6, 0.4)
    assert filled.fields["prompt"] == "a (castle:1.2) <lora:nowhere:1>"
    assert (filled.fields["sampler"], filled.fields["schedule"]) == ("DPM++ 2M", "Karras")
    assert (filled.fields["width"], filled.fields["height"], filled.fields["seed"]) == (152, 104, 4242)
    assert (filled.fields["hires_scale"], filled.fields["hires_upscaler"]) == (1.5, "Lanczos")
    assert any("R-ESRGAN" in note for note in filled.notes)


def test_names_serve_where_there_is_no_hash(db: Session, user: User) -> None:
    lora, base = make_lora(db, user), make_base(db, user)
    filled = reading.read_text(
        db, user, "x <lora:Windmills:0.9>\nSteps: 20, Sampler: Euler a, Seed: 1, Model: starter-1"
    )
    assert [(c.choice.version_id, c.strength) for c in filled.loras] == [(lora.id, 0.9)]
    assert filled.base is not None
    assert filled.base.version_id == base.id


def test_what_cannot_be_drawn_here_becomes_the_nearest_and_is_said(db: Session, user: User) -> None:
    make_base(db, user)
    text = "x\nSteps: 140, Sampler: DPM adaptive, CFG scale: 7, Seed: 1, Clip skip: 12, Size: 1216x832"
    filled = reading.read_text(db, user, text)
    assert filled.fields["clip_skip"] == 4
    assert (filled.fields["width"], filled.fields["height"]) == (256, 176)
    assert filled.fields["steps"] == 60
    assert len(filled.notes) == 4


def test_the_model_in_use_stays_where_the_pictures_is_not_here(db: Session, user: User) -> None:
    mine, _newer = make_base(db, user), make_base(db, user)
    text = "x\nSteps: 20, Sampler: Euler a, Seed: 1, Model hash: ffffffffff, Model: elsewhere"
    filled = reading.read_text(db, user, text, base=str(mine.id))
    assert filled.base is not None
    assert filled.base.version_id == mine.id
    assert "elsewhere (ffffffffff)" in filled.notes[0]


def test_a_picture_without_data_says_what_to_do(db: Session, user: User) -> None:
    with pytest.raises(Invalid, match="Start picture"):
        reading.read_picture(db, user, io.BytesIO(png("")), name="photo.png", base="")


def test_the_form_as_it_was_left(db: Session, user: User) -> None:
    lora, other = make_lora(db, user), make_lora(db, user, base_model="SDXL 1.0")
    base = make_base(db, user)
    form: dict[str, Any] = {
        "model_version_id": str(base.id), "prompt": "red house", f"lora-{lora.id}": "0.45",
        f"lora-te-{lora.id}": "0.1", f"lora-{other.id}": "1", f"lora-off-{lora.id}": "on",
        "start": f"image:{make_image(db, user).id}", "mask": "upload:up_gone", "aspect": "104x152",
    }  # fmt: skip
    filled = prefill.from_form(db, user, form)
    assert [(c.strength, c.text_encoder, c.fit.usable) for c in filled.loras] == [
        (0.45, 0.1, True),
        (1, None, False),
    ]
    assert (filled.fields["width"], filled.fields["mask"]) == (104, "")
    assert any("mask" in note for note in filled.notes)


def test_loras_that_are_off_or_do_not_fit_are_left_out(db: Session, user: User) -> None:
    form = {"model_version_id": "1", "prompt": "x", "lora-2": "1", "lora-3": "1", "lora-off-3": "on",
            "lora-4": "1", "lora-unfit-4": "1"}  # fmt: skip
    assert [each.model_version_id for each in body_of(form).resources] == [2]
