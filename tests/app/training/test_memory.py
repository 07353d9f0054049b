"""The estimate before the start: shown, lowered where nobody chose otherwise, refused in words, corrected."""

import html
import re
from typing import Any

import pytest
from sqlalchemy.orm import Session

from app.accounts.models import User
from app.core.errors import Invalid
from app.jobs.models import Job
from app.jobs.workers import say_hello
from app.training import drafts
from app.training.memory import correction
from app.training.plan import describe_plan, plan_training
from app.training.schemas import MemoryPlan, TrainingIn
from tests.app.conftest import Browser
from tests.app.training.factories import clip_body, make_base, make_training, training_body
from tests.factories import make_user
from worker.families import catalog

SDXL = {"base_model": "SDXL 1.0", "family": "sdxl"}
GB = 10**9


def hello(
    db: Session, gigabytes: float, *, device: str = "NVIDIA RTX", queue: str = "train", **facts: Any
) -> None:
    name = f"{device} {gigabytes}"
    say_hello(
        db,
        {
            "id": name,
            "queues": [queue],
            "device": device,
            "memory_bytes": int(gigabytes * GB),
            "facts": facts,
        },
    )


def body_of(db: Session, user: User, base: dict[str, Any], **fields: Any) -> TrainingIn:
    version = make_base(db, user, **base)
    return training_body(db, user, base={"model_version_id": version.id}, sample_prompts=[], **fields)


def planned(db: Session, user: User, body: TrainingIn) -> tuple[dict[str, Any], MemoryPlan]:
    found = plan_training(db, user, body)
    assert found.memory is not None
    return found.job.params.model_dump(), found.memory


def test_without_a_machine_online_the_need_is_told_and_nothing_refused(db: Session) -> None:
    user = make_user(db)
    _, memory = planned(db, user, body_of(db, user, SDXL, params={"batch_size": 16, "resolution": 1536}))
    assert (memory.available_bytes, memory.device, memory.changes) == (None, None, [])
    assert memory.needed_bytes > 10 * GB
    assert not memory.measured


def test_a_large_card_changes_nothing(db: Session) -> None:
    user = make_user(db)
    hello(db, 80)
    params, memory = planned(db, user, body_of(db, user, SDXL))
    assert (params["batch_size"], params["gradient_accumulation"], memory.changes) == (4, 1, [])
    assert memory.device == "NVIDIA RTX"
    assert 8 * GB < memory.needed_bytes < memory.available_bytes == round(0.94 * 80 * GB) - (512 << 20)


def test_on_a_small_card_the_batch_shrinks_and_is_made_up_for(db: Session) -> None:
    user = make_user(db)
    hello(db, 10)
    body = body_of(db, user, SDXL)
    params, memory = planned(db, user, body)
    assert params["batch_size"] * params["gradient_accumulation"] == 4
    assert params["batch_size"] < 4
    assert [change.field for change in memory.changes] == ["batch_size", "gradient_accumulation"]
    assert (
        memory.changes[0].detail
        == f"Batch size {params['batch_size']}, because NVIDIA RTX has room for 8.9 GB."
    )
    assert memory.needed_bytes <= memory.available_bytes
    plan = describe_plan(db, plan_training(db, user, body))
    assert plan.memory == memory
    assert plan.memory_bytes == memory.needed_bytes


def test_gradient_checkpointing_comes_first(db: Session) -> None:
    user = make_user(db)
    hello(db, 6)
    params, memory = planned(db, user, body_of(db, user, {"base_model": "SD 1.5", "family": "sd1"}))
    assert (params["gradient_checkpointing"], params["batch_size"]) == (True, 4)
    assert [(c.field, c.before, c.after) for c in memory.changes] == [("gradient_checkpointing", False, True)]


def test_what_was_chosen_is_refused_with_what_would_fit(db: Session) -> None:
    user = make_user(db)
    hello(db, 6)
    chosen = {"gradient_checkpointing": False, "batch_size": 8}
    body = body_of(db, user, {"base_model": "SD 1.5", "family": "sd1"}, params=chosen)
    with pytest.raises(Invalid) as caught:
        plan_training(db, user, body)
    error = caught.value
    assert error.code == "out-of-memory-expected"
    assert "NVIDIA RTX has room for 5.1 GB. It fits with gradient checkpointing on" in error.detail
    assert error.errors[0].pointer == "#/params/gradient_checkpointing"
    fitting = body.model_copy(update={"params": chosen | error.extra["would_fit"]})
    assert plan_training(db, user, fitting).memory is not None


def test_a_resolution_is_only_suggested(db: Session) -> None:
    user = make_user(db)
    hello(db, 8.5)
    body = body_of(db, user, SDXL, params={"resolution": 1536, "network_dim": 16})
    with pytest.raises(Invalid) as caught:
        plan_training(db, user, body)
    assert caught.value.extra["would_fit"]["resolution"] < 1536
    smaller = body.model_copy(
        update={"params": body.params | {"resolution": caught.value.extra["would_fit"]["resolution"]}}
    )
    assert plan_training(db, user, smaller).memory is not None


