"""Models: made by trainings and by hand, published, hidden, deleted with their bytes."""

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.core.blobs import Blob, blob_key
from app.core.db import utcnow
from app.core.errors import Conflict, Forbidden, Invalid, NotFound
from app.core.storage import get_storage
from app.gallery import queries, reports, service
from app.gallery.files import add_file
from app.gallery.models import Model, ModelVersion
from app.gallery.refs import check_loras
from app.gallery.schemas import ModelIn, ModelPatch, PublishIn, ReportIn, VersionIn
from app.images.models import Image
from app.images.service import create_sample
from app.images.service import set_visibility as set_image_visibility
from app.uploads.models import Upload
from tests.app.gallery.things import BASE, published, safetensors, trained
from tests.factories import make_admin, make_blob, make_image, make_user


def test_a_trained_version_has_all_hashes(db: Session) -> None:
    version = trained(db, make_user(db))
    file = version.files[0]
    hashes = {h.kind: h.value for h in file.hashes}
    assert set(hashes) == {"SHA256", "AutoV2", "AutoV3", "BLAKE3", "CRC32", "Tensor"}
    assert hashes["SHA256"] == file.blob_sha256.upper()
    assert len(hashes["AutoV3"]) == 12
    assert version.upload_type == "Trained"
    assert version.family == "starter"
    assert version.status == "Draft"
    assert (version.steps, version.epochs) == (600, 8)
    assert [t.tag for t in version.model.tags] == ["architecture", "italy"]


def test_a_damaged_file_is_refused(db: Session) -> None:
    with pytest.raises(Invalid) as refused:
        trained(db, make_user(db), tensor_sha256="0" * 64)
    assert refused.value.code == "file-damaged"


def test_a_new_version_of_a_public_page_stays_a_draft_until_published(db: Session) -> None:
    user = make_user(db)
    model = published(db, user)
    draft = trained(db, user, tensors=b"second", model_id=model.id, version_name="v2")
    service.publish_version(db, user, draft, "private")
    assert model.visibility == "public"
    assert draft.status == "Draft"
    with pytest.raises(NotFound):
        service.get_version(db, make_user(db), draft.id)
    service.publish_version(db, user, draft, "public")
    assert service.get_version(db, None, draft.id) is draft
    assert [v.name for v in db.get_one(Model, model.id).versions] == ["v2", "v1"]


def test_only_the_owner_adds_a_version(db: Session) -> None:
    model = published(db, make_user(db))
    with pytest.raises(Forbidden):
        trained(db, make_user(db), model_id=model.id)


def test_unlisted_needs_its_key_and_a_new_key_ends_the_old_one(db: Session) -> None:
    user = make_user(db)
    model = published(db, user, "unlisted")
    key = model.share_key
    assert key
    assert len(key) >= 22
    assert service.get_model(db, None, model.id, key=key) is model
    with pytest.raises(NotFound):
        service.get_model(db, None, model.id)
    service.renew_key(db, user, model.id)
    with pytest.raises(NotFound):
        service.get_model(db, None, model.id, key=key)
    service.set_visibility(db, user, model.id, "private")
    assert model.share_key is None


def test_nothing_to_publish(db: Session) -> None:
    user = make_user(db)
    model = service.create_model(db, user, ModelIn(name="Empty", type="LORA"))
    service.create_version(db, user, model.id, VersionIn(name="v1", base_model="Starter 1"))
    with pytest.raises(Invalid) as refused:
        service.publish_model(db, user, model.id, PublishIn())
    assert refused.value.code == "nothing-to-publish"


def test_an_upload_becomes_a_version(db: Session) -> None:
    user = make_user(db)
    blob = make_blob(db, safetensors(b"uploaded"))
    row = {
        "user_id": user.id,
        "name": "mine.safetensors",
        "size": blob.size,
        "part_size": 1,
        "expires_at": utcnow(),
    }
    db.add(
        Upload(
            id="up_1",
            state="complete",
            blob_sha256=blob.sha256,
            hashes={"SHA256": blob.sha256.upper()},
            **row,
        )
    )
    db.add(Upload(id="up_2", state="open", **row))
    model = service.create_model(db, user, ModelIn(name="Mine", type="LORA", tags=["a", "A "]))
    version = service.create_version(
        db, user, model.id, VersionIn(name="v1", base_model="starter 1", upload="up_1")
    )
    assert version.files[0].name == "mine.safetensors"
    assert version.family == "starter"
    assert version.files[0].hashes[0].value == blob.sha256.upper()
    assert db.get(Upload, "up_1") is None
    assert db.get(Blob, blob.sha256) is not None
    for upload, error in (("up_2", Conflict), ("up_3", NotFound)):
        with pytest.raises(error):
            service.create_version(db, user, model.id, VersionIn(name="v2", base_model="x", upload=upload))


