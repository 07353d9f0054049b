"""What a training keeps: epochs once each, samples with a baseline, a version with its own files."""

from datetime import timedelta

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.contract.states import JobState
from app.core.blobs import Blob
from app.core.db import utcnow
from app.core.errors import Conflict, NotFound
from app.core.storage import get_storage
from app.datasets import service as datasets
from app.gallery.models import ModelFile
from app.jobs import service as jobs
from app.training import drafts, publishing, service
from app.training.models import TrainingCheckpoint, TrainingItem, TrainingRun
from app.training.schemas import PublishIn
from tests.app.training.factories import (
    adapter_bytes,
    deliver_epoch,
    deliver_sample,
    make_base,
    make_training,
)
from tests.factories import make_dataset, make_user


def test_later_edits_of_the_set_change_nothing(db: Session) -> None:
    user = make_user(db)
    job = make_training(db, user)
    dataset = db.get_one(TrainingRun, job.id).dataset_id
    assert dataset is not None
    datasets.delete_dataset(db, user, dataset)
    for item in job.payload["items"]:
        assert get_storage().size(f"blobs/{item['file']['sha256']}") is not None


def test_an_epoch_that_comes_again_replaces_the_first(db: Session) -> None:
    job = make_training(db, make_user(db))
    deliver_epoch(db, job, 1)
    deliver_epoch(db, job, 1)
    count = select(func.count()).select_from(TrainingCheckpoint).where(TrainingCheckpoint.job_id == job.id)
    assert db.scalar(count) == 1


def test_every_checkpoint_shows_the_row_without_the_lora(db: Session) -> None:
    user = make_user(db)
    job = make_training(db, user, epochs=2)
    listed = service.list_checkpoints(db, user, job.id)
    assert [[s.baseline for s in c.samples] for c in listed] == [[False, True], [False, True]]
    assert [c.recommended for c in listed] == [False, True]
    assert listed[1].recommended_reason == "last"


def test_publishing_makes_a_page_with_pictures(db: Session) -> None:
    user = make_user(db)
    job = make_training(db, user, epochs=2)
    model = publishing.publish_checkpoint(
        db, user, job.id, PublishIn(checkpoint=2, tags=["olive"], visibility="public")
    )
    version = model.versions[0]
    assert (model.name, model.type, model.category, model.visibility) == (
        "Tuscany",
        "LORA",
        "style",
        "public",
    )
    assert version.trained_words == ["tuscany"]
    assert version.base_model == "Starter 1"
    assert version.training_details is not None
    assert version.training_details["epoch"] == 2
    assert len(version.pictures) == 1
    assert version.files[0].name == "Tuscany-000002.safetensors"
    image = version.pictures[0].image
    assert image.meta["sampler"] == "DPM++ 2M Karras"
    assert (image.meta["steps"], image.meta["cfgScale"]) == (20, 5.0)
    assert image.prompt == image.meta["prompt"] == "tuscany, olive tree"
    _, tensors = adapter_bytes(f"{job.id} 2")
    assert f'Lora hashes: "Tuscany-000002: {tensors[:12]}"' in image.infotext


def test_pictures_asked_for_in_between_are_not_published(db: Session) -> None:
    user = make_user(db)
    job = make_training(db, user, epochs=2)
    deliver_sample(db, job, 2, step=15)
    model = publishing.publish_checkpoint(db, user, job.id, PublishIn(checkpoint=2))
    assert len(model.versions[0].pictures) == 1


def test_the_same_epoch_twice_is_a_conflict(db: Session) -> None:
    user = make_user(db)
    job = make_training(db, user, epochs=1)
    publishing.publish_checkpoint(db, user, job.id, PublishIn(checkpoint=1))
    with pytest.raises(Conflict, match="already published"):
        publishing.publish_checkpoint(db, user, job.id, PublishIn(checkpoint=1))