def test_a_network_that_is_too_large_is_told(db: Session) -> None:
    user = make_user(db)
    hello(db, 9)
    with pytest.raises(Invalid) as caught:
        plan_training(db, user, body_of(db, user, SDXL, params={"network_dim": 128}))
    assert caught.value.extra["would_fit"]["network_dim"] < 128


def test_where_nothing_fits_it_says_what_else_to_do(db: Session) -> None:
    user = make_user(db)
    hello(db, 4)
    with pytest.raises(Invalid, match="smaller base model, or add a machine with more memory") as caught:
        plan_training(db, user, body_of(db, user, SDXL))
    assert caught.value.extra["would_fit"] == {}


def large_clips(db: Session, user: User) -> TrainingIn:
    """On a network of 28 GB."""
    return clip_body(db, user, family="wan_14b", sample_prompts=[])


@pytest.mark.parametrize(
    ("host", "field", "quantised", "words"),
    [
        (
            64, "streamed", False,
            "Blocks of the model wait in the machine's own memory for their turn (slower steps), because "
            "NVIDIA RTX has room for 22.0 GB. About 33.1 GB of the machine's own memory are taken.",
        ),
        (
            20, "quantised", True,
            "The base model is held with 8 bits a weight (a little less exact), because NVIDIA RTX has room "
            "for 22.0 GB and 20.0 GB of the machine's own memory are free.",
        ),
    ],
)  # fmt: skip
def test_a_large_network_waits_outside_of_the_card_and_is_rounded_where_that_is_full(
    db: Session, host: int, field: str, quantised: bool, words: str
) -> None:
    user = make_user(db)
    hello(db, 24, memory_free_bytes=host * GB)
    found = plan_training(db, user, large_clips(db, user))
    assert (found.job.streamed, found.job.quantised) == (True, quantised)
    assert found.memory
    (change,) = (change for change in found.memory.changes if change.field == field)
    assert change.detail == words


def test_too_little_of_the_machines_own_memory_is_told_before_the_start(db: Session) -> None:
    user = make_user(db)
    hello(db, 16, memory_free_bytes=8 * GB)
    with pytest.raises(Invalid) as caught:
        plan_training(db, user, large_clips(db, user))
    words = "Weights could wait in the machine's own memory, but they take 17.6 GB there, of which 8.0 GB are"
    assert words in caught.value.detail


def test_the_machine_with_most_memory_counts_and_only_those_that_train(db: Session) -> None:
    user = make_user(db)
    hello(db, 6)
    hello(db, 24, device="NVIDIA 24")
    hello(db, 80, device="NVIDIA 80", queue="generate")
    _, memory = planned(db, user, body_of(db, user, SDXL))
    assert memory.device == "NVIDIA 24"


def test_on_a_processor_the_free_memory_counts(db: Session) -> None:
    user = make_user(db)
    hello(db, 64, device="CPU", memory_free_bytes=5 * GB)
    _, memory = planned(db, user, training_body(db, user))
    assert (memory.device, memory.available_bytes, memory.measured) == ("this machine", 5 * GB, True)
    with pytest.raises(Invalid, match=r"this machine has room for 5\.0 GB"):
        plan_training(db, user, body_of(db, user, SDXL))


def test_what_our_own_jobs_hold_on_that_machine_counts_as_free(db: Session) -> None:
    user = make_user(db)
    hello(db, 32, device="CPU", memory_free_bytes=5 * GB, memory_own_bytes=1 * GB)
    hello(db, 31, device="CPU", queue="generate", memory_free_bytes=5 * GB, memory_own_bytes=2 * GB)
    say_hello(db, {"id": "far", "queues": ["generate"], "host": "far", "facts": {"memory_own_bytes": 9 * GB}})
    assert planned(db, user, training_body(db, user))[1].available_bytes == 8 * GB


def ran(db: Session, user: User, peak: float, *, status: str = "succeeded", kind: str = "cpu") -> Job:
    """A run of the starter that took `peak` of its estimate."""
    job = make_training(db, user)
    estimate = job.input["memory"]["needed_bytes"] / (correction(db, catalog.specs()["starter"], "cpu") or 1)
    job.status, job.error = status, {"code": "out-of-memory"} if status == "failed" else None
    job.metrics = {"peak_memory_bytes": round(peak * estimate), "device_kind": kind}
    db.flush()
    return job


