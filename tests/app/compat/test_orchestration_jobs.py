"""Version 1, as civitai-py and the npm package civitai call it: submit, poll, find, cancel, mark."""

from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session

from app.contract.states import JobState
from tests.app.compat.orchestrating import JOBS, base_air, draw, hire, jobs_of, run, v1_job, workflows
from tests.app.conftest import Script
from tests.app.generation.making import make_component
from tests.app.training.factories import make_lora
from tests.factories import make_user


@pytest.fixture
def api(db: Session, script: Script) -> TestClient:
    return script(make_user(db, "ada"), "read", "generate")


@pytest.fixture
def model(db: Session) -> str:
    return base_air(db, make_user(db, "maker"))


def test_a_job_from_submitting_to_its_picture(
    db: Session, api: TestClient, client: TestClient, model: str
) -> None:
    answer = api.post(JOBS, json=v1_job(model), params={"wait": "false"})
    assert answer.status_code == 202
    told = answer.json()
    (shown,) = told["jobs"]
    (job,) = jobs_of(db)
    assert (shown["jobId"], shown["cost"], shown["scheduled"]) == (job.id, 0.0, True)
    assert shown["result"] == {"blobKey": f"{job.id}-0", "available": False, "seed": 7}
    assert shown["lastEvent"]["type"] == "Initialized"
    draw(db, job)
    (done,) = api.get(JOBS, params={"token": told["token"]}).json()["jobs"]
    assert (done["scheduled"], done["result"]["available"]) == (False, True)
    assert done["lastEvent"]["type"] == "Succeeded"
    assert done["result"]["blobUrlExpirationDate"].endswith("Z")
    picture = client.get(done["result"]["blobUrl"])
    assert (picture.status_code, picture.headers["content-type"]) == (200, "image/png")
    assert picture.content.startswith(b"\x89PNG")


def test_what_it_draws_is_what_was_asked_for(db: Session, api: TestClient, model: str) -> None:
    maker = make_user(db)
    lora = make_lora(db, maker)
    vae = make_component(db, maker, "VAE", "soft")
    networks = {
        f"urn:air:starter1:lora:civitai:{lora.model_id}@{lora.id}": {"type": "Lora", "strength": 0.6},
        f"air:starter1:vae:civitai:{vae.model_id}@{vae.id}": {},
    }
    params = {
        "prompt": "a mill", "negativePrompt": "fog", "scheduler": "EulerA", "steps": 9, "cfgScale": 4,
        "width": 96, "height": 128, "seed": 11, "clipSkip": 2,
    }  # fmt: skip
    api.post(JOBS, json=v1_job(model, params=params, additionalNetworks=networks))
    (job,) = jobs_of(db)
    drawn = job.payload
    assert (drawn["prompt"], drawn["negative_prompt"], drawn["sampler"]) == ("a mill", "fog", "Euler a")
    assert (drawn["steps"], drawn["cfg_scale"], drawn["clip_skip"]) == (9, 4.0, 2)
    assert (drawn["width"], drawn["height"], drawn["seeds"]) == (96, 128, [11])
    assert [(each["model_version_id"], each["strength"]) for each in drawn["loras"]] == [(lora.id, 0.6)]
    assert drawn["base"]["vae"]["name"] == "soft.safetensors"


def test_every_picture_is_a_job_with_a_seed_of_its_own(db: Session, api: TestClient, model: str) -> None:
    told = api.post(JOBS, json=v1_job(model, quantity=2, batchSize=2)).json()
    assert [job.payload["seeds"] for job in jobs_of(db)] == [[7], [8], [9], [10]]
    draw(db, jobs_of(db)[1])
    shown = api.get(JOBS, params={"token": told["token"]}).json()["jobs"]
    assert [job["result"]["available"] for job in shown] == [False, True, False, False]
    assert [job["scheduled"] for job in shown] == [True, False, True, True]


def test_several_jobs_in_one_request(db: Session, api: TestClient, model: str) -> None:
    sent = {"jobs": [v1_job(model, properties={"n": 1}), v1_job(model, properties={"n": 2})]}
    told = api.post(JOBS, json=sent).json()
    assert [job["properties"] for job in told["jobs"]] == [{"n": 1}, {"n": 2}]
    assert len(workflows(db)) == 1


def test_asking_what_if_starts_nothing(db: Session, api: TestClient, model: str) -> None:
    answer = api.post(JOBS, json=v1_job(model, quantity=3), params={"whatif": "true"})
    assert answer.status_code == 200
    assert [(job["cost"], job["scheduled"]) for job in answer.json()["jobs"]] == [(0.0, False)] * 3
    assert jobs_of(db) == []


