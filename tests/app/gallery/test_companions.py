"""Checkpoints of clips in one file: what they lack is found on their page or among what is installed."""

from typing import Any

import pytest
from sqlalchemy.orm import Session

from app.accounts.models import User
from app.core.errors import Invalid
from app.gallery.files import family_of
from app.gallery.models import ModelFile, ModelVersion
from app.gallery.refs import checkpoint_ref
from app.recognition.header import Header, TensorInfo
from app.recognition.recognise import recognise
from tests.factories import make_blob, make_file, make_model, make_user, make_version
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
    assert "holds no text encoder. Install a complete checkpoint of its kind" in words
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
