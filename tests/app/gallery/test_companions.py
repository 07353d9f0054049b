"""Checkpoints of clips in one file: what they lack is found on their page or among what is installed."""

import re
from typing import Any, Literal

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.accounts.models import User
from app.core.errors import Invalid, NotFound
from app.gallery.files import family_of
from app.gallery.models import ModelFile, ModelVersion
from app.gallery.refs import checkpoint_ref, lacks
from app.gallery.standing import standing
from app.jobs.models import Job
from app.recognition import Recognised
from app.recognition.header import Header, TensorInfo
from app.recognition.recognise import recognise
from app.training import drafts
from tests.app.conftest import Browser, Script
from tests.factories import make_blob, make_dataset, make_file, make_model, make_user, make_version
from worker.families.catalog import specs

TOLD = {"kind": "checkpoint", "tensors": 1, "parameters": 1, "why": "the test says so"}


@pytest.fixture
def user(db: Session) -> User:
    return make_user(db)


def page(
    db: Session,
    user: User,
    family: str,
    *,
    type: str = "Checkpoint",
    name: str = "wan",
    format_: str = "SafeTensor",
    **facts: Any,
) -> ModelVersion:
    """A public page of one file; of a zip with `format_`."""
    model = make_model(db, user, name, type=type, visibility="public")
    version = make_version(
        db, model, base_model=specs()[family].base_model, family=family, status="Published"
    )
    file = make_file(
        db, version, name=f"{name}.safetensors", facts=TOLD | facts, blob_sha256=make_blob(db).sha256
    )
    file.format = format_
    db.flush()
    db.refresh(version)
    return version


def code_of(db: Session, user: User, version: ModelVersion) -> tuple[str | None, str]:
    with pytest.raises(Invalid) as refused:
        checkpoint_ref(db, user, version.id)
    return refused.value.code, str(refused.value)


def test_what_is_missing_is_named_and_then_found(db: Session, user: User) -> None:
    alone = page(db, user, "wan", architecture="wan-1.3b")
    code, words = code_of(db, user, alone)
    assert code == "base-model-incomplete"
    assert (
        "holds no text encoder, and none for it is here. Upload a zip with the folders text_encoder" in words
    )
    assert "Or install a complete checkpoint of its kind" in words
    whole = page(db, user, "wan_14b", name="whole", format_="Diffusers", has_vae=True)
    assert code_of(db, user, alone)[0] == "vae-missing"
    vae = page(db, user, "wan_14b", type="VAE", name="vae", kind="vae")
    page(db, user, "wan22_5b", type="VAE", name="vae of another kind", kind="vae")
    found = checkpoint_ref(db, user, alone.id)
    assert found.text_encoder is not None
    assert found.vae is not None
    assert found.text_encoder.sha256 == whole.files[0].blob_sha256
    assert found.vae.sha256 == vae.files[0].blob_sha256
    assert checkpoint_ref(db, user, whole.id).text_encoder is None


def test_the_files_of_a_version_come_first(db: Session, user: User) -> None:
    page(db, user, "wan", type="VAE", name="vae", kind="vae")
    alone = page(db, user, "wan", architecture="wan-1.3b")
    own: list[ModelFile] = []
    for type_, format_ in (("VAE", "SafeTensor"), ("Text Encoder", "Diffusers")):
        file = make_file(db, alone, name=type_, blob_sha256=make_blob(db).sha256, is_primary=False)
        file.type, file.format = type_, format_
        own.append(file)
    db.flush()
    db.refresh(alone)
    found = checkpoint_ref(db, user, alone.id)
    assert [found.vae, found.text_encoder] != [None, None]
    assert [ref.sha256 for ref in (found.vae, found.text_encoder) if ref] == [f.blob_sha256 for f in own]


def test_a_file_of_ltx_with_a_vae_needs_no_other(db: Session, user: User) -> None:
    page(db, user, "ltx", name="whole", format_="Diffusers", architecture="ltxv")
    page(db, user, "wan", name="whole wan", format_="Diffusers", architecture="wan-1.3b")
    alone = page(db, user, "ltx", name="ltxv", architecture="ltxv", has_vae=True)
    found = checkpoint_ref(db, user, alone.id)
    assert found.vae is None
    assert found.text_encoder is not None
    assert found.text_encoder.name == "whole.safetensors"


def texts(
    db: Session, user: User, component: str, name: str, base: str = "wan", **facts: Any
) -> ModelVersion:
    """A page of a text encoder, zipped unless `file_format` says otherwise."""
    facts = {"kind": "text-encoder", "component": component, "file_format": "Diffusers"} | facts
    return page(db, user, base, type="TextEncoder", name=name, format_="Diffusers", **facts)


