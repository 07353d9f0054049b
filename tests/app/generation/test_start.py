"""Start pictures, masks and hires: where they come from, limits with words, and what a picture keeps."""

import base64
import io
from typing import Any

import pytest
from sqlalchemy.orm import Session

from app.accounts.models import User
from app.contract.jobs import GenerateJob
from app.core.blobs import Blob
from app.core.errors import Invalid
from app.core.storage import get_storage
from app.generation import service, sources
from app.generation.estimate import work
from app.generation.plan import plan_generation
from app.uploads import service as uploads
from tests.app.generation.making import body, deliver, make_component, pixels_of, png
from tests.app.training.factories import make_base, make_lora
from tests.factories import make_image, make_user


@pytest.fixture
def user(db: Session) -> User:
    return make_user(db)


def planned(db: Session, user: User, **fields: Any) -> GenerateJob:
    return plan_generation(db, user, body(make_base(db, user).id, **fields)).job


def kept(db: Session, user: User, **options: Any) -> str:
    return sources.keep_picture(db, user, io.BytesIO(png(**options)), name="my picture.png").id


def test_a_picture_of_ones_own_by_its_number(db: Session, user: User) -> None:
    image = make_image(db, user)
    for given in (image.id, str(image.id), {"image": image.id}):
        start = planned(db, user, init_image=given).start
        assert start is not None
        assert (start.file.sha256, start.denoise, start.mask) == (image.blob_sha256, 0.75, None)


def test_a_kept_picture_and_a_mask(db: Session, user: User) -> None:
    start, mask = kept(db, user), kept(db, user, color="#ffffff")
    part = {"mask": {"upload": mask}, "mask_blur": 9, "mask_padding": 0}
    found = planned(db, user, init_image=start, denoise=0.4, **part).start
    assert found is not None
    assert found.mask is not None
    assert (found.denoise, found.mask_blur, found.mask_padding) == (0.4, 9, 0)
    assert found.file.name == "start.png"
    data = get_storage().get(found.file.key)
    assert pixels_of(data).size == (128, 96)
    assert b"parameters" not in data


def test_an_upload_of_raw_bytes_is_decoded_first(db: Session, user: User, tmp_path: Any) -> None:
    out = io.BytesIO()
    pixels_of(png(size=(200, 100))).save(out, "WEBP")
    path = tmp_path / "photo.webp"
    path.write_bytes(out.getvalue())
    upload = uploads.create_complete(db, get_storage(), user, name="photo.webp", path=path)
    start = planned(db, user, init_image=upload.id).start
    assert start is not None
    assert start.file.sha256 != upload.blob_sha256
    assert db.get_one(Blob, start.file.sha256).media_type == "image/png"


def test_a_picture_inside_the_request(db: Session, user: User) -> None:
    data = "data:image/png;base64," + base64.b64encode(png()).decode()
    start = planned(db, user, init_image=data).start
    assert start is not None
    job = service.start_generation(db, user, body(make_base(db, user).id, init_image=data))
    assert pixels_of(
        get_storage().get(sources.get_picture(db, user, job.input["init_image"]["upload"]).key)
    ).size


@pytest.mark.parametrize(
    "given",
    [
        "up_unknown",
        999_999,
        "data:image/png;base64,AAAA",
        "data:text/plain,hello",
        "data:image/png;base64,!!",
    ],
)
def test_what_is_no_picture_is_refused_at_its_field(db: Session, user: User, given: Any) -> None:
    with pytest.raises(Invalid) as caught:
        planned(db, user, init_image=given)
    assert [error.pointer for error in caught.value.errors] == ["#/init_image"]


