"""From a request to a job: every default filled in, every wrong field named."""

from typing import Any

import pytest
from sqlalchemy.orm import Session

from app.core.errors import Invalid, NotFound
from app.jobs.workers import say_hello
from app.training.plan import describe_plan, file_stem, plan_training
from tests.app.training.factories import make_base, make_training, training_body
from tests.factories import make_dataset, make_item, make_user


def test_a_plan_holds_the_snapshot_and_all_settings(db: Session) -> None:
    user = make_user(db)
    planned = plan_training(db, user, training_body(db, user))
    assert len(planned.job.items) == 10
    assert planned.job.params.network_dim > 0
    assert [p.seed for p in planned.job.sample_prompts] == [1, 2, 3]
    assert planned.job.sample_prompts[0].prompt == "tuscany, olive tree, noon"
    assert planned.job.sample_prompts[0].width == 128
    assert planned.steps == describe_plan(db, planned).steps


@pytest.mark.parametrize(
    ("params", "pointer"),
    [
        ({"epochs": 0}, "#/params/epochs"),
        ({"no_such": 1}, "#/params/no_such"),
        ({"optimizer": "sgd"}, "#/params/optimizer"),
        ({"keep_tokens": 2}, "#/params/keep_tokens"),
    ],
)
def test_a_wrong_setting_is_named(db: Session, params: dict[str, Any], pointer: str) -> None:
    user = make_user(db)
    with pytest.raises(Invalid) as caught:
        plan_training(db, user, training_body(db, user, params=params))
    assert [e.pointer for e in caught.value.errors] == [pointer]


def test_presets_scale_the_steps(db: Session) -> None:
    user = make_user(db)
    body = training_body(db, user)
    steps = {
        p: plan_training(db, user, body.model_copy(update={"preset": p})).steps
        for p in ("quick", "normal", "best")
    }
    assert steps["quick"] == pytest.approx(steps["normal"] * 0.4, rel=0.1)
    assert steps["best"] == pytest.approx(steps["normal"] * 1.6, rel=0.1)


def test_two_pictures_are_too_few(db: Session) -> None:
    user = make_user(db)
    with pytest.raises(Invalid, match="at least 3 pictures") as caught:
        plan_training(db, user, training_body(db, user, items=2))
    assert caught.value.code == "dataset-too-small"


def test_a_set_without_labels_needs_a_trigger_word(db: Session) -> None:
    user = make_user(db)
    body = training_body(db, user, trigger_word="")
    for item in plan_training(db, user, body).job.items:
        assert item.label
    unlabelled = make_dataset(db, user)
    for n in range(4):
        make_item(db, unlabelled, n, label="")
    with pytest.raises(Invalid) as caught:
        plan_training(db, user, body.model_copy(update={"dataset": unlabelled.id}))
    assert caught.value.code == "dataset-unlabeled"


def test_somebody_elses_set_does_not_exist(db: Session) -> None:
    user, other = make_user(db), make_user(db)
    body = training_body(db, user)
    with pytest.raises(NotFound):
        plan_training(db, other, body)


def test_a_base_of_an_unknown_family_is_refused(db: Session) -> None:
    user = make_user(db)
    base = make_base(db, user, base_model="Flux.1 D", family=None)
    with pytest.raises(Invalid) as caught:
        plan_training(db, user, training_body(db, user, base={"model_version_id": base.id}))
    assert caught.value.code in ("base-model-unsupported", "base-model-missing")


def test_an_air_names_the_base(db: Session) -> None:
    user = make_user(db)
    base = make_base(db, user)
    air = f"urn:air:starter1:checkpoint:civitai:{base.model_id}@{base.id}"
    planned = plan_training(db, user, training_body(db, user, base={"air": air}))
    assert planned.job.base.model_version_id == base.id


def test_an_air_of_another_model_is_refused(db: Session) -> None:
    user = make_user(db)
    base = make_base(db, user)
    air = f"urn:air:starter1:checkpoint:civitai:{base.model_id + 1}@{base.id}"
    with pytest.raises(Invalid) as caught:
        plan_training(db, user, training_body(db, user, base={"air": air}))
    assert [e.pointer for e in caught.value.errors] == ["#/base/air"]