def test_a_page_of_a_text_encoder_lends_it(db: Session, user: User) -> None:
    alone = page(db, user, "wan", architecture="wan-1.3b", has_vae=True)
    texts(db, user, "T5 XXL", "t5")
    texts(db, user, "UMT5 XXL", "lone", file_format="SafeTensor")
    assert code_of(db, user, alone)[0] == "base-model-incomplete"
    assert "none for it is here" in lacks(db, user, alone)
    umt5 = texts(db, user, "UMT5 XXL", "umt5")
    found = checkpoint_ref(db, user, alone.id)
    assert found.text_encoder is not None
    assert found.text_encoder.sha256 == umt5.files[0].blob_sha256
    assert lacks(db, user, alone) == ""
    own = texts(db, user, "language model", "mine", "ltx")
    ltx = page(db, user, "ltx", name="ltxv", architecture="ltxv", has_vae=True)
    lent = checkpoint_ref(db, user, ltx.id).text_encoder
    assert lent is not None
    assert lent.sha256 == own.files[0].blob_sha256


def test_a_text_encoder_can_be_chosen(db: Session, user: User) -> None:
    alone = page(db, user, "wan", architecture="wan-1.3b", has_vae=True)
    first, second = (texts(db, user, "UMT5 XXL", name) for name in ("first", "second"))
    for asked in (first, second):
        found = checkpoint_ref(db, user, alone.id, text_encoder_version_id=asked.id)
        assert found.text_encoder is not None
        assert found.text_encoder.sha256 == asked.files[0].blob_sha256
    folder = page(db, user, "wan", name="whole", format_="Diffusers", architecture="wan-1.3b", has_vae=True)
    assert checkpoint_ref(db, user, folder.id).text_encoder is None
    assert checkpoint_ref(db, user, folder.id, text_encoder_version_id=first.id).text_encoder is not None


def test_a_text_encoder_that_cannot_be_used_is_refused_in_words(db: Session, user: User) -> None:
    alone = page(db, user, "wan", architecture="wan-1.3b", has_vae=True)
    sdxl = page(db, user, "sdxl", name="xl", architecture="sdxl", has_vae=True)
    for base, asked, code, words in (
        (alone, texts(db, user, "T5 XXL", "t5"), "text-encoder-mismatch", "reads with UMT5 XXL"),
        (
            alone,
            texts(db, user, "UMT5 XXL", "f", file_format="SafeTensor"),
            "tokenizer-missing",
            "no tokenizer",
        ),
        (alone, sdxl, "not-a-text-encoder", "is not a text encoder"),
        (sdxl, texts(db, user, "UMT5 XXL", "u"), "text-encoder-mismatch", "takes no other"),
    ):
        with pytest.raises(Invalid) as refused:
            checkpoint_ref(db, user, base.id, text_encoder_version_id=asked.id)
        assert (refused.value.code, words in refused.value.detail) == (code, True), refused.value.detail
        assert refused.value.errors[0].pointer == "#/text_encoder_version_id"
    hidden = texts(db, make_user(db), "UMT5 XXL", "hidden")
    hidden.model.visibility = "private"
    with pytest.raises(NotFound):
        checkpoint_ref(db, user, alone.id, text_encoder_version_id=hidden.id)


@pytest.mark.parametrize(
    ("component", "base", "format_", "usable", "words"),
    [
        ("UMT5 XXL", "Wan Video", "Diffusers", True, "can read with it"),
        ("UMT5 XXL", "Wan Video", "SafeTensor", False, "no tokenizer beside it"),
        ("CLIP ViT-L/14", "SD 1.5", "Diffusers", False, "have their own text encoder"),
    ],
)
def test_its_page_says_what_can_be_done_with_it(
    component: str, base: str, format_: Literal["Diffusers", "SafeTensor"], words: str, *, usable: bool
) -> None:
    facts: dict[str, Any] = TOLD | {"kind": "text-encoder", "component": component, "file_format": format_}
    told = standing(Recognised.model_validate(facts), base, runs=False)
    assert (told.usable, words in told.sentences[0]) == (usable, True)


