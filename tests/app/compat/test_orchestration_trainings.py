"""Steps that train: the zip becomes a set, the set a training, and its epochs stream into the output."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.accounts.models import User
from app.compat.orchestration.preparing import tend_workflows
from app.contract.events import Finished
from app.contract.jobs import TrainJob
from app.contract.states import JobState
from app.datasets.models import Dataset
from app.datasets.service import delete_dataset
from app.gallery.airs import air
from app.jobs.models import Job
from app.jobs.service import change_state
from app.training import service as training
from tests.app.compat.orchestrating import (
    BLOBS,
    JOBS,
    WORKFLOWS,
    base_air,
    bring,
    drawing,
    hire,
    jobs_of,
    keep_zip,
    png,
    run,
    submit,
    workflow,
    workflows,
    zip_of_pictures,
)
from tests.app.conftest import Script
from tests.app.training.factories import deliver_epoch, make_lora
from tests.factories import make_user

Keep = Callable[..., str]


@pytest.fixture
def user(db: Session) -> User:
    return make_user(db, "ada")


@pytest.fixture
def api(script: Script, user: User) -> TestClient:
    return script(user, "read", "train", "generate")


@pytest.fixture
def model(db: Session) -> str:
    return base_air(db, make_user(db, "maker"))


@pytest.fixture
def keep(db: Session, user: User, tmp_path: Path) -> Keep:
    def make(data: bytes | None = None) -> str:
        return f"http://testserver{BLOBS}/{keep_zip(db, user, data or zip_of_pictures(), tmp_path)}"

    return make


def toolkit(model: str, url: str, **fields: Any) -> dict[str, Any]:
    """A step `training` as the site sends it."""
    given = {
        "engine": "ai-toolkit", "ecosystem": "starter1", "model": model,
        "trainingData": {"type": "zip", "sourceUrl": url, "count": 4}, "steps": 40, "epochs": 2,
        "batchSize": 2, "lr": 2e-4, "trainTextEncoder": False, "lrScheduler": "cosine",
        "optimizerType": "adamw8bit", "networkDim": 4, "networkAlpha": 2, "noiseOffset": 0.05,
        "minSnrGamma": 3, "flipAugmentation": False, "shuffleTokens": True, "keepTokens": 1,
        "triggerWord": "tuscany", "samples": {"prompts": ["tuscany, mill", "barn"], "negativePrompt": "fog"},
    }  # fmt: skip
    return {"$type": "training", "input": given | fields, "retries": 2, "timeout": "12:00:00"}


def kohya(model: str, url: str, **fields: Any) -> dict[str, Any]:
    """A step `imageResourceTraining`."""
    given = {
        "engine": "kohya", "model": model, "trainingData": url, "trainingDataImagesCount": 4,
        "loraName": "Tuscany", "samplePrompts": ["a mill"], "negativePrompt": None, "maxTrainEpochs": 3,
        "numRepeats": 5, "trainBatchSize": 4, "resolution": 128, "enableBucket": True,
        "shuffleCaption": False, "keepTokens": 0, "clipSkip": 1, "flipAugmentation": False,
        "unetLR": 5e-4, "textEncoderLR": 5e-5,
        "lrScheduler": "cosine_with_restarts", "lrSchedulerNumCycles": 3, "minSnrGamma": 5, "networkDim": 8,
        "networkAlpha": 4, "noiseOffset": 0.1, "optimizerType": "AdamW8Bit", "targetSteps": 99,
    }  # fmt: skip
    return {"$type": "imageResourceTraining", "input": given | fields}


def trainings(db: Session) -> list[Job]:
    return [job for job in jobs_of(db) if job.type == "training"]


def begin(db: Session) -> Job:
    """Read the zip, as a worker does, and let the reaper start the training."""
    bring(db, next(job for job in jobs_of(db) if job.type == "files" and job.status == "queued"))
    assert tend_workflows(db) == 1
    return trainings(db)[-1]


def finish(db: Session, job: Job, epochs: int) -> None:
    done = Finished(outcome="succeeded", recommended_epoch=epochs, recommended_reason="last", steps=40)
    job.output = training.complete_training(db, job, done)
    change_state(db, job, JobState.SUCCEEDED)


def test_a_training_from_its_zip_to_its_epochs(
    db: Session, api: TestClient, client: TestClient, model: str, keep: Keep
) -> None:
    told = submit(api, toolkit(model, keep()), tags=["training", "modelVersion:7"])
    assert (told["status"], told["steps"][0]["jobs"]) == ("preparing", [])
    assert told["steps"][0]["output"] == {"moderationStatus": "approved", "epochs": []}
    assert (told["steps"][0]["retries"], told["steps"][0]["timeout"]) == (2, "12:00:00")
    where = f"{WORKFLOWS}/{told['id']}"
    job = begin(db)
    hire(db, "train")
    assert api.get(where).json()["status"] == "scheduled"
    run(db, job)
    deliver_epoch(db, job, 1)
    running = api.get(where).json()
    assert running["status"] == "processing"
    (epoch,) = running["steps"][0]["output"]["epochs"]
    assert (epoch["epochNumber"], epoch["model"]["available"], len(epoch["samples"])) == (1, True, 1)
    assert client.get(epoch["samples"][0]["url"]).headers["content-type"] == "image/png"
    deliver_epoch(db, job, 2)
    finish(db, job, 2)
    done = api.get(where).json()
    assert (done["status"], done["steps"][0]["completedAt"] is not None) == ("succeeded", True)
    adapter = client.get(done["steps"][0]["output"]["epochs"][1]["model"]["url"])
    assert adapter.headers["content-disposition"].endswith('filename="Tuscany-000002.safetensors"')
    assert b"lora.lora_down.weight" in adapter.content


def test_the_settings_of_ai_toolkit_are_taken_over(
    db: Session, api: TestClient, model: str, keep: Keep
) -> None:
    submit(api, toolkit(model, keep()))
    payload = TrainJob.model_validate(begin(db).payload)
    params = payload.params
    assert (params.max_steps, params.epochs, params.batch_size, params.unet_lr) == (40, 2, 2, 2e-4)
    assert (params.text_encoder_lr, params.lr_scheduler, params.optimizer) == (0.0, "cosine", "adamw")
    assert (params.network_dim, params.network_alpha, params.noise_offset) == (4, 2.0, 0.05)
    assert (params.min_snr_gamma, params.shuffle_tags, params.keep_tokens) == (3.0, True, 1)
    assert (payload.trigger_word, payload.name) == ("tuscany", "tuscany")
    assert [(p.prompt, p.negative_prompt) for p in payload.sample_prompts] == [
        ("tuscany, mill", "fog"), ("barn", "fog"),
    ]  # fmt: skip
    assert [item.label for item in payload.items] == ["tuscany, olive tree"] * 4


def test_kohyas_settings_are_taken_over_and_its_output_is_flat(
    db: Session, api: TestClient, client: TestClient, model: str, keep: Keep
) -> None:
    told = submit(api, kohya(model, keep()))
    job = begin(db)
    payload = TrainJob.model_validate(job.payload)
    params = payload.params
    assert (params.epochs, params.repeats, params.batch_size, params.resolution) == (3, 5, 4, 128)
    assert (params.unet_lr, params.text_encoder_lr, params.lr_cycles) == (5e-4, 5e-5, 3)
    assert (params.lr_scheduler, params.optimizer) == ("cosine_with_restarts", "adamw")
    run(db, job)
    deliver_epoch(db, job, 1)
    output = api.get(f"{WORKFLOWS}/{told['id']}").json()["steps"][0]["output"]
    assert (output["moderationStatus"], output["sampleImagesPrompts"]) == ("approved", ["a mill"])
    (epoch,) = output["epochs"]
    assert (epoch["epochNumber"], epoch["blobName"]) == (1, "Tuscany-000001.safetensors")
    assert len(client.get(epoch["blobUrl"]).content) == epoch["blobSize"]
    assert [client.get(url).status_code for url in epoch["sampleImages"]] == [200]


def test_version_1_trains_too(
    db: Session, api: TestClient, client: TestClient, model: str, keep: Keep
) -> None:
    step = kohya(model, keep())["input"]
    told = {name: step.pop(name) for name in ("model", "trainingData")}
    sent = {"$type": "imageResourceTraining", "params": step, "properties": {"userId": 7}, **told}
    answer = api.post(JOBS, json=sent).json()
    assert [job["scheduled"] for job in answer["jobs"]] == [True]
    job = begin(db)
    (shown,) = api.get(JOBS, params={"token": answer["token"]}).json()["jobs"]
    assert (shown["jobId"], shown["scheduled"], shown["properties"]) == (job.id, True, {"userId": 7})
    run(db, job)
    deliver_epoch(db, job, 1)
    (shown,) = api.get(JOBS, params={"token": answer["token"]}).json()["jobs"]
    assert (shown["result"]["available"], len(shown["result"]["epochs"])) == (False, 1)
    finish(db, job, 1)
    (shown,) = api.get(JOBS, params={"token": answer["token"]}).json()["jobs"]
    assert (shown["scheduled"], client.get(shown["result"]["blobUrl"]).status_code) == (False, 200)
    found = api.post(f"{JOBS}/query", json={"jobType": "imageResourceTraining"}).json()["jobs"]
    assert [each["jobId"] for each in found] == [job.id]


def test_a_lora_that_was_trained_here_is_trained_further(
    db: Session, api: TestClient, user: User, model: str, keep: Keep
) -> None:
    url = keep()
    submit(api, toolkit(model, url))
    first = begin(db)
    run(db, first)
    deliver_epoch(db, first, 1)
    finish(db, first, 1)
    lora = make_lora(db, user, training_job_id=first.id, training_details={"epoch": 1})
    submit(api, toolkit(model, url, continueFrom=air(lora)))
    assert begin(db).payload["continue_from"]["name"] == "Tuscany-000001.safetensors"
    told = submit(api, toolkit(model, url, continueFrom=air(make_lora(db, user))), status=400)
    assert list(told["errors"]) == ["steps[0].input.continueFrom"]


def test_the_same_zip_serves_twice(db: Session, api: TestClient, model: str, keep: Keep) -> None:
    url = keep()
    submit(api, toolkit(model, url))
    begin(db)
    step = toolkit("", url)
    del step["input"]["model"]
    submit(api, step)
    begin(db)
    bases = [job.payload["base"]["model_version_id"] for job in trainings(db)]
    assert bases == [int(model.rpartition("@")[2])] * 2


def test_the_reaper_starts_it_once(db: Session, api: TestClient, model: str, keep: Keep) -> None:
    submit(api, toolkit(model, keep()))
    assert tend_workflows(db) == 1
    assert trainings(db) == []
    begin(db)
    assert tend_workflows(db) == 0
    assert len(trainings(db)) == 1


def test_a_full_queue_is_waited_for(
    db: Session, api: TestClient, model: str, keep: Keep, monkeypatch: pytest.MonkeyPatch
) -> None:
    from app.core.config import get_settings

    told = submit(api, toolkit(model, keep()))
    bring(db, jobs_of(db)[0])
    monkeypatch.setattr(get_settings().limits, "jobs_queued", 0)
    tend_workflows(db)
    assert api.get(f"{WORKFLOWS}/{told['id']}").json()["status"] == "preparing"
    monkeypatch.setattr(get_settings().limits, "jobs_queued", 5)
    tend_workflows(db)
    assert len(trainings(db)) == 1


@pytest.mark.parametrize("count", [0, 2])
def test_a_zip_with_too_few_pictures_fails_in_words(
    db: Session, api: TestClient, model: str, keep: Keep, count: int
) -> None:
    told = submit(api, toolkit(model, keep(zip_of_pictures(count))))
    bring(db, jobs_of(db)[0])
    tend_workflows(db)
    (step,) = api.get(f"{WORKFLOWS}/{told['id']}").json()["steps"]
    assert (step["status"], "at least 3 pictures" in step["error"]["detail"]) == ("failed", True)
    assert (trainings(db), workflows(db)[0].watched) == ([], False)


def test_a_set_that_is_deleted_meanwhile_fails_in_words(
    db: Session, api: TestClient, user: User, model: str, keep: Keep
) -> None:
    told = submit(api, toolkit(model, keep()))
    bring(db, jobs_of(db)[0])
    delete_dataset(db, user, db.scalars(select(Dataset.id)).one())
    tend_workflows(db)
    assert api.get(f"{WORKFLOWS}/{told['id']}").json()["status"] == "failed"


def test_reading_the_zip_can_fail(db: Session, api: TestClient, model: str, keep: Keep) -> None:
    told = submit(api, toolkit(model, keep()))
    (job,) = jobs_of(db)
    run(db, job)
    change_state(db, job, JobState.FAILED, error=("worker-lost", "The worker was lost 4 times."))
    tend_workflows(db)
    (step,) = api.get(f"{WORKFLOWS}/{told['id']}").json()["steps"]
    assert (step["status"], step["error"]["detail"]) == ("failed", "The worker was lost 4 times.")
    assert workflows(db)[0].watched is False


def test_cancelling_before_the_pictures_are_there(
    db: Session, api: TestClient, model: str, keep: Keep
) -> None:
    first = f"{WORKFLOWS}/{submit(api, toolkit(model, keep()))['id']}"
    assert api.put(first, json={"status": "canceled"}).status_code == 204
    assert (api.get(first).json()["status"], jobs_of(db)[0].status) == ("canceled", "canceled")
    second = f"{WORKFLOWS}/{submit(api, toolkit(model, keep()))['id']}"
    bring(db, jobs_of(db)[1])
    assert api.put(second, json={"status": "canceled"}).status_code == 204
    tend_workflows(db)
    assert (api.get(second).json()["status"], trainings(db)) == ("canceled", [])


def test_drawing_and_training_in_one_workflow(db: Session, api: TestClient, model: str, keep: Keep) -> None:
    told = submit(api, drawing(model), toolkit(model, keep()))
    assert [step["status"] for step in told["steps"]] == ["unassigned", "preparing"]
    assert told["status"] == "preparing"


def test_asking_what_if_keeps_nothing(db: Session, api: TestClient, model: str, keep: Keep) -> None:
    sent = workflow(toolkit(model, keep()))
    answer = api.post(WORKFLOWS, json=sent, params={"whatif": "true"})
    assert (answer.status_code, answer.json()["steps"][0]["status"]) == (200, "unassigned")
    assert (jobs_of(db), workflows(db), list(db.scalars(select(Dataset)))) == ([], [], [])


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"steps": 0}, "steps"),
    ({"steps": 99_999}, "steps"),
    ({"networkDim": 999}, "networkDim"),
    ({"optimizerType": "lion"}, "optimizerType"),
    ({"lrScheduler": "step"}, "lrScheduler"),
    ({"lr": 7}, "lr"),
    ({"engine": "musubi"}, "engine"),
    ({"ecosystem": "sdxl"}, "ecosystem"),
    ({"model": None, "ecosystem": "flux1"}, "model"),
    ({"triggerWord": "a,b"}, "triggerWord"),
    ({"samples": {"prompts": [""]}}, "samples.0.prompt"),
    ({"trainingData": {"sourceUrl": "https://example.com/a.zip"}}, "trainingData.sourceUrl"),
    ({"trainingData": {"type": "zip", "sourceUrl": "http://127.0.0.1/a"}}, "trainingData.sourceUrl"),
    ({"trainingData": {"type": "zip", "sourceUrl": f"{BLOBS}/up_00000000000000000000000000"}},
     "trainingData.sourceUrl"),
    ({"trainingData": {"type": "folder", "sourceUrl": "x"}}, "trainingData.type"),
    ({"trainingData": None}, "trainingData"),
]  # fmt: skip


def test_each_wrong_field_is_named_at_once(db: Session, api: TestClient, model: str, keep: Keep) -> None:
    url = keep()
    for change, path in WRONG:
        step = toolkit(model, url)
        step["input"] |= change
        told = submit(api, step, status=400)
        assert list(told["errors"]) == [f"steps[0].input.{path}".replace(".0.", "[0].")], told
        assert (workflows(db), jobs_of(db)) == ([], [])


def test_a_picture_is_no_training_data(api: TestClient, model: str) -> None:
    sent = api.post(BLOBS, content=png()).json()
    told = submit(api, toolkit(model, sent["url"]), status=400)
    assert "is no zip" in told["detail"]


def test_somebody_elses_zip_is_not_taken(script: Script, db: Session, model: str, keep: Keep) -> None:
    other = script(make_user(db), "train", "read")
    told = submit(other, toolkit(model, keep()), status=400)
    assert list(told["errors"]) == ["steps[0].input.trainingData.sourceUrl"]


def test_a_token_that_only_draws_does_not_train(script: Script, user: User, model: str, keep: Keep) -> None:
    answer = script(user, "generate", "read").post(WORKFLOWS, json=workflow(toolkit(model, keep())))
    assert (answer.status_code, answer.json()["code"]) == (403, "insufficient-scope")