def test_sent_twice_with_one_key_it_works_once(db: Session, api: TestClient, model: str) -> None:
    headers = {"Idempotency-Key": "k1"}
    first = api.post(JOBS, json=v1_job(model), headers=headers).json()
    again = api.post(JOBS, json=v1_job(model), headers=headers).json()
    assert again["token"] == first["token"]
    assert len(jobs_of(db)) == 1
    other = api.post(JOBS, json=v1_job(model, quantity=2), headers=headers)
    assert (other.status_code, other.json()["code"]) == (409, "idempotency-key-reused")
    assert len(jobs_of(db)) == 1


def test_one_job_by_id_with_its_input_if_asked(db: Session, api: TestClient, model: str) -> None:
    api.post(JOBS, json=v1_job(model))
    (job,) = jobs_of(db)
    assert "job" not in api.get(f"{JOBS}/{job.id}").json()
    told = api.get(f"{JOBS}/{job.id}", params={"detailed": "true"}).json()
    assert told["jobId"] == job.id
    assert (told["job"]["$type"], told["job"]["prompt"]) == ("textToImage", "a mill")


def test_jobs_are_found_by_their_properties(db: Session, api: TestClient, script: Script, model: str) -> None:
    for number in (1, 1, 2):
        api.post(JOBS, json=v1_job(model, properties={"userId": number, "tags": ["a"]}))
    script(make_user(db)).post(JOBS, json=v1_job(model, properties={"userId": 1}))
    told = api.post(f"{JOBS}/query", json={"properties": {"userId": 1}}, params={"detailed": "false"}).json()
    assert [job["properties"]["userId"] for job in told["jobs"]] == [1, 1]
    assert "cursor" not in told
    trained = api.post(f"{JOBS}/query", json={"jobType": "imageResourceTraining"}).json()
    assert trained == {"jobs": []}


def test_one_is_cancelled_and_the_others_go_on(db: Session, api: TestClient, model: str) -> None:
    token = api.post(JOBS, json=v1_job(model, quantity=3)).json()["token"]
    first, second, third = jobs_of(db)
    run(db, second)
    answer = api.delete(f"{JOBS}/{first.id}", params={"force": "true"})
    assert (answer.status_code, answer.json()["scheduled"]) == (200, False)
    assert answer.json()["lastEvent"]["type"] == "Deleted"
    assert api.delete(JOBS, params={"token": token, "force": "true"}).status_code == 200
    assert [job.status for job in (first, second, third)] == ["canceled", "canceling", "canceled"]


def test_a_failed_job_is_not_scheduled_and_says_why(db: Session, api: TestClient, model: str) -> None:
    token = api.post(JOBS, json=v1_job(model)).json()["token"]
    (job,) = jobs_of(db)
    run(db, job)
    from app.jobs.service import change_state

    change_state(db, job, JobState.FAILED, error=("out-of-memory", "The card is full."))
    (shown,) = api.get(JOBS, params={"token": token}).json()["jobs"]
    assert (shown["scheduled"], shown["result"]["available"]) == (False, False)
    assert shown["lastEvent"]["context"] == {"reason": "The card is full."}


def test_results_can_be_marked(db: Session, api: TestClient, model: str) -> None:
    token = api.post(JOBS, json=v1_job(model, quantity=2, properties={"n": 1})).json()["token"]
    marked = api.put(JOBS, params={"token": token}, json={"reason": "blurry"})
    assert marked.json() == {"jobs": 2}
    one = jobs_of(db)[0].id
    assert api.put(f"{JOBS}/{one}", json={"properties": {"n": 2}}).json() == {"jobs": 1}
    told = api.get(f"{JOBS}/{one}").json()["properties"]
    assert told == {"n": 2, "taint": {"reason": None, "context": {}}}


def test_coverage_says_who_could_draw_it(db: Session, api: TestClient, model: str) -> None:
    unknown = "urn:air:sd1:checkpoint:civitai:4384@128713"
    ask = {"model": [model, unknown]}
    told = api.get("/v1/consumer/coverage", params=ask).json()
    assert told[model] == {"Bottega": {"availability": "Unavailable", "workers": 0}}
    assert told[unknown] == {"Bottega": {"availability": "Unsupported", "workers": 0}}
    hire(db, "generate")
    told = api.get("/v1/consumer/coverage", params=ask).json()
    assert told[model] == {"Bottega": {"availability": "Available", "workers": 1}}