def test_what_is_missing_is_said_before_the_start(
    db: Session, user: User, browser: Browser, script: Script
) -> None:
    alone = page(db, user, "wan", architecture="wan-1.3b")
    person, missing = browser(user), "holds no text encoder, and none for it is here"
    shown = person.get(f"/model-versions/{alone.id}", follow_redirects=True).text
    assert "Lacks a part here" in shown
    assert missing in shown
    assert "Create with it" not in shown
    assert missing in person.get("/generate", params={"version": alone.id}).text
    cards = person.get("/generate/picker", params={"kind": "Checkpoint"}).text
    assert re.search(r'<div class="pick off"[^<]*>.*' + missing, cards, re.S)
    assert "data-pick=" not in cards
    form = {"model_version_id": str(alone.id), "prompt": "a boat"}
    assert missing in person.post("/generate/estimate", data=form).json()["problem"]
    body = {"model_version_id": alone.id, "prompt": "a boat"}
    answer = script(user).post("/api/v1/generations", params={"dry_run": True}, json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "base-model-incomplete")
    draft = drafts.create_draft(db, user)
    assert "base" not in draft.fields
    cards = person.get(f"/train/{draft.id}/about").text
    assert re.search(r'<div class="base off"[^<]*>.*' + missing, cards, re.S)
    step = {"name": "Boats", "type": "style", "base": alone.id, "media": "video"}
    assert missing in person.post(f"/train/{draft.id}/about", data=step).text
    assert person.get(f"/train/{draft.id}/review").status_code == 200
    draft.dataset_id = make_dataset(db, user, media="video").id
    assert missing in person.get(f"/train/{draft.id}/review").text


def test_it_is_chosen_in_the_generator_and_in_the_wizard(db: Session, user: User, browser: Browser) -> None:
    alone = page(db, user, "wan", architecture="wan-1.3b", has_vae=True)
    chosen = texts(db, user, "UMT5 XXL", "second")
    texts(db, user, "T5 XXL", "t5")
    person = browser(user)
    html = person.get("/generate", params={"version": alone.id}).text
    [field] = re.findall(r'<select id="text-encoder" name="text_encoder_version_id">.*?</select>', html)
    assert re.findall(r'value="(\d+)"', field) == [str(chosen.id)]
    form = {"model_version_id": str(alone.id), "text_encoder_version_id": str(chosen.id), "prompt": "a boat"}
    assert person.post("/generate", data=form).status_code == 303
    job = db.scalars(select(Job)).one()
    assert job.input["text_encoder_version_id"] == chosen.id
    assert job.payload["base"]["text_encoder"]["sha256"] == chosen.files[0].blob_sha256
    draft = drafts.create_draft(db, user)
    html = person.get(f"/train/{draft.id}/about").text
    assert f'<option value="{chosen.id}" data-fits="{alone.id}"' in html
    step = {"name": "Boats", "type": "style", "base": alone.id, "media": "video", "text": chosen.id}
    assert person.post(f"/train/{draft.id}/about", data=step).status_code == 303
    assert drafts.draft_body(draft).base.text_encoder_version_id == chosen.id
    gone = person.post(f"/train/{draft.id}/about", data=step | {"text": 987_654})
    assert "This text encoder is no longer here" in gone.text


def test_what_others_keep_to_themselves_is_not_taken(db: Session, user: User) -> None:
    hidden = page(db, make_user(db), "wan", name="hidden", format_="Diffusers", architecture="wan-1.3b")
    hidden.model.visibility = "private"
    db.flush()
    assert code_of(db, user, page(db, user, "wan", architecture="wan-1.3b"))[0] == "base-model-incomplete"


def test_one_of_two_networks_is_not_enough(db: Session, user: User) -> None:
    page(db, user, "wan_14b", name="whole", format_="Diffusers", architecture="wan-14b")
    code, words = code_of(db, user, page(db, user, "wan22_a14b", architecture="wan-14b"))
    assert code == "base-model-incomplete"
    assert "one of the two networks of Wan 2.2 A14B" in words


def test_a_transformer_alone_runs_and_its_page_says_which(db: Session, user: User) -> None:
    tensors = {
        "patch_embedding.weight": TensorInfo("BF16", (5120, 16, 1, 2, 2), 0, 0),
        "head.modulation": TensorInfo("BF16", (1, 2, 5120), 0, 0),
    }
    found = recognise(Header(tensors, {}, 0), specs())
    assert found.family == "wan_14b"
    assert any("complete checkpoint of its kind" in note for note in found.notes)
    file = ModelFile(format="SafeTensor", facts=found.model_dump(mode="json"))
    assert family_of("Checkpoint", "Wan Video 14B t2v", [file]) == "wan_14b"
    assert family_of("Checkpoint", "Wan Video 2.2 T2V-A14B", [file]) == "wan22_a14b"
    assert family_of("Checkpoint", "Wan Video", [file]) == "wan_14b"