def test_training_further_keeps_the_layers(db: Session) -> None:
    user = make_user(db)
    shape = {"network_dim": 4, "network_alpha": 2, "conv_dim": 3, "text_encoder_lr": 5e-5}
    first = make_training(db, user, epochs=2, params=shape)
    further = {"continue_from": {"training": first.id, "epoch": 2}}
    planned = plan_training(db, user, training_body(db, user, **further))
    assert planned.job.continue_from is not None
    was, now = first.payload["params"], planned.job.params.model_dump()
    kept = ("network_dim", "network_alpha", "conv_dim", "conv_alpha", "text_encoder_lr")
    assert {name: now[name] for name in kept} == {name: was[name] for name in kept}


@pytest.mark.parametrize(
    ("params", "pointer"),
    [
        ({"network_dim": 32}, "#/params/network_dim"),
        ({"network_alpha": 1}, "#/params/network_alpha"),
        ({"conv_dim": 4, "conv_alpha": 2}, "#/params/conv_dim"),
        ({"text_encoder_lr": 1e-5}, "#/params/text_encoder_lr"),
    ],
)
def test_training_further_with_other_layers_is_refused(
    db: Session, params: dict[str, Any], pointer: str
) -> None:
    user = make_user(db)
    first = make_training(db, user, epochs=1)
    further = {"continue_from": {"training": first.id, "epoch": 1}, "params": params}
    with pytest.raises(Invalid, match="its own layers") as caught:
        plan_training(db, user, training_body(db, user, **further))
    assert pointer in [e.pointer for e in caught.value.errors]


def test_figures_that_were_never_measured_are_null(db: Session) -> None:
    user = make_user(db)
    plan = describe_plan(db, plan_training(db, user, training_body(db, user)))
    assert (plan.eta_seconds, plan.eta_basis) == (None, None)


def test_history_gives_the_estimate(db: Session) -> None:
    user = make_user(db)
    first = make_training(db, user, epochs=2)
    first.metrics = {**first.metrics, "run_seconds": 50.0}
    db.flush()
    planned = plan_training(db, user, training_body(db, user, params={"max_steps": 40}))
    plan = describe_plan(db, planned)
    assert plan.eta_basis == "history"
    assert plan.eta_seconds == pytest.approx(100.0, rel=0.01)


def test_a_short_trial_does_not_spoil_the_estimate(db: Session) -> None:
    user = make_user(db)
    for steps, seconds in ((200, 100.0), (4, 25.0)):
        job = make_training(db, user, epochs=2)
        work = job.metrics["work"] / job.metrics["steps"] * steps
        job.metrics = {**job.metrics, "run_seconds": seconds, "work": work}
    db.flush()
    plan = describe_plan(db, plan_training(db, user, training_body(db, user, params={"max_steps": 400})))
    assert plan.eta_basis == "history"
    assert plan.eta_seconds == pytest.approx(200.0, rel=0.01)


def test_three_timed_steps_serve_where_only_trials_were_run(db: Session) -> None:
    user = make_user(db)
    measured = {"seconds_per_step": {"starter": 0.5}, "train_memory_bytes": {"starter": 600 << 20}}
    say_hello(db, {"id": "w", "queues": ["train"], "host": "here", "device": "CPU", "facts": measured})
    trial = make_training(db, user, epochs=2)
    work = trial.metrics["work"] / trial.metrics["steps"] * 4
    trial.metrics = {**trial.metrics, "run_seconds": 25.0, "work": work}
    db.flush()
    plan = describe_plan(db, plan_training(db, user, training_body(db, user, params={"max_steps": 400})))
    assert (plan.eta_seconds, plan.eta_basis) == (pytest.approx(200.0), "calibration")
    assert plan.memory is not None
    assert plan.memory_bytes == plan.memory.needed_bytes > 400 << 20


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("Tuscan afternoon", "Tuscan_afternoon"),
        ("été/../x", "ete_.._x"),
        ("Città vecchia", "Citta_vecchia"),
        ("絵", "lora"),
        ("a" * 80, "a" * 60),
    ],
)
def test_file_stems_are_safe_everywhere(name: str, stem: str) -> None:
    assert file_stem(name) == stem