def test_a_private_picture_of_somebody_else_cannot_be_a_start(db: Session, user: User) -> None:
    other = make_user(db)
    image, upload = make_image(db, other), kept(db, other)
    for given in (image.id, upload):
        with pytest.raises(Invalid, match=r"does not exist|no such upload"):
            planned(db, user, init_image=given)


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"mask": 1}, "#/mask"),
        ({"mask_blur": 9}, "#/mask_blur"),
        ({"mask_padding": 0}, "#/mask_padding"),
        ({"denoise": 0.3}, "#/denoise"),
        ({"hires": {"upscaler": "Magic"}}, "#/hires/upscaler"),
        ({"hires": {}, "mask": 1, "init_image": 1}, "#/hires"),
        ({"hires": {"steps": 140}}, "#/hires/steps"),
        ({"hires": {"scale": 4}, "width": 256}, "#/hires/scale"),
        ({"sampler": "Euler a", "schedule": "Karras"}, "#/schedule"),
        ({"schedule": "Wild"}, "#/schedule"),
    ],
)
def test_nothing_is_ignored_in_silence(db: Session, user: User, fields: dict[str, Any], pointer: str) -> None:
    with pytest.raises(Invalid) as caught:
        planned(db, user, **fields)
    assert pointer in [error.pointer for error in caught.value.errors]


def test_sampler_and_schedule_joined_or_apart(db: Session, user: User) -> None:
    for fields in (
        {"sampler": "DPM++ 2M Karras"},
        {"sampler": "DPM++ 2M", "schedule": "Karras"},
        {"sampler": "DPM++ 2M"},
    ):
        job = planned(db, user, **fields)
        assert (job.sampler, job.schedule) == ("DPM++ 2M", "Karras")
    assert planned(db, user, sampler="Euler a").schedule == "Normal"


def test_work_counts_calls_of_the_model(db: Session, user: User) -> None:
    image = make_image(db, user).id
    plain = work(planned(db, user, sampler="Euler", steps=20))
    assert plain == 20 * 128 * 128
    assert work(planned(db, user, sampler="Heun", steps=20)) == 39 * 128 * 128
    assert work(planned(db, user, sampler="Euler", steps=20, init_image=image, denoise=0.5)) == plain / 2
    hires = {"scale": 2, "denoise": 0.5, "steps": 10}
    assert work(planned(db, user, sampler="Euler", steps=20, hires=hires)) == plain + 10 * 4 * 128 * 128


def test_a_picture_keeps_all_that_made_it(db: Session, user: User) -> None:
    vae, lora = make_component(db, user, "VAE", "soft"), make_lora(db, user)
    neg = make_component(db, user, "TextualInversion", "easyneg")
    wanted = body(
        make_base(db, user).id, negative_prompt="easyneg", vae_version_id=vae.id, sampler="Euler",
        schedule="Karras",
        resources=[{"model_version_id": lora.id, "strength": 0.6, "text_encoder_strength": 0.3}],
        hires={"scale": 2, "upscaler": "Lanczos", "denoise": 0.4, "steps": 8}, seed=5,
    )  # fmt: skip
    image = deliver(db, service.start_generation(db, user, wanted))
    assert [(r.kind, r.model_version_id) for r in image.resources] == [
        ("checkpoint", wanted.model_version_id), ("lora", lora.id), ("embedding", neg.id), ("vae", vae.id)
    ]  # fmt: skip
    assert image.meta["sampler"] == "Euler Karras"
    assert image.meta["resources"][0]["textEncoderWeight"] == 0.3
    assert {key: image.meta[key] for key in ("Hires upscale", "Hires steps", "Denoising strength")} == {
        "Hires upscale": 2.0, "Hires steps": 8, "Denoising strength": 0.4
    }  # fmt: skip
    assert image.meta["VAE"] == "soft.safetensors"


def test_the_echo_tells_what_was_resolved(db: Session, user: User) -> None:
    image = make_image(db, user)
    wanted = body(make_base(db, user).id, init_image=image.id, prompt="a <lora:nowhere:1>")
    told = service.start_generation(db, user, wanted).input
    assert (told["init_image"], told["denoise"], told["mask"]) == ({"image": image.id}, 0.75, None)
    assert isinstance(told["seed"], int)
    assert told["sampler"] == "DPM++ 2M Karras"
    assert [note["code"] for note in told["warnings"]] == ["lora-unknown"]
