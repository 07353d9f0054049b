"""Further files of a version: what joins, as what, what is refused in words, and how it goes again."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session

from app.accounts.models import User
from app.core.blobs import Blob
from app.core.db import unit_of_work
from app.core.errors import AppError
from app.gallery import further, service
from app.gallery.matching import expert_files, noise_named
from app.gallery.models import ModelFile, ModelVersion
from app.gallery.refs import checkpoint_ref
from app.gallery.schemas import FileIn, ModelIn, VersionIn
from app.uploads.models import Upload
from tests.app.conftest import Browser, Script
from tests.app.gallery.test_making import an_upload
from tests.app.gallery.test_recognised import PICKLE, SD1, SDXL, UNKNOWN
from tests.app.recognition.listings import VAE_LDM, whole
from tests.app.recognition.test_components import packed
from tests.factories import make_admin, make_user

A14B = "Wan Video 2.2 T2V-A14B"
WAN_VAE = whole({"decoder.conv1.weight": [1], "decoder.head.0.gamma": [1]})
UMT5 = {"shared.weight": [256384, 1]}


def wan(width: int = 5120, note: str = "") -> bytes:
    """A lone transformer of Wan's; another note makes other bytes of it."""
    return whole({"patch_embedding.weight": [width, 16, 1, 1, 1], "head.modulation": [1]}, {"note": note})


def texts(model_type: str = "umt5", tokenizer: str = "tokenizer/spiece.model") -> bytes:
    """A zip of a text encoder and its tokenizer."""
    config = f'{{"model_type": "{model_type}"}}'.encode()
    weights = whole({"encoder.block.0.layer.0.SelfAttention.q.weight": [2, 2]})
    return packed(
        {
            "t/text_encoder/config.json": config,
            "t/text_encoder/model.safetensors": weights,
            f"t/{tokenizer}": b"x",
        }
    )


@pytest.fixture
def owner(db: Session) -> User:
    return make_user(db, "lorenzo")


def page(
    db: Session, user: User, content: bytes, name: str = "m.safetensors", *, type: str = "Checkpoint",
    base_model: str = A14B,
) -> ModelVersion:  # fmt: skip
    model = service.create_model(db, user, ModelIn(name="Mine", type=type))
    body = VersionIn(name="v1", base_model=base_model, upload=an_upload(db, user, content, name))
    return service.create_version(db, user, model.id, body)


def add(
    db: Session, version: ModelVersion, content: bytes, name: str = "n.safetensors", **said: Any
) -> ModelFile:
    user = db.get_one(User, version.model.user_id)
    return further.add_further(
        db, user, version.id, FileIn(upload=an_upload(db, user, content, name), **said)
    )


def refusal(
    db: Session, version: ModelVersion, content: bytes, name: str = "n.safetensors", **said: Any
) -> AppError:
    with pytest.raises(AppError) as refused:
        add(db, version, content, name, **said)
    return refused.value


def test_the_second_network_makes_the_checkpoint_whole(db: Session, owner: User) -> None:
    version = page(db, owner, wan(), "wan_high_noise.safetensors")
    assert version.family == "wan22_a14b"
    low = add(db, version, wan(note="low"), "diffusion_pytorch_model.safetensors")
    add(db, version, WAN_VAE, "vae.safetensors")
    add(db, version, texts(), "umt5.zip")
    assert (low.is_primary, low.type, low.facts["noise"]) == (False, "Model", "low")
    assert [file.type for file in version.files] == ["Model", "Model", "VAE", "Text Encoder"]
    ref = checkpoint_ref(db, owner, version.id)
    assert ref.low_noise is not None
    assert ref.vae is not None
    assert ref.text_encoder is not None
    names = (ref.file.name, ref.low_noise.name, ref.vae.name, ref.text_encoder.name)
    assert names == ("wan_high_noise.safetensors", low.name, "vae.safetensors", "umt5.zip")


def test_the_first_may_be_the_one_for_low_noise(db: Session, owner: User) -> None:
    version = page(db, owner, wan(), "a.safetensors")
    assert refusal(db, version, wan(note="2"), "b.safetensors").code == "noise-unknown"
    high = add(db, version, wan(note="2"), "b.safetensors", noise="high")
    first, second = expert_files(version)
    assert (first, second) == (high, version.files[0])
    assert version.files[0].is_primary


