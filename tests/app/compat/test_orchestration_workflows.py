"""Version 2, as @civitai/client calls it: submit, follow, list, change, cancel, recipes, resources."""

import threading
import time
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session

from app.accounts import tokens
from app.accounts.models import User
from app.contract.states import JobState
from app.core.db import unit_of_work
from app.gallery.airs import air
from app.jobs.service import change_state, delete_job
from tests.app.compat.orchestrating import (
    SMALL,
    WORKFLOWS,
    base_air,
    draw,
    drawing,
    hire,
    jobs_of,
    run,
    submit,
    workflow,
    workflows,
)
from tests.app.conftest import Script
from tests.app.training.factories import make_lora
from tests.factories import make_user


@pytest.fixture
def user(db: Session) -> User:
    return make_user(db, "ada")


@pytest.fixture
def api(db: Session, script: Script, user: User) -> TestClient:
    return script(user, "read", "generate")


@pytest.fixture
def model(db: Session) -> str:
    return base_air(db, make_user(db, "maker"))


def test_a_workflow_from_submitting_to_its_pictures(
    db: Session, api: TestClient, client: TestClient, model: str
) -> None:
    step = drawing(model, quantity=2) | {"name": "mill", "metadata": {"a": 1}}
    told = submit(api, step, metadata={"from": "test"}, tags=["one", "two", "one"], arguments={"x": 1})
    assert (told["status"], told["metadata"], told["tags"]) == (
        "unassigned",
        {"from": "test"},
        ["one", "two"],
    )
    assert (told["startedAt"], told["completedAt"], told["cost"]["total"]) == (None, None, 0)
    (shown,) = told["steps"]
    assert (shown["$type"], shown["name"], shown["metadata"]) == ("textToImage", "mill", {"a": 1})
    assert shown["input"]["prompt"] == "a mill"
    assert [image["available"] for image in shown["output"]["images"]] == [False, False]
    hire(db, "generate")
    where = f"{WORKFLOWS}/{told['id']}"
    assert api.get(where).json()["status"] == "scheduled"
    (job,) = jobs_of(db, told["id"])
    assert job.payload["seeds"] == [7, 8]
    draw(db, job)
    done = api.get(where).json()
    assert (done["status"], done["steps"][0]["estimatedProgressRate"]) == ("succeeded", 1.0)
    assert done["completedAt"] >= done["createdAt"]
    images = done["steps"][0]["output"]["images"]
    assert [image["id"] for image in images] == [f"{job.id}-0", f"{job.id}-1"]
    assert {(image["type"], image["available"], image["jobId"]) for image in images} == {
        ("image", True, job.id)
    }
    assert client.get(images[1]["url"]).content.startswith(b"\x89PNG")


def test_the_words_follow_the_job(db: Session, api: TestClient, model: str) -> None:
    where = f"{WORKFLOWS}/{submit(api, drawing(model))['id']}"
    (job,) = jobs_of(db)
    hire(db, "generate")
    seen = [api.get(where).json()]
    change_state(db, job, JobState.STARTING)
    seen.append(api.get(where).json())
    change_state(db, job, JobState.RUNNING)
    job.progress = {"fraction": 0.25, "phase": "sampling"}
    seen.append(api.get(where).json())
    change_state(db, job, JobState.FAILED, error=("out-of-memory", "The card is full."))
    seen.append(api.get(where).json())
    assert [told["status"] for told in seen] == ["scheduled", "preparing", "processing", "failed"]
    assert seen[0]["steps"][0]["jobs"][0]["queuePosition"] == {"support": "available", "precedingJobs": 0}
    assert [told["steps"][0]["estimatedProgressRate"] for told in seen[:3]] == [0.0, 0.0, 0.25]
    assert seen[3]["steps"][0]["error"]["detail"] == "The card is full."
    assert "queuePosition" not in seen[3]["steps"][0]["jobs"][0]


def test_several_steps_are_one_workflow_and_end_as_one(db: Session, api: TestClient, model: str) -> None:
    told = submit(api, drawing(model), drawing(model, prompt="a barn") | {"name": "barn"})
    assert [step["name"] for step in told["steps"]] == ["$0", "barn"]
    first, second = jobs_of(db)
    where = f"{WORKFLOWS}/{told['id']}"
    draw(db, first)
    assert api.get(where).json()["status"] == "processing"
    run(db, second, JobState.CANCELED)
    done = api.get(where).json()
    assert [step["status"] for step in done["steps"]] == ["succeeded", "canceled"]
    assert done["status"] == "canceled"


