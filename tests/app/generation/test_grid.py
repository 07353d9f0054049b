"""X/Y grids: values as people type them, cells that say only what differs, limits with words."""

from typing import Any

import pytest
from sqlalchemy.orm import Session

from app.accounts.models import User
from app.contract.events import Finished
from app.contract.jobs import GenerateJob
from app.contract.passes import picture_job
from app.core.errors import Conflict, Invalid
from app.generation import service, sheet
from app.generation.plan import plan_generation
from app.generation.values import numbers_of, words_of
from tests.app.generation.making import body, deliver, pixels_of
from tests.app.training.factories import make_base, make_lora, make_training
from tests.factories import make_user


@pytest.mark.parametrize(
    ("typed", "values"),
    [
        ("4, 8, 12", [4, 8, 12]),
        ("0.4-1.2 x5", [0.4, 0.6, 0.8, 1.0, 1.2]),
        ("0.4-1.2 [3]", [0.4, 0.8, 1.2]),
        ("10-30 +10", [10, 20, 30]),
        ("10-30 (+10), 5", [10, 20, 30, 5]),
        ("-0.5-0.5 x3", [-0.5, 0, 0.5]),
        ("3-1 +1", [3, 2, 1]),
        ([1, 2.5, "4"], [1, 2.5, 4]),
    ],
)
def test_numbers_as_people_type_them(typed: Any, values: list[float]) -> None:
    assert numbers_of(typed) == pytest.approx(values)


def test_whole_numbers() -> None:
    assert numbers_of("1-4", whole=True) == [1, 2, 3, 4]
    assert numbers_of("1-10 x4", whole=True) == [1, 4, 7, 10]
    with pytest.raises(ValueError, match="whole numbers"):
        numbers_of("1.5", whole=True)