def test_a_published_file_outlives_its_job(db: Session) -> None:
    user = make_user(db)
    job = make_training(db, user, epochs=2)
    model = publishing.publish_checkpoint(db, user, job.id, PublishIn(checkpoint=2))
    kept = model.versions[0].files[0].blob_sha256
    others = [c.blob_sha256 for c in service.list_checkpoint_rows(db, job.id) if c.blob_sha256 != kept]
    jobs.delete_job(db, user, job.id)
    assert db.get(Blob, kept) is not None
    assert [db.get(Blob, sha) for sha in others] == [None]


def test_checkpoints_expire_unless_published(db: Session) -> None:
    user = make_user(db)
    job = make_training(db, user, epochs=2)
    publishing.publish_checkpoint(db, user, job.id, PublishIn(checkpoint=1))
    db.get_one(TrainingRun, job.id).keep_until = utcnow() - timedelta(hours=1)
    db.flush()
    assert service.expire_checkpoints(db) == 1
    assert service.list_checkpoint_rows(db, job.id) == []
    assert db.scalar(select(func.count()).select_from(ModelFile).join(Blob)) >= 1
    assert service.expire_checkpoints(db) == 0


def test_a_run_that_has_not_ended_keeps_its_pictures(db: Session) -> None:
    job = make_training(db, make_user(db))
    db.get_one(TrainingRun, job.id).keep_until = utcnow() - timedelta(hours=1)
    jobs.change_state(db, job, JobState.PAUSED)
    assert service.expire_checkpoints(db) == 0
    assert db.scalar(select(func.count()).where(TrainingItem.job_id == job.id)) == 10
    jobs.change_state(db, job, JobState.EXPIRED)
    assert service.expire_checkpoints(db) == 1
    assert db.scalar(select(func.count()).where(TrainingItem.job_id == job.id)) == 0


def test_what_is_delivered_can_be_fetched(db: Session) -> None:
    """The address that a worker tells in the stream of events is the one of the lists."""
    user = make_user(db)
    job = make_training(db, user)
    checkpoint, sample = deliver_epoch(db, job, 1)
    again = deliver_epoch(db, job, 1)
    row = service.list_checkpoints(db, user, job.id)[0]
    assert (checkpoint, sample) == again == (row.download_url, row.samples[0].url)


def test_the_grid_has_a_row_without_the_lora(db: Session) -> None:
    user = make_user(db)
    job = make_training(db, user, epochs=2)
    rows = service.list_sample_rows(db, user, job.id)
    assert [(row.epoch, row.baseline) for row in rows] == [(0, True), (1, False), (2, False)]
    assert all(row.thumb_url == row.url for row in rows)


def test_somebody_elses_training_does_not_exist(db: Session) -> None:
    job = make_training(db, make_user(db), epochs=1)
    with pytest.raises(NotFound):
        service.list_checkpoints(db, make_user(db), job.id)


def test_a_draft_starts_once_however_often_it_is_clicked(db: Session) -> None:
    user = make_user(db)
    base = make_base(db, user)
    draft = drafts.create_draft(db, user)
    drafts.save_about(db, user, draft.id, type="style", name="Tuscany", base=base.id, trigger="tuscany")
    draft.dataset_id = make_dataset(db, user, items=5).id
    drafts.confirm_rights(db, user, draft.id, rights=True)
    first = drafts.start_draft(db, user, draft.id)
    assert drafts.start_draft(db, user, draft.id).id == first.id


@pytest.mark.parametrize(
    ("name", "kind", "word"),
    [
        ("Tuscan Days", "style", "tuscandays"),
        ("Anna-Lee", "character", "annale3"),
        ("xyz", "concept", "xyz"),
        ("", "style", ""),
    ],
)
def test_trigger_words_are_made_up(name: str, kind: str, word: str) -> None:
    assert drafts.suggest_trigger(name, kind) == word


def test_training_further_begins_with_that_epoch(db: Session) -> None:
    user = make_user(db)
    job = make_training(db, user, epochs=2)
    draft = drafts.duplicate_settings(db, user, job.id, epoch=2)
    drafts.confirm_rights(db, user, draft.id, rights=True)
    further = drafts.start_draft(db, user, draft.id)
    checkpoint = service.get_checkpoint(db, user, job.id, 2)
    assert further.payload["continue_from"]["sha256"] == checkpoint.blob_sha256
