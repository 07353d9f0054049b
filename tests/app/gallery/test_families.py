"""What was kept before its family could run becomes usable when the family comes."""

from dataclasses import replace

import pytest
from sqlalchemy.orm import Session

from app.contract.family import FamilySpec
from app.core.errors import Invalid
from app.core.storage import get_storage
from app.gallery import families
from app.gallery.families import refresh_families
from app.gallery.matching import why_not
from app.gallery.models import ModelVersion
from app.gallery.refs import checkpoint_ref
from app.recognition.bases import BASES
from tests.app.gallery.test_recognised import FLUX, SDXL, make
from tests.app.recognition.listings import REFINER_LDM, SD_LDM, VAE_LDM, ldm, under, whole
from tests.factories import make_user
from worker.families import catalog

SINGLE = "model.diffusion_model."
TEXT = {"cond_stage_model.transformer.text_model.embeddings.token_embedding.weight": [49408, 768]}
SD1 = whole(under(SINGLE, ldm(SD_LDM, 768)) | under("first_stage_model.", VAE_LDM) | TEXT)
INPAINT = whole(under(SINGLE, ldm(SD_LDM, 768, channels=9)) | TEXT)
REFINER = whole(under(SINGLE, ldm(REFINER_LDM, 1280, width=384)))


def without(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """As if these families had not been written yet."""
    left: dict[str, FamilySpec] = {n: s for n, s in catalog.specs().items() if n not in names}
    for module in ("app.gallery.files", "app.gallery.families", "app.gallery.matching"):
        monkeypatch.setattr(f"{module}.specs", lambda: left)
    for key, base in list(BASES.items()):
        if base.family in names:
            monkeypatch.setitem(BASES, key, replace(base, family=None))


def test_a_checkpoint_that_was_kept_runs_when_its_family_comes(db: Session) -> None:
    user, before = make_user(db), pytest.MonkeyPatch()
    without(before, "sd1")
    try:
        version = make(db, user, SD1, type="Checkpoint")
        refresh_families(db, get_storage())
        assert version.family is None
        assert "cannot train or draw here yet" in why_not(version)
        assert "cannot generate here yet" in str(version.files[0].facts["notes"])
        with pytest.raises(Invalid):
            checkpoint_ref(db, user, version.id)
    finally:
        before.undo()
    assert refresh_families(db, get_storage()) == 1
    assert (version.family, why_not(version)) == ("sd1", "")
    assert "notes" not in version.files[0].facts
    assert checkpoint_ref(db, user, version.id).family == "sd1"


def test_a_family_that_was_taken_away_comes_back(db: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    version = make(db, make_user(db), SDXL)
    assert version.family == "sdxl"
    version.family = "gone"
    assert refresh_families(db, get_storage()) == 1
    assert version.family == "sdxl"


def test_what_cannot_run_stays_so(db: Session) -> None:
    user = make_user(db)
    kept: list[ModelVersion] = [
        make(db, user, FLUX), make(db, user, INPAINT, type="Checkpoint"),
        make(db, user, REFINER, type="Checkpoint"),
    ]  # fmt: skip
    assert refresh_families(db, get_storage()) == 0
    assert [version.family for version in kept] == [None, None, None]


def test_it_is_done_once(db: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    version = make(db, make_user(db), SDXL)
    refresh_families(db, get_storage())
    version.family = None
    assert refresh_families(db, get_storage()) == 0
    assert version.family is None
    monkeypatch.setattr(families, "RULES", families.RULES + 1)
    assert refresh_families(db, get_storage()) == 1


def test_a_file_that_is_away_stops_nothing(db: Session) -> None:
    user = make_user(db)
    lost, other = make(db, user, INPAINT, type="Checkpoint"), make(db, user, SDXL)
    get_storage().delete([f"blobs/{lost.files[0].blob_sha256}"])
    other.family = None
    assert refresh_families(db, get_storage()) == 1
    assert lost.family is None