def test_page_pictures_are_as_visible_as_the_page(db: Session) -> None:
    user = make_user(db)
    version = trained(db, user)
    sample = create_sample(db, user, blob=make_blob(db, b"p", "image/png"), prompt="p", width=128, height=128)
    own = make_image(db, user)
    service.add_picture(db, version, sample, 0)
    service.add_picture(db, version, own, 1)
    assert (sample.visibility, own.visibility) == ("private", "private")
    service.publish_version(db, user, version, "public")
    assert (sample.visibility, own.visibility) == ("public", "private")
    service.set_visibility(db, user, version.model_id, "unlisted")
    assert sample.visibility == "unlisted"
    assert sample.share_key
    service.set_visibility(db, user, version.model_id, "private")
    assert (sample.visibility, sample.share_key) == ("private", None)


def test_deleting_frees_what_only_the_model_named(db: Session) -> None:
    user = make_user(db)
    version = trained(db, user)
    sample = create_sample(db, user, blob=make_blob(db, b"page", "image/png"), prompt="p", width=9, height=9)
    own = make_image(db, user)
    for n, image in enumerate((sample, own)):
        service.add_picture(db, version, image, n)
    file_sha, sample_sha, own_sha = version.files[0].blob_sha256, sample.blob_sha256, own.blob_sha256
    service.delete_model(db, user, version.model_id)
    assert db.scalar(select(func.count()).select_from(Model)) == 0
    assert [i.id for i in db.scalars(select(Image))] == [own.id]
    assert db.get(Blob, file_sha) is None
    assert db.get(Blob, sample_sha) is None
    assert db.get(Blob, own_sha)
    db.commit()
    assert get_storage().size(blob_key(file_sha)) is None
    assert get_storage().size(blob_key(own_sha)) is not None


def test_the_same_file_twice_is_freed_with_the_second(db: Session) -> None:
    user = make_user(db)
    data = safetensors(b"same")
    first, second = trained(db, user, data), trained(db, user, data)
    sha = first.files[0].blob_sha256
    service.delete_model(db, user, first.model_id)
    assert db.get(Blob, sha) is not None
    service.delete_version(db, user, second.id)
    assert db.get(Blob, sha) is None
    assert db.get_one(Model, second.model_id).versions == []


def test_deleting_the_last_published_version_hides_the_page(db: Session) -> None:
    user = make_user(db)
    model = published(db, user)
    service.delete_version(db, user, model.versions[0].id)
    assert model.visibility == "private"


def test_references_for_jobs(db: Session) -> None:
    user, other = make_user(db), make_user(db)
    version = trained(db, user)
    ref = service.lora_ref(db, user, version.id)
    assert (ref.name, ref.strength, ref.base_model) == ("tuscany", 0.8, "Starter 1")
    assert ref.autov3
    assert ref.autov3 == ref.autov3.lower()
    assert ref.model_version_id == version.id
    assert service.lora_ref(db, user, version.id, -0.5).strength == -0.5
    assert check_loras(db, BASE, [ref]) == []
    with pytest.raises(NotFound):
        service.lora_ref(db, other, version.id)
    with pytest.raises(Invalid) as refused:
        service.checkpoint_ref(db, user, version.id)
    assert refused.value.code == "base-model-missing"
    with pytest.raises(Invalid) as mismatch:
        check_loras(db, BASE.model_copy(update={"base_model": "SD 1.5", "family": "sd1"}), [ref])
    assert mismatch.value.code == "lora-base-mismatch"