@pytest.mark.parametrize("typed", ["", " , ", "many", "0.4-1.2", "1-1000000 +1", "0-1 x900", "1-2 +0"])
def test_values_that_mean_nothing_are_refused_in_words(typed: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        numbers_of(typed)


def test_a_comma_inside_quotes_is_part_of_the_value() -> None:
    assert words_of('red, "blue, dark", green') == ["red", "blue, dark", "green"]


@pytest.fixture
def user(db: Session) -> User:
    return make_user(db)


def planned(
    db: Session, user: User, x: dict[str, Any], y: dict[str, Any] | None = None, **rest: Any
) -> GenerateJob:
    grid = {"x": x, "y": y, "baseline": rest.pop("baseline", False)}
    base = rest.pop("base", None) or make_base(db, user).id
    return plan_generation(db, user, body(base, seed=7, grid=grid, **rest)).job


def test_cells_say_only_what_differs(db: Session, user: User) -> None:
    job = planned(
        db,
        user,
        {"axis": "steps", "values": "10, 20"},
        {"axis": "sampler", "values": "Euler a, DPM++ 2M Karras"},
    )
    assert job.grid is not None
    assert (job.grid.x_labels, job.grid.y_labels) == (("10", "20"), ("Euler a", "DPM++ 2M Karras"))
    assert [(cell.x, cell.y, cell.steps, cell.sampler) for cell in job.grid.cells] == [
        (0, 0, 10, "Euler a"), (1, 0, None, "Euler a"), (0, 1, 10, None), (1, 1, None, None)
    ]  # fmt: skip
    assert job.seeds == (7, 7, 7, 7)
    assert picture_job(job, 0).steps == 10


def test_strengths_of_a_lora_with_a_column_without_it(db: Session, user: User) -> None:
    lora = make_lora(db, user)
    job = planned(
        db, user, {"axis": "lora_strength", "values": "0.4, 0.8"}, {"axis": "cfg_scale", "values": [3]},
        resources=[{"model_version_id": lora.id, "strength": 0.8}], baseline=True,
    )  # fmt: skip
    assert job.grid is not None
    assert job.grid.x_axis == "Strength of Windmills"
    assert job.grid.x_labels == ("without Windmills", "0.4", "0.8")
    assert [[x.strength for x in picture_job(job, n).loras] for n in range(3)] == [[], [0.4], [0.8]]


def test_epochs_of_a_training_and_their_strength(db: Session, user: User) -> None:
    training = make_training(db, user, epochs=3)
    base = training.payload["base"]["model_version_id"]
    job = planned(
        db, user, {"axis": "lora_strength", "values": "0.5, 1"},
        {"axis": "epoch", "values": "all", "training": training.id}, base=base, baseline=True,
    )  # fmt: skip
    assert job.grid is not None
    assert job.grid.y_labels == ("1", "2", "3")
    drawn = [[(x.name, x.strength) for x in picture_job(job, n).loras] for n in range(9)]
    assert drawn[0] == []
    assert drawn[1] == [("Tuscany-000001", 0.5)]
    assert drawn[8] == [("Tuscany-000003", 1.0)]


def test_an_epoch_in_the_list_is_replaced_not_doubled(db: Session, user: User) -> None:
    training = make_training(db, user, epochs=2)
    base = training.payload["base"]["model_version_id"]
    epoch = {"id": training.id, "epoch": 2, "strength": 0.6}
    job = planned(db, user, {"axis": "epoch", "values": "1, 2"}, base=base, checkpoint_of_training=epoch)
    assert [[(x.name, x.strength) for x in picture_job(job, n).loras] for n in range(2)] == [
        [("Tuscany-000001", 0.6)], [("Tuscany-000002", 0.6)]
    ]  # fmt: skip


def test_words_of_the_prompt_are_searched_and_replaced(db: Session, user: User) -> None:
    job = planned(
        db, user, {"axis": "prompt", "values": "red, blue"}, prompt="red house", negative_prompt="red"
    )
    assert [picture_job(job, n).prompt for n in range(2)] == ["red house", "blue house"]
    assert picture_job(job, 1).negative_prompt == "blue"
    said = planned(db, user, {"axis": "prompt", "values": "blue", "search": "red"}, prompt="red house")
    assert picture_job(said, 0).prompt == "blue house"


def test_seeds_are_the_pictures_own(db: Session, user: User) -> None:
    job = planned(db, user, {"axis": "seed", "values": "1-3"})
    assert job.seeds == (1, 2, 3)


@pytest.mark.parametrize(
    ("grid", "words"),
    [
        ({"x": {"axis": "steps", "values": "1-9"}, "y": {"axis": "seed", "values": "1-9"}}, "81 pictures"),
        ({"x": {"axis": "steps", "values": "900"}}, "1 to 60 steps"),
        ({"x": {"axis": "sampler", "values": "Magic"}}, "choose one of"),
        ({"x": {"axis": "sampler", "values": "Euler a Karras"}}, "no Karras"),
        ({"x": {"axis": "prompt", "values": "cat, dog"}}, "not in the prompt"),
        ({"x": {"axis": "lora_strength", "values": "1"}}, "add one first"),
        ({"x": {"axis": "epoch", "values": "1"}}, "choose a training"),
        ({"x": {"axis": "steps", "values": "4"}, "y": {"axis": "steps", "values": "8"}}, "same as the first"),
        ({"x": {"axis": "steps", "values": "4"}, "baseline": True}, "no LoRA to leave out"),
        ({"x": {"axis": "steps", "values": "4", "search": "a"}}, "has a meaning only for prompt"),
    ],
)
def test_what_cannot_be_a_grid_is_refused_in_words(
    db: Session, user: User, grid: dict[str, Any], words: str
) -> None:
    with pytest.raises(Invalid, match=words):
        plan_generation(db, user, body(make_base(db, user).id, grid=grid))


def test_a_grid_has_no_quantity(db: Session, user: User) -> None:
    grid = {"x": {"axis": "steps", "values": "4"}}
    with pytest.raises(Invalid, match="leave quantity out"):
        plan_generation(db, user, body(make_base(db, user).id, grid=grid, quantity=2))


def test_count_and_work_are_those_of_the_cells(db: Session, user: User) -> None:
    base = make_base(db, user).id
    one = service.estimate(db, user, body(base, grid={"x": {"axis": "steps", "values": "10, 20, 30"}}))
    assert one.pictures == 3
    job = service.start_generation(db, user, body(base, steps=20))
    service.complete_generation(db, job, Finished(outcome="succeeded", run_seconds=2.0))
    job.status = "succeeded"
    db.flush()
    three = service.estimate(db, user, body(base, grid={"x": {"axis": "steps", "values": "10, 20, 30"}}))
    assert three.eta_seconds == pytest.approx(6.0)


def test_the_table_is_drawn_as_one_labelled_picture(db: Session, user: User) -> None:
    grid = {"x": {"axis": "steps", "values": "4, 8"}, "y": {"axis": "seed", "values": "1, 2"}}
    job = service.start_generation(db, user, body(make_base(db, user).id, grid=grid))
    table = sheet.get_table(db, user, job.id)
    with pytest.raises(Conflict):
        sheet.draw(table)
    third = deliver(db, job, 2)
    table = sheet.get_table(db, user, job.id)
    assert table.rows == [[None, None], [third, None]]
    picture = pixels_of(sheet.draw(table))
    assert picture.width > 2 * 128
    assert picture.height > 2 * 96
    assert third.meta["seed"] == 2
    assert third.meta["steps"] == 4
