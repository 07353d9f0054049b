"""Versions made from uploads: filled in from the file, and held against what its owner says."""

from typing import Any

import pytest
from sqlalchemy.orm import Session

from app.accounts.models import User
from app.core.db import utcnow
from app.core.errors import Invalid
from app.core.ids import new_id
from app.gallery import service
from app.gallery.models import ModelVersion
from app.gallery.schemas import ModelIn, VersionIn, VersionPatch
from app.uploads.models import Upload
from tests.app.recognition.listings import KOHYA, SD_LDM, ldm, lora, under, whole
from tests.app.recognition.test_components import folder, packed
from tests.factories import make_blob, make_user

TO_K = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
SD1 = whole(lora({TO_K: (768, 320)}, ends=KOHYA), {"modelspec.trigger_phrase": "tuscany, gold"})
SDXL = whole(lora({TO_K: (2048, 320)}, ends=KOHYA))
FLUX = whole(lora({"transformer.single_transformer_blocks.0.attn.to_q": (3072, 16)}, ends=KOHYA))
UNKNOWN = whole({"w": [2]})
PICKLE = b"\x80\x02}q\x00" + bytes(700)


def make(
    db: Session, user: User, content: bytes, *, type: str = "LORA", name: str = "m.safetensors", **body: Any
) -> ModelVersion:
    """A version of a new page, as REST makes it from a complete upload."""
    blob = make_blob(db, content)
    upload = Upload(
        id=new_id("up"), state="complete", blob_sha256=blob.sha256, user_id=user.id, name=name,
        size=blob.size, part_size=1, expires_at=utcnow(),
    )  # fmt: skip
    db.add(upload)
    model = service.create_model(db, user, ModelIn(name="Mine", type=type))
    return service.create_version(db, user, model.id, VersionIn(name="v1", upload=upload.id, **body))


def refused(db: Session, content: bytes, **options: Any) -> Invalid:
    with pytest.raises(Invalid) as error:
        make(db, make_user(db), content, **options)
    return error.value


def test_what_is_left_out_is_taken_from_the_file(db: Session) -> None:
    version = make(db, make_user(db), SD1)
    assert (version.base_model, version.family) == ("SD 1.5", "sd1")
    assert version.trained_words == ["tuscany", "gold"]
    [file] = version.files
    assert (file.fp, file.format) == ("fp16", "SafeTensor")
    assert file.facts["adapter"]["rank"] == 8


def test_what_is_said_is_kept(db: Session) -> None:
    version = make(db, make_user(db), SDXL, base_model="Pony", trained_words=["hill"])
    assert (version.base_model, version.trained_words) == ("Pony", ["hill"])
    assert make(db, make_user(db), SDXL, base_model="My own merge").base_model == "My own merge"


def test_a_model_that_cannot_run_here_is_kept(db: Session) -> None:
    version = make(db, make_user(db), FLUX)
    assert (version.base_model, version.family) == ("Flux.1 D", None)


def test_an_unknown_model_needs_its_owners_word(db: Session) -> None:
    error = refused(db, UNKNOWN)
    assert error.errors[0].pointer == "#/base_model"
    assert "does not tell" in error.detail
    version = make(db, make_user(db), UNKNOWN, type="Checkpoint", base_model="SD 1.5")
    assert version.family is None


def test_a_wrong_claim_is_refused_in_words(db: Session) -> None:
    error = refused(db, SD1, type="Checkpoint")
    assert error.code == "wrong-model-type"
    assert "This file is a LoRA for SD 1.5" in error.detail
    assert "type LORA" in error.detail
    error = refused(db, SDXL, base_model="SD 1.5")
    assert error.code == "wrong-base-model"
    assert "SDXL 1.0" in error.detail


def test_a_later_wrong_word_is_refused_too(db: Session) -> None:
    user = make_user(db)
    version = make(db, user, SDXL)
    with pytest.raises(Invalid) as error:
        service.set_version(db, user, version.id, VersionPatch(base_model="SD 1.5"))
    assert error.value.code == "wrong-base-model"
    assert service.set_version(db, user, version.id, VersionPatch(base_model="Pony")).base_model == "Pony"


@pytest.mark.parametrize("type", ["Checkpoint", "LORA", "VAE", "Hypernetwork", "Other"])
def test_a_pickle_is_refused_whatever_it_is_called(db: Session, type: str) -> None:
    error = refused(db, PICKLE, type=type, base_model="SD 1.5")
    assert error.code == "pickle"
    assert "Upload its .safetensors form" in error.detail


def test_pages_that_hold_no_weights_take_other_files(db: Session) -> None:
    version = make(db, make_user(db), b'{"nodes": []}', type="Workflows", name="w.json", base_model="SD 1.5")
    assert version.files[0].format == "Other"
    assert refused(db, b'{"nodes": []}', type="Checkpoint", base_model="SD 1.5").code == "text"


def test_a_whole_checkpoint_in_one_file_runs(db: Session) -> None:
    unet = under("model.diffusion_model.", ldm(dict.fromkeys(SD_LDM, 1), 768))
    content = whole(unet | {"cond_stage_model.transformer.text_model.x": [1]})
    version = make(db, make_user(db), content, type="Checkpoint")
    assert (version.base_model, version.family) == ("SD 1.5", "sd1")
    assert version.files[0].precision == "pruned"


def test_a_zipped_folder_becomes_a_checkpoint(db: Session) -> None:
    content = packed(folder(UNKNOWN))
    version = make(db, make_user(db), content, type="Checkpoint", name="model.safetensors", base_model="Mine")
    assert (version.files[0].format, version.files[0].name) == ("Diffusers", "model.zip")


def test_a_file_gets_the_ending_of_its_content(db: Session) -> None:
    assert make(db, make_user(db), SD1, name="tuscany.pt").files[0].name == "tuscany.safetensors"