def test_runs_correct_the_estimate_by_the_largest_share(db: Session) -> None:
    user, spec = make_user(db), catalog.specs()["starter"]
    hello(db, 64, device="CPU")
    before = planned(db, user, training_body(db, user))[1]
    assert correction(db, spec, "cpu") is None
    ran(db, user, 0.8)
    ran(db, user, 1.2)
    assert correction(db, spec, "cpu") == pytest.approx(1.2, rel=0.01)
    assert correction(db, spec, "cuda") is None
    after = planned(db, user, training_body(db, user))[1]
    assert after.needed_bytes == pytest.approx(1.2 * before.needed_bytes, rel=0.01)


def test_a_run_that_found_memory_full_teaches_and_other_failures_do_not(db: Session) -> None:
    user, spec = make_user(db), catalog.specs()["starter"]
    hello(db, 64, device="CPU")
    ran(db, user, 1.3, status="failed")
    ran(db, user, 1.9, status="canceled")
    assert correction(db, spec, "cpu") == pytest.approx(1.3, rel=0.01)


def test_a_correction_beyond_belief_is_cut(db: Session) -> None:
    user, spec = make_user(db), catalog.specs()["starter"]
    hello(db, 64, device="CPU")
    ran(db, user, 0.1)
    assert correction(db, spec, "cpu") == 0.5
    ran(db, user, 9.0)
    assert correction(db, spec, "cpu") == 3.0


def test_three_timed_steps_serve_until_something_ran(db: Session) -> None:
    user, spec = make_user(db), catalog.specs()["starter"]
    hello(db, 64, device="CPU", train_memory_bytes={"starter": 700_000_000})
    assert 0.8 < (correction(db, spec, "cpu") or 0) < 1.4
    ran(db, user, 0.7)
    assert correction(db, spec, "cpu") == pytest.approx(0.7, rel=0.01)


def test_the_dry_run_tells_it_over_rest(db: Session, browser: Browser) -> None:
    user = make_user(db)
    hello(db, 10)
    body = body_of(db, user, SDXL).model_dump(mode="json")
    answer = browser(user).post("/api/v1/trainings", params={"dry_run": "true"}, json=body)
    assert answer.status_code == 200, answer.text
    memory = answer.json()["memory"]
    assert set(memory) == {"needed_bytes", "available_bytes", "device", "measured", "changes"}
    body["params"] = {"batch_size": 16}
    refused = browser(user).post("/api/v1/trainings", json=body)
    assert refused.status_code == 422
    assert refused.json()["code"] == "out-of-memory-expected"
    assert refused.json()["would_fit"]["batch_size"] < 16


def review(db: Session, browser: Browser, user: User, base: dict[str, Any], **params: Any) -> tuple[str, str]:
    """The address of a draft's review, and its page."""
    draft = drafts.create_draft(db, user)
    body = body_of(db, user, base)
    draft.dataset_id = body.dataset
    draft.fields = {
        "name": "Tuscany",
        "type": "style",
        "trigger_word": "tuscany",
        "base": body.base.model_version_id,
        "params": params,
    }
    db.flush()
    address = f"/train/{draft.id}/review"
    return address, browser(user).get(address).text


def test_the_review_says_what_is_needed_of_what_and_what_was_changed(db: Session, browser: Browser) -> None:
    user = make_user(db)
    hello(db, 6)
    _, page = review(db, browser, user, {"base_model": "SD 1.5", "family": "sd1"})
    assert re.search(r"<dt>Memory</dt><dd[^>]*>Needs about \d\.\d GB of 5\.1 GB \(NVIDIA RTX\)</dd>", page)
    assert "Gradient checkpointing on, because NVIDIA RTX has room for 5.1 GB." in page


def test_the_review_without_a_machine_online_says_so(db: Session, browser: Browser) -> None:
    _, page = review(db, browser, make_user(db), SDXL)
    assert "No training machine is online to compare that with." in page


def test_a_refusal_offers_the_settings_that_fit(db: Session, browser: Browser) -> None:
    user = make_user(db)
    hello(db, 6)
    address, page = review(
        db,
        browser,
        user,
        {"base_model": "SD 1.5", "family": "sd1"},
        gradient_checkpointing=False,
        batch_size="8",
    )
    assert "It fits with gradient checkpointing on" in page
    offered = html.unescape(re.findall(r'name="cure" value="([^"]+)"', page)[0])
    fields = {"p-gradient_checkpointing": "false", "p-batch_size": "8", "cure": offered}
    cured = browser(user).post(address, data=fields).text
    assert "Use settings that fit" not in cured
    assert "Needs about" in cured


def test_the_job_page_tells_what_it_took_beside_the_plan(db: Session, browser: Browser) -> None:
    user = make_user(db)
    job = make_training(db, user, epochs=1)
    job.metrics = {**job.metrics, "peak_memory_bytes": 700_000_000, "memory_retries": 1}
    db.flush()
    page = browser(user).get(f"/trainings/{job.id}").text
    assert re.search(r"Took 0\.7 GB of memory; \d\.\d GB were planned\. Memory ran out once", page)