def test_a_checkpoint_that_no_family_loads(db: Session) -> None:
    user = make_user(db)
    model = service.create_model(db, user, ModelIn(name="Big", type="Checkpoint"))
    version = service.create_version(db, user, model.id, VersionIn(name="v1", base_model="SD 1.5"))
    add_file(db, version, make_blob(db, safetensors()), name="big.safetensors")
    with pytest.raises(Invalid) as refused:
        service.checkpoint_ref(db, user, version.id)
    assert refused.value.code == "base-model-unsupported"


@pytest.mark.parametrize(("kind", "length"), [("SHA256", 64), ("AutoV2", 10), ("AutoV3", 12), ("Tensor", 64),
                                              ("Tensor", 10), ("BLAKE3", 64), ("CRC32", 8)])  # fmt: skip
def test_found_by_every_hash_in_either_case(db: Session, kind: str, length: int) -> None:
    user = make_user(db)
    model = published(db, user)
    value = {h.kind: h.value for h in model.versions[0].files[0].hashes}[kind][:length]
    for digits in (value, value.lower()):
        found = queries.find_by_hash(db, None, digits)
        assert found is not None
        assert found.model_id == model.id
    service.set_visibility(db, user, model.id, "private")
    assert queries.find_by_hash(db, None, value) is None
    assert queries.find_by_hash(db, user, value) is model.versions[0]
    assert queries.find_by_hash(db, make_user(db), value) is None


def test_of_several_the_oldest_published_is_found(db: Session) -> None:
    data = safetensors(b"copied")
    first = published(db, make_user(db), content=data)
    published(db, make_user(db), content=data)
    sha = first.versions[0].files[0].blob_sha256
    found = queries.find_by_hash(db, None, sha)
    assert found is not None
    assert found.model_id == first.id
    assert len(queries.list_by_hashes(db, None, [sha, "0" * 64])) == 2


def test_a_take_down_hides_keeps_and_refuses_the_same_bytes(db: Session) -> None:
    owner, admin = make_user(db), make_admin(db)
    data = safetensors(b"bad")
    model = published(db, owner, content=data)
    report = reports.create_report(db, None, ReportIn(kind="model", id=model.id, reason="rights"))
    second = reports.create_report(db, owner, ReportIn(kind="model", id=model.id, reason="spam"))
    with pytest.raises(Forbidden):
        reports.list_reports(db, owner)
    reports.resolve_report(db, admin, report.id, action="take-down", note="claim checked")
    assert (report.status, second.status, report.resolved_by) == ("taken-down", "taken-down", admin.id)
    for viewer in (None, owner, make_user(db)):
        with pytest.raises(NotFound):
            service.get_model(db, viewer, model.id)
    assert service.get_model(db, admin, model.id) is model
    with pytest.raises(NotFound):
        service.delete_model(db, owner, model.id)
    with pytest.raises(Forbidden) as refused:
        published(db, owner, content=data)
    assert refused.value.code == "content-blocked"
    reports.resolve_report(db, admin, report.id, action="restore")
    assert service.get_model(db, None, model.id) is model


def test_a_picture_taken_down_stays_down(db: Session) -> None:
    owner, admin = make_user(db), make_admin(db)
    image = make_image(db, owner, visibility="public")
    report = reports.create_report(db, None, ReportIn(kind="image", id=image.id, reason="other"))
    reports.resolve_report(db, admin, report.id, action="take-down")
    copy = make_image(db, owner, blob_sha256=image.blob_sha256)
    with pytest.raises(Forbidden):
        set_image_visibility(db, copy, "public")


def test_what_nobody_sees_cannot_be_reported(db: Session) -> None:
    version = trained(db, make_user(db))
    with pytest.raises(NotFound):
        reports.create_report(db, None, ReportIn(kind="model", id=version.model_id, reason="spam"))


def test_changes_of_a_model(db: Session) -> None:
    user = make_user(db)
    model = published(db, user)
    patch = ModelPatch(tags=["B", "b", "c"], allow_commercial_use=["Image"], rating=4, visibility="unlisted")
    service.set_model(db, user, model.id, patch)
    assert [t.tag for t in model.tags] == ["b", "c"]
    assert model.allow_commercial_use == ["Image"]
    assert (model.rating, model.visibility, model.name) == (4, "unlisted", "Tuscany")
    with pytest.raises(NotFound):
        service.set_model(db, make_user(db), model.id, ModelPatch(name="x"))
    assert db.scalar(select(func.count()).select_from(ModelVersion)) == 1