@pytest.mark.parametrize(
    ("name", "noise"),
    [("wan_LOW.safetensors", "low"), ("HighNoise-7", "high"), ("slow_shallow", None), ("yellow", None)],
)
def test_names_tell_the_noise(name: str, noise: str | None) -> None:
    assert noise_named(name) == noise


def test_there_are_two_networks_and_no_third(db: Session, owner: User) -> None:
    version = page(db, owner, wan(), "high.safetensors")
    assert "for high noise already" in refusal(db, version, wan(note="2"), "x_high.safetensors").detail
    add(db, version, wan(note="2"), "low.safetensors")
    assert refusal(db, version, wan(note="3"), "low2.safetensors").code == "noise-taken"
    lone = page(db, owner, wan(1536), base_model="Wan Video 1.3B t2v")
    assert refusal(db, lone, wan(1536, "2"), noise="low").code == "noise-taken"


def test_what_does_not_belong_says_where_it_does(db: Session, owner: User) -> None:
    version = page(db, owner, wan(), "high.safetensors")
    for content, words in (
        (wan(1536), "this version is for Wan Video 2.2 T2V-A14B. Upload it as a version of its own."),
        (UNKNOWN, "not known what this file is"),
        (PICKLE, "never opened here"),
        (whole(VAE_LDM), "not one for Wan Video 2.2 T2V-A14B"),
        (texts("t5"), "a text encoder (T5), not one for"),
        (texts(tokenizer="vae/x"), "without its tokenizer"),
        (whole(UMT5 | {"shared.weight": [2000, 1024]}), "no tokenizer beside it. Upload a zip"),
        (SD1, "this page is for files of the type Checkpoint"),
    ):
        assert words in refusal(db, version, content).detail, words
    assert len(version.files) == 1
    whole_lora = page(db, owner, SD1, type="LORA", base_model="SD 1.5")
    assert "this version is for SD 1.5" in refusal(db, whole_lora, SDXL).detail
    words = refusal(db, page(db, owner, UNKNOWN, base_model="Other"), WAN_VAE).detail
    assert "Make a page of the type VAE for it." in words


def test_the_same_bytes_and_a_second_vae_are_refused(db: Session, owner: User) -> None:
    version = page(db, owner, wan(), "high.safetensors")
    again = refusal(db, version, wan(), "other_low.safetensors")
    assert (again.status, again.code) == (409, "duplicate-file")
    add(db, version, WAN_VAE)
    other = whole({"decoder.conv1.weight": [2], "decoder.head.0.gamma": [1]})
    assert "has a VAE already" in refusal(db, version, other).detail


def test_a_draft_without_a_file_gets_its_first(db: Session, owner: User) -> None:
    model = service.create_model(db, owner, ModelIn(name="Mine", type="LORA"))
    version = service.create_version(db, owner, model.id, VersionIn(name="v1", base_model="SD 1.5"))
    assert refusal(db, version, SDXL).code == "wrong-base-model"
    assert add(db, version, SD1).is_primary
    assert version.family == "sd1"


def test_a_published_version_takes_nothing_that_was_taken_down(db: Session, owner: User) -> None:
    twin = SD1.replace(b"tuscany, gold", b"tuscany, gelb")
    bad = page(db, make_user(db), twin, type="LORA", base_model="SD 1.5")
    service.take_down_model(db, make_admin(db), bad.model_id)
    version = page(db, owner, SD1, type="LORA", base_model="SD 1.5")
    service.publish_version(db, owner, version, "public")
    assert refusal(db, version, twin).code == "content-blocked"
    assert add(db, version, SD1.replace(b"tuscany, gold", b"tuscany, blue")).type == "Model"


def test_only_further_files_can_be_removed(db: Session, owner: User) -> None:
    version = page(db, owner, wan(), "high.safetensors")
    low = add(db, version, wan(note="2"), "low.safetensors")
    sha256, number = low.blob_sha256, low.id
    with pytest.raises(AppError) as refused:
        further.remove_file(db, owner, version.id, version.files[0].id)
    assert refused.value.code == "primary-file"
    further.remove_file(db, owner, version.id, number)
    db.expire_all()
    assert [file.name for file in version.files] == ["high.safetensors"]
    assert (db.get(ModelFile, number), db.get(Blob, sha256)) == (None, None)
    with pytest.raises(AppError, match="no such file"):
        further.remove_file(db, owner, version.id, 2**40)
    assert add(db, version, wan(note="2"), "low.safetensors").facts["noise"] == "low"