def test_more_pictures_than_one_job_draws_become_several_jobs(
    db: Session, api: TestClient, model: str
) -> None:
    told = submit(api, drawing(model, quantity=5, batchSize=2, seed=2**32 - 3))
    assert [len(job.payload["seeds"]) for job in jobs_of(db)] == [8, 2]
    seeds = [seed for job in jobs_of(db) for seed in job.payload["seeds"]]
    assert seeds == [*range(2**32 - 3, 2**32), *range(7)]
    assert len(told["steps"][0]["output"]["images"]) == 10


def test_sent_twice_under_one_external_id_it_works_once(db: Session, api: TestClient, model: str) -> None:
    first = submit(api, drawing(model), externalId="mine")
    again = submit(api, drawing(model), externalId="mine")
    assert again["id"] == first["id"]
    assert len(jobs_of(db)) == 1
    other = api.post(WORKFLOWS, json=workflow(drawing(model, prompt="else"), externalId="mine"))
    assert (other.status_code, other.json()["code"]) == (409, "idempotency-key-reused")
    assert len(workflows(db)) == 1


def test_an_external_id_is_ones_own(db: Session, api: TestClient, script: Script, model: str) -> None:
    first = submit(api, drawing(model), externalId="mine")
    assert submit(script(make_user(db)), drawing(model), externalId="mine")["id"] != first["id"]


def test_one_wrong_step_leaves_nothing_behind(db: Session, api: TestClient, model: str) -> None:
    told = submit(api, drawing(model), drawing(model, width=100, steps=99), status=400)
    assert sorted(told["errors"]) == ["steps[1].input.steps", "steps[1].input.width"]
    assert (workflows(db), jobs_of(db)) == ([], [])


def test_asking_what_if_starts_nothing(db: Session, api: TestClient, model: str) -> None:
    sent = workflow(drawing(model, quantity=9), tags=["x"])
    answer = api.post(WORKFLOWS, json=sent, params={"whatif": "true"})
    told = answer.json()
    assert (answer.status_code, told["id"], told["tags"], told["cost"]["total"]) == (200, None, ["x"], 0)
    assert [len(step["jobs"]) for step in told["steps"]] == [2]
    assert (workflows(db), jobs_of(db)) == ([], [])


def test_waiting_ends_with_the_job(real_db: str) -> None:
    from app.main import create_app

    with unit_of_work() as db:
        named, someone = base_air(db, make_user(db)), make_user(db)
        _, secret = tokens.create_token(db, someone, name="t", scopes=["generate", "read"])

    def work() -> None:
        while True:
            with unit_of_work() as own:
                for job in jobs_of(own):
                    draw(own, job)
                    return
            time.sleep(0.05)

    worker = threading.Thread(target=work)
    worker.start()
    client = TestClient(create_app(), headers={"Authorization": f"Bearer {secret}"})
    answer = client.post(WORKFLOWS, json=workflow(drawing(named)), params={"wait": "60"})
    worker.join()
    assert (answer.status_code, answer.json()["status"]) == (200, "succeeded")
    assert answer.json()["steps"][0]["output"]["images"][0]["available"] is True


def test_who_does_not_want_to_wait_longer_is_told_how_far_it_is(api: TestClient, model: str) -> None:
    answer = api.post(WORKFLOWS, json=workflow(drawing(model)), params={"wait": "0.3"})
    assert (answer.status_code, answer.json()["status"]) == (202, "unassigned")
    assert api.get(f"{WORKFLOWS}/{answer.json()['id']}", params={"wait": "soon"}).status_code == 200


# lists


def test_a_list_goes_page_by_page_in_both_directions(api: TestClient, model: str) -> None:
    ids = [submit(api, drawing(model))["id"] for _ in range(3)]
    first = api.get(WORKFLOWS, params={"take": 2}).json()
    assert [each["id"] for each in first["items"]] == [ids[2], ids[1]]
    rest = api.get(WORKFLOWS, params={"take": 2, "cursor": first["next"]}).json()
    assert ([each["id"] for each in rest["items"]], rest["next"]) == ([ids[0]], "")
    up = api.get(WORKFLOWS, params={"ascending": "true"}).json()
    assert [each["id"] for each in up["items"]] == ids
    assert api.get(WORKFLOWS, params={"cursor": "x"}).status_code == 400
    assert api.get(WORKFLOWS, params={"take": 101}).status_code == 400


def test_a_list_is_filtered(db: Session, api: TestClient, script: Script, model: str) -> None:
    one = submit(api, drawing(model, prompt="a 100% mill"), tags=["a", "b"])["id"]
    two = submit(api, drawing(model, prompt="a barn"), tags=["a"])["id"]
    submit(script(make_user(db)), drawing(model), tags=["a"])
    run(db, jobs_of(db, two)[0], JobState.CANCELED)

    def found(**params: Any) -> list[str]:
        return [each["id"] for each in api.get(WORKFLOWS, params=params).json()["items"]]

    assert found(tags=["a"]) == [two, one]
    assert found(tags=["a", "b"]) == [one]
    assert found(query="100% mill") == [one]
    assert found(query="1_0") == []
    assert found(excludeFailed="true") == [one]
    assert found(fromDate="2020-01-01") == [two, one]
    assert found(toDate="2020-01-01T00:00:00Z") == []


