"""The rows that other tests start from can be made."""

from sqlalchemy.orm import Session

from app.core.storage import get_storage
from tests import factories


def test_every_factory_makes_a_row(db: Session) -> None:
    user = factories.make_user(db)
    assert not user.is_admin
    assert factories.make_admin(db).is_admin
    dataset = factories.make_dataset(db, user, items=2)
    item = factories.make_item(db, dataset, 2, label="")
    assert get_storage().get(f"blobs/{item.blob_sha256}").startswith(b"picture")
    version = factories.make_version(db, factories.make_model(db, user))
    assert factories.make_file(db, version, b"weights").size == 7
    assert version.files[0].name == "v1.safetensors"
    assert factories.make_image(db, user).resources == []
    assert factories.make_job(db, user).seq > 0