def test_two_at_the_same_moment_leave_one_of_each(real_db: str) -> None:
    with unit_of_work() as db:
        user = make_user(db)
        version, person = page(db, user, wan(), "high.safetensors").id, user.id
        sent = [an_upload(db, user, wan(note="2"), f"low{n}.safetensors") for n in range(3)]
    gate = threading.Barrier(3)

    def put(upload: str) -> str:
        gate.wait()
        try:
            with unit_of_work() as db:
                further.add_further(db, db.get_one(User, person), version, FileIn(upload=upload))
        except AppError as error:
            return error.code
        return "added"

    with ThreadPoolExecutor(3) as pool:
        assert sorted(pool.map(put, sent)) == ["added", "duplicate-file", "duplicate-file"]
    with unit_of_work() as db:
        assert len(db.get_one(ModelVersion, version).files) == 2


def test_by_rest(db: Session, owner: User, script: Script) -> None:
    version = page(db, owner, wan(), "high.safetensors")
    client, path = script(owner), f"/api/v1/model-versions/{version.id}/files"
    body = {"upload": an_upload(db, owner, wan(note="2"), "x.safetensors"), "noise": "low"}
    headers = {"Idempotency-Key": "once"}
    first, again = (client.post(path, json=body, headers=headers) for _ in range(2))
    assert (first.status_code, again.status_code) == (201, 201), first.text
    assert first.json() == again.json()
    high, low = first.json()["files"]
    assert (high["primary"], low["primary"], low["name"]) == (True, False, "x.safetensors")
    assert low["hashes"]["SHA256"]
    place = client.get(low["downloadUrl"]).headers["location"]
    assert f"/files/{low['id']}/x.safetensors" in place
    wrong = client.post(path, json={"upload": an_upload(db, owner, SD1), "noise": "middle"})
    assert (wrong.status_code, wrong.json()["errors"][0]["pointer"]) == (422, "#/noise")
    assert client.delete(f"{path}/{low['id']}").status_code == 204
    assert client.delete(f"{path}/{high['id']}").status_code == 409
    assert client.delete(f"{path}/{low['id']}").status_code == 404


def test_on_the_pages(db: Session, owner: User, browser: Browser) -> None:
    version = page(db, owner, wan(), "a.safetensors")
    page_: TestClient = browser(owner)
    at = f"/models/{version.model_id}/versions/{version.id}/files"
    edit = f"/models/{version.model_id}/edit"
    assert f'href="{at}/new"' in page_.get(edit).text
    chooser = page_.get(f"{at}/new").text
    assert "Add a file to v1" in chooser
    assert f'name="version_id" value="{version.id}"' in chooser
    upload = an_upload(db, owner, wan(note="2"), "b.safetensors")
    html = page_.get(f"{at}/new?upload={upload}").text
    assert "It becomes the second network of this version." in html
    assert "The one for low noise" in html
    unsaid = page_.post(f"{at}/new", data={"upload": upload, "noise": ""})
    assert unsaid.status_code == 422
    assert "Say it of this file" in unsaid.text
    done = page_.post(f"{at}/new", data={"upload": upload, "noise": "low"})
    assert done.status_code == 303
    assert db.get(Upload, upload) is None
    shown = page_.get(done.headers["location"]).text
    assert "for low noise" in shown
    assert "for high noise" in shown
    third = an_upload(db, owner, SD1)
    assert "this page is for files of the type Checkpoint" in page_.get(f"{at}/new?upload={third}").text
    low = version.files[1]
    assert f'action="{at}/{low.id}/remove"' in page_.get(edit).text
    assert page_.post(f"{at}/{low.id}/remove").status_code == 303
    assert len(version.files) == 1


def test_a_plain_form_brings_a_file_too(db: Session, owner: User, browser: Browser) -> None:
    version = page(db, owner, wan(), "high.safetensors")
    where = {"model_id": str(version.model_id), "version_id": str(version.id)}
    sent = browser(owner).post(
        "/models/new/file", data=where, files={"file": ("low.safetensors", wan(note="2"))}
    )
    assert sent.status_code == 303
    assert f"/versions/{version.id}/files/new?upload=up_" in sent.headers["location"]
    assert "network for low noise" in browser(owner).get(sent.headers["location"]).text