def test_consumption_counts_ones_own_pictures(
    db: Session, api: TestClient, script: Script, model: str
) -> None:
    api.post(JOBS, json=v1_job(model, quantity=2))
    script(make_user(db)).post(JOBS, json=v1_job(model))
    for job in jobs_of(db):
        draw(db, job)
    told = api.get("/v1/consumer/consumption").json()
    assert (told["images"], told["totalCost"]) == (2, 0.0)
    early = {"startDate": "2020-01-01", "endDate": "2020-02-01T00:00:00Z"}
    told = api.get("/v1/consumer/consumption", params=early).json()
    assert told == {
        "images": 0, "totalCost": 0.0, "startDate": "2020-01-01T00:00:00.000Z",
        "endDate": "2020-02-01T00:00:00.000Z",
    }  # fmt: skip


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"params": {"prompt": "a", "width": 100}}, "jobs[0].params.width"),
    ({"params": {"prompt": "a", "steps": "many"}}, "jobs[0].params.steps"),
    ({"params": {"prompt": "a", "scheduler": "DPMFast"}}, "jobs[0].params.scheduler"),
    ({"params": {}}, "jobs[0].params.prompt"),
    ({"quantity": 0}, "jobs[0].quantity"),
    ({"quantity": 16, "batchSize": 16}, "jobs[0].params.quantity"),
    ({"$type": "comfy"}, "jobs[0].$type"),
    ({"controlNets": [{"preprocessor": "Canny"}]}, "jobs[0].params.controlNets"),
    ({"callbackUrl": "ftp://x"}, "jobs[0].callbackUrl"),
]  # fmt: skip


def test_each_wrong_field_is_named(db: Session, api: TestClient, model: str) -> None:
    for change, path in WRONG:
        answer = api.post(JOBS, json=v1_job(model) | change)
        assert answer.status_code == 400, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
        told = answer.json()
        assert {"type", "title", "status", "detail", "errors"} <= told.keys()
        assert list(told["errors"]) == [path], told
        assert (jobs_of(db), workflows(db)) == ([], [])


NO_JOBS: list[Any] = [{"jobs": []}, {"jobs": "all"}, {"jobs": [7]}, {}, [], "x"]


def test_a_body_that_is_no_job(api: TestClient) -> None:
    for body in NO_JOBS:
        assert api.post(JOBS, json=body).status_code == 400, body


NO_AIRS = [
    "urn:air:sd1:checkpoint:civitai:{model}@{version}",
    "urn:air:starter1:lora:civitai:{model}@{version}",
    "urn:air:starter1:checkpoint:huggingface:{model}@{version}",
    "urn:air:starter1:checkpoint:civitai:{other}@{version}",
    "urn:air:starter1:checkpoint:civitai:{model}@999999",
    "urn:air:starter1:checkpoint:civitai:{model}@{version}+999999",
    "nothing",
]


def test_an_air_that_names_no_model_here_is_a_404_with_its_name(api: TestClient, model: str) -> None:
    for name in NO_AIRS:
        number, _, version = model.rpartition(":")[2].partition("@")
        wanted = name.format(model=number, version=version, other=int(number) + 1)
        answer = api.post(JOBS, json=v1_job(wanted))
        assert (answer.status_code, answer.json()["code"]) == (404, "air-unknown"), name
        assert wanted in answer.json()["detail"]


def test_an_air_may_leave_out_the_version(db: Session, api: TestClient, model: str) -> None:
    assert api.post(JOBS, json=v1_job(model.rpartition("@")[0])).status_code == 202
    assert jobs_of(db)[0].payload["base"]["model_version_id"] == int(model.rpartition("@")[2])


NO_TOKENS = ["", "x", "====", "d2ZfMDA=", "ü"]


def test_a_token_that_is_none(api: TestClient) -> None:
    for token in NO_TOKENS:
        assert api.get(JOBS, params={"token": token}).status_code == 404, token


def test_too_many_unfinished_jobs_are_a_429(
    db: Session, api: TestClient, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from app.core.config import get_settings

    monkeypatch.setattr(get_settings().limits, "jobs_queued", 2)
    answer = api.post(JOBS, json=v1_job(model, quantity=3))
    assert (answer.status_code, answer.json()["code"]) == (429, "queue-full")
    assert answer.headers["retry-after"] == "60"
    assert (jobs_of(db), workflows(db)) == ([], [])


def test_a_token_that_only_reads_looks_and_does_nothing(
    db: Session, api: TestClient, script: Script, model: str
) -> None:
    from app.accounts.models import User

    token = api.post(JOBS, json=v1_job(model)).json()["token"]
    (job,) = jobs_of(db)
    reader = script(db.get_one(User, job.user_id), "read")
    assert reader.get(JOBS, params={"token": token}).status_code == 200
    assert reader.post(f"{JOBS}/query", json={}).status_code == 200
    refused = [
        reader.post(JOBS, json=v1_job(model)),
        reader.delete(JOBS, params={"token": token}),
        reader.delete(f"{JOBS}/{job.id}"),
        reader.put(f"{JOBS}/{job.id}", json={}),
        reader.put(JOBS, params={"token": token}, json={}),
    ]
    assert [answer.status_code for answer in refused] == [403] * 5
    assert {answer.json()["code"] for answer in refused} == {"insufficient-scope"}
    assert job.status == "queued"