def test_a_list_asks_the_database_as_often_for_many_as_for_one(
    db: Session, api: TestClient, model: str
) -> None:
    from sqlalchemy import event

    seen: list[str] = []
    event.listen(db.get_bind(), "before_cursor_execute", lambda *a: seen.append(a[2]))
    counts = []
    for _ in range(2):
        told = submit(api, drawing(model), drawing(model))
        draw(db, jobs_of(db, told["id"])[0])
        seen.clear()
        assert api.get(WORKFLOWS).status_code == 200
        counts.append(sum(words.startswith("SELECT") for words in seen))
    assert counts[0] == counts[1]


# changes


def test_tags_and_metadata_are_changed(api: TestClient, model: str) -> None:
    where = f"{WORKFLOWS}/{submit(api, drawing(model), tags=['a'], metadata={'n': 1})['id']}"
    assert api.post(f"{where}/tags", json="b").status_code == 204
    assert api.post(f"{where}/tags", json="b").status_code == 204
    assert api.get(where).json()["tags"] == ["a", "b"]
    assert api.delete(f"{where}/tags/a").status_code == 204
    assert api.get(where).json()["tags"] == ["b"]
    assert api.put(where, json={"metadata": {"n": 2}}).status_code == 204
    told = api.get(where).json()
    assert (told["tags"], told["metadata"]) == (["b"], {"n": 2})
    assert api.delete(f"{where}/tags").status_code == 204
    assert api.get(where).json()["tags"] == []


def test_a_json_patch_changes_what_it_names(db: Session, api: TestClient, model: str) -> None:
    told = submit(api, drawing(model), metadata={"images": {"x": {"n": 1}}}, tags=["a"])
    where = f"{WORKFLOWS}/{told['id']}"
    patch = [
        {"op": "test", "path": "/metadata/images/x/n", "value": 1},
        {"op": "add", "path": "/metadata/images/x/hidden", "value": True},
        {"op": "remove", "path": "/metadata/images/x/n"},
        {"op": "add", "path": "/tags/-", "value": "b"},
        {"op": "replace", "path": "/tags/0", "value": "c/d"},
    ]
    assert api.patch(where, json=patch).status_code == 204
    told = api.get(where).json()
    assert (told["metadata"], told["tags"]) == ({"images": {"x": {"hidden": True}}}, ["c/d", "b"])
    assert (
        api.patch(where, json=[{"op": "replace", "path": "/status", "value": "canceled"}]).status_code == 204
    )
    assert jobs_of(db)[0].status == "canceled"
    step = f"{where}/steps/$0"
    assert api.patch(step, json=[{"op": "add", "path": "/metadata/a~1b", "value": 1}]).status_code == 204
    assert api.get(step).json()["metadata"] == {"a/b": 1}
    assert api.put(step, json={"metadata": {"c": 2}}).status_code == 204
    assert api.get(step).json()["metadata"] == {"c": 2}
    assert api.get(f"{where}/steps/other").status_code == 404


BAD_PATCHES: list[tuple[Any, int]] = [
    ([{"op": "remove", "path": "/metadata/nothing"}], 400),
    ([{"op": "replace", "path": "/metadata/nothing", "value": 1}], 400),
    ([{"op": "add", "path": "/tags/7", "value": "x"}], 400),
    ([{"op": "add", "path": "/tags/x", "value": "x"}], 400),
    ([{"op": "add", "path": "/tags/-", "value": 7}], 400),
    ([{"op": "add", "path": "/metadata/a/b", "value": 1}], 400),
    ([{"op": "replace", "path": "", "value": 1}], 400),
    ([{"op": "move", "path": "/tags/0", "from": "/metadata"}], 400),
    ([{"op": "replace", "path": "/status", "value": "succeeded"}], 400),
    ([{"op": "test", "path": "/tags/0", "value": "other"}], 409),
    ({"op": "add"}, 400),
]


def test_a_patch_that_fails_changes_nothing(api: TestClient, model: str) -> None:
    for patch, status in BAD_PATCHES:
        where = f"{WORKFLOWS}/{submit(api, drawing(model), tags=['a'], metadata={'n': 1})['id']}"
        assert api.patch(where, json=patch).status_code == status, patch
        told = api.get(where).json()
        assert (told["tags"], told["metadata"], told["status"]) == (["a"], {"n": 1}, "unassigned")


def test_cancelling_stops_what_has_not_ended(db: Session, api: TestClient, model: str) -> None:
    where = f"{WORKFLOWS}/{submit(api, drawing(model), drawing(model))['id']}"
    draw(db, jobs_of(db)[0])
    assert api.put(where, json={"status": "canceled"}).status_code == 204
    assert api.put(where, json={"status": "canceled"}).status_code == 204
    told = api.get(where).json()
    assert [step["status"] for step in told["steps"]] == ["succeeded", "canceled"]
    assert api.put(where, json={"status": "failed"}).status_code == 400


def test_deleting_stops_it_and_keeps_what_was_drawn(db: Session, api: TestClient, model: str) -> None:
    where = f"{WORKFLOWS}/{submit(api, drawing(model), drawing(model))['id']}"
    first, second = jobs_of(db)
    draw(db, first)
    assert api.delete(where).status_code == 204
    assert (api.get(where).status_code, api.delete(where).status_code) == (404, 404)
    assert (first.status, second.status) == ("succeeded", "canceled")


def test_a_job_that_somebody_deletes_is_gone_from_the_workflow(
    db: Session, api: TestClient, user: User, model: str
) -> None:
    where = f"{WORKFLOWS}/{submit(api, drawing(model))['id']}"
    (job,) = jobs_of(db)
    run(db, job, JobState.CANCELED)
    delete_job(db, user, job.id)
    told = api.get(where).json()
    assert (told["status"], told["steps"][0]["jobs"]) == ("expired", [])


# recipes and resources


def test_a_recipe_is_one_step_whose_output_is_the_answer(
    db: Session, api: TestClient, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from app.compat.orchestration import answers

    monkeypatch.setattr(answers, "MAX_WAIT", 0.1)
    given = {"model": model, "prompt": "a mill", **SMALL}
    answer = api.post("/v2/consumer/recipes/textToImage", json=given)
    assert answer.status_code == 202
    assert [image["available"] for image in answer.json()["images"]] == [False]
    draw(db, jobs_of(db)[0])
    told = api.get(answer.headers["location"]).json()
    assert (told["status"], told["steps"][0]["$type"]) == ("succeeded", "textToImage")
    assert api.post("/v2/consumer/recipes/videoGen", json={}).status_code == 404
    asked = api.post("/v2/consumer/recipes/textToImage", json=given, params={"whatif": "true"})
    assert (asked.status_code, len(workflows(db))) == (200, 1)


def test_a_resource_is_told_by_its_air(db: Session, api: TestClient, model: str) -> None:
    lora = make_lora(db, make_user(db))
    told = api.get(f"/v2/resources/{air(lora)}").json()
    assert (told["air"], told["resourceName"], told["fileFormat"]) == (air(lora), "Windmills", "safeTensor")
    assert (told["size"], told["canGenerate"]) == (lora.files[0].size, True)
    assert api.get(f"/v2/resources/{model}").json()["fileFormat"] == "diffusers"
    missing = "urn:air:sdxl:lora:huggingface:a/b@main"
    answer = api.get(f"/v2/resources/{missing}")
    assert (answer.status_code, missing in answer.json()["detail"]) == (404, True)


def test_a_private_model_of_somebody_else_is_not_named(db: Session, api: TestClient) -> None:
    lora = make_lora(db, make_user(db))
    lora.model.visibility = "private"
    assert api.get(f"/v2/resources/{air(lora)}").status_code == 404


def test_a_token_needs_the_scope_of_each_step(db: Session, script: Script, user: User, model: str) -> None:
    for scopes in (("read",), ("train",), ("read", "publish")):
        answer = script(user, *scopes).post(WORKFLOWS, json=workflow(drawing(model)))
        assert (answer.status_code, answer.json()["code"]) == (403, "insufficient-scope")
    training = {"$type": "training", "input": {}}
    answer = script(user, "generate").post(WORKFLOWS, json=workflow(drawing(model), training))
    assert (answer.status_code, "train" in answer.json()["detail"]) == (403, True)
    assert script(user, "generate").get(WORKFLOWS).status_code == 403


def test_two_requests_at_the_same_moment_make_one_workflow(real_db: str) -> None:
    from app.compat.orchestration import service
    from app.compat.orchestration.schemas import StepIn
    from app.core.storage import get_storage

    with unit_of_work() as db:
        number, named = make_user(db).id, base_air(db, make_user(db))
    found: list[str] = []
    gate = threading.Barrier(3)

    def send() -> None:
        step = StepIn.model_validate(drawing(named))
        gate.wait()
        with unit_of_work() as own:
            made = service.submit(
                own, get_storage(), own.get_one(User, number), service.Submission([step], external_id="k")
            )
            found.append(made.id)

    threads = [threading.Thread(target=send) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with unit_of_work() as db:
        assert (len(found), len(set(found)), len(jobs_of(db))) == (3, 1, 1)
