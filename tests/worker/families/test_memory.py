"""What a training takes: each setting changes the phase that it should, and remedies come in their order."""

from typing import Any

import pytest

from app.contract.jobs import SamplePrompt, TrainItem, TrainJob
from tests.worker.tiny import tiny_job, tiny_pictures
from worker.families import catalog
from worker.families.memory import (
    Figures,
    Needs,
    fit,
    latent_frames,
    longest_window,
    needs,
    remedies,
    weight_ways,
)
from worker.families.resolve import resolve_params

SD1 = catalog.specs()["sd1"]
GB = 10**9


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> TrainJob:
    pictures = tiny_pictures(tmp_path_factory.mktemp("pictures"), 4)
    params = resolve_params(SD1, "style", "normal", 4, {})
    return tiny_job(pictures).model_copy(update={"params": params})


def changed(job: TrainJob, **params: Any) -> TrainJob:
    return job.model_copy(update={"params": job.params.model_copy(update=params)})


def of(job: TrainJob, device: str = "cuda") -> Needs:
    found = needs(SD1, job, device)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("change", "phases"),
    [
        ({"batch_size": 8}, {"training"}),
        ({"gradient_accumulation": 4}, set()),
        ({"network_dim": 64}, {"training", "sampling"}),
        ({"optimizer": "prodigy"}, {"training", "sampling"}),
        ({"conv_dim": 8}, {"training", "sampling"}),
        ({"text_encoder_lr": 1e-4}, {"training", "sampling"}),
        ({"precision": "fp32"}, {"training", "sampling"}),
        ({"resolution": 768}, {"caching", "training", "sampling"}),
        ({"flip": True}, {"caching", "training", "sampling"}),
    ],
)
def test_a_setting_costs_in_its_phases(plain: TrainJob, change: dict[str, Any], phases: set[str]) -> None:
    before, after = of(plain), of(changed(plain, **change))
    grown = {p for p in ("caching", "training", "sampling") if getattr(after, p) > getattr(before, p)}
    assert grown == phases


def test_checkpointing_saves_in_training_alone(plain: TrainJob) -> None:
    before, after = of(plain), of(changed(plain, gradient_checkpointing=True))
    assert after.training < before.training
    assert (after.caching, after.sampling) == (before.caching, before.sampling)


def test_the_model_waits_outside_of_a_card_while_the_set_is_encoded(plain: TrainJob) -> None:
    assert SD1.memory is not None
    more = SD1.memory.devices["cpu"].overhead - SD1.memory.devices["cuda"].overhead
    assert of(plain, "cpu").caching - of(plain).caching - more == pytest.approx(
        2 * SD1.memory.model, rel=0.01
    )


def test_samples_cost_by_the_largest_and_little_in_tiles(plain: TrainJob) -> None:
    sides = (512, 1024)
    prompts = tuple(SamplePrompt(prompt="", width=side, height=side) for side in sides)
    large = plain.model_copy(update={"sample_prompts": prompts})
    small = plain.model_copy(update={"sample_prompts": prompts[:1]})
    assert of(large).sampling > of(small).sampling > of(plain).sampling
    assert of(large.model_copy(update={"sparing": True})).sampling < of(small).sampling


def test_a_family_that_nothing_is_known_of_has_no_estimate(plain: TrainJob) -> None:
    unknown = SD1.model_copy(update={"memory": None})
    assert needs(unknown, plain, "cuda") is None
    assert fit(unknown, plain, "cuda", 0) is None


def test_remedies_come_from_the_cheapest_to_the_dearest(plain: TrainJob) -> None:
    job, seen = plain, []
    while cure := next(remedies(job), None):
        job = cure[0]
        p = job.params
        seen.append((p.gradient_checkpointing, p.batch_size, p.gradient_accumulation))
    assert seen == [(True, 4, 1), (True, 2, 2), (True, 1, 4)]
    assert [cure[0].sparing for cure in remedies(plain, phase="sampling")] == [True]
    assert list(remedies(plain, {"gradient_checkpointing", "batch_size"})) == []


def test_an_odd_batch_is_divided_whole(plain: TrainJob) -> None:
    cure, _ = next(remedies(changed(plain, batch_size=9, gradient_checkpointing=True)))
    assert (cure.params.batch_size, cure.params.gradient_accumulation) == (3, 3)


def test_accumulation_stays_within_its_limit(plain: TrainJob) -> None:
    job = changed(plain, batch_size=2, gradient_accumulation=16, gradient_checkpointing=True)
    assert list(remedies(job)) == []


def fitted(job: TrainJob, available: float, **options: Any) -> list[str]:
    """Names of what was changed so that it fits."""
    found = fit(SD1, job, "cuda", round(available), **options)
    assert found is not None
    assert found.fits
    return [change.field for change in found.changes]


def test_as_little_as_needed_is_changed(plain: TrainJob) -> None:
    assert fitted(plain, 80 * GB) == []
    assert fitted(plain, 6 * GB) == ["gradient_checkpointing"]
    both = ["gradient_checkpointing", "batch_size", "gradient_accumulation"]
    assert fitted(plain, 3.2 * GB) == both
    assert fitted(plain, 6 * GB, fixed=["gradient_checkpointing"]) == both[1:]


def test_a_correction_counts_before_it_is_judged(plain: TrainJob) -> None:
    tight = of(plain).peak + 1
    assert fitted(plain, tight) == []
    assert fitted(plain, tight, factor=1.1) == ["gradient_checkpointing"]


CLIPS = catalog.specs()["video_starter"].model_copy(update={"memory": SD1.memory})


@pytest.fixture(scope="module")
def moving(plain: TrainJob) -> TrainJob:
    """Three clips of two seconds and a picture."""
    file = plain.items[0].file
    clip = TrainItem(file=file, width=64, height=64, label="", frames=32, fps=16)
    params = resolve_params(CLIPS, "style", "normal", 4, {"clip_frames": 9})
    prompt = SamplePrompt(prompt="", width=64, height=64, frames=17)
    return plain.model_copy(
        update={"params": params, "items": (clip, clip, clip, plain.items[0]), "sample_prompts": (prompt,)}
    )


@pytest.mark.parametrize(
    ("change", "phases"),
    [
        ({"clip_frames": 13}, {"caching", "training", "sampling"}),
        ({"clip_count": 3}, {"caching", "training", "sampling"}),
        ({"clip_windows": "head"}, set()),
        ({"clip_windows": "full"}, {"caching", "training"}),
        ({"flow_shift": 5.0}, set()),
    ],
)
def test_clips_cost_by_their_windows(moving: TrainJob, change: dict[str, Any], phases: set[str]) -> None:
    before, after = needs(CLIPS, moving, "cuda"), needs(CLIPS, changed(moving, **change), "cuda")
    assert before
    assert after
    grown = {p for p in ("caching", "training", "sampling") if getattr(after, p) > getattr(before, p)}
    assert grown == phases


def test_steps_and_samples_grow_with_latent_frames(moving: TrainJob) -> None:
    assert (latent_frames(CLIPS, 1), latent_frames(CLIPS, 5), latent_frames(CLIPS, 17)) == (1, 2, 5)
    assert latent_frames(SD1, 17) == 1
    assert longest_window(CLIPS, moving) == 9
    stills = moving.model_copy(update={"items": moving.items[3:]})
    assert longest_window(CLIPS, stills) == 1
    short = moving.model_copy(
        update={"sample_prompts": (moving.sample_prompts[0].model_copy(update={"frames": 1}),)}
    )
    most, least = needs(CLIPS, moving, "cuda"), needs(CLIPS, short, "cuda")
    assert most
    assert least
    assert most.sampling > least.sampling
    assert most.training == least.training


def test_lengths_that_are_not_known_are_the_usual_ones(moving: TrainJob) -> None:
    """A plan may know only how many there are."""
    counted = Figures(moving.params, moving.sample_prompts, items=range(4))
    assert longest_window(CLIPS, counted) == 9
    assert needs(CLIPS, counted, "cuda")


LARGE = catalog.specs()["wan_14b"]


@pytest.fixture(scope="module")
def large(moving: TrainJob) -> TrainJob:
    """On a network of 28 GB in bf16."""
    params = resolve_params(LARGE, "style", "normal", 4, {"clip_frames": 9})
    assert (params.precision, params.gradient_checkpointing, params.batch_size) == ("bf16", True, 1)
    return moving.model_copy(update={"params": params, "sample_prompts": ()})


def laddered(job: TrainJob, card: float, host: float, **options: Any) -> tuple[list[str], bool, float]:
    """What was changed, whether it fits, and GB of host memory that are taken or were lacking."""
    found = fit(LARGE, job, "cuda", round(card * GB), host=round(host * GB), **options)
    assert found
    return [change.field for change in found.changes], found.fits, (found.host or found.needs.host) / GB


def test_weights_wait_outside_before_they_lose_digits(large: TrainJob) -> None:
    assert laddered(large, 80, 128) == ([], True, 0)
    assert laddered(large, 24, 64) == (["streamed"], True, pytest.approx(33.1, abs=0.1))
    assert laddered(large, 24, 24) == (["quantised"], True, 0)
    assert laddered(large, 13, 24) == (
        ["quantised", "streamed", "sparing"],
        True,
        pytest.approx(17.6, abs=0.1),
    )
    *_, fits, lacking = laddered(large, 13, 12)
    assert (fits, lacking) == (False, pytest.approx(17.6, abs=0.1))


def test_blocks_wait_outside_only_with_checkpointing(large: TrainJob) -> None:
    plain = changed(large, gradient_checkpointing=False)
    assert laddered(plain, 24, 64)[0] == ["gradient_checkpointing", "streamed"]
    assert "streamed" not in laddered(plain, 24, 64, fixed=["gradient_checkpointing"])[0]


def test_what_a_card_has_no_need_of_is_counted_beside_it(large: TrainJob) -> None:
    facts = LARGE.memory
    assert facts
    whole, streamed = (needs(LARGE, large.model_copy(update={"streamed": s}), "cuda") for s in (False, True))
    assert whole
    assert streamed
    assert whole.training - streamed.training == 2 * (facts.blocks - 2 * facts.block)
    assert (whole.host, whole.caching) == (0, streamed.caching)
    assert streamed.host > 2 * facts.blocks


def test_a_machine_without_a_card_can_only_round(large: TrainJob) -> None:
    assert weight_ways(LARGE, "cpu") == ("quantised",)
    assert weight_ways(SD1, "cuda") == ()
    streamed = needs(LARGE, large.model_copy(update={"streamed": True}), "cpu")
    assert streamed
    assert streamed.host == 0


def test_the_files_are_whole() -> None:
    for spec in catalog.specs().values():
        assert spec.memory is not None
        assert spec.memory.devices.keys() == {"cpu", "cuda"}
        assert min(spec.memory.latent, spec.memory.caption, spec.memory.text_step) > 0
        assert spec.memory.block <= spec.memory.blocks < spec.memory.model
        assert bool(spec.memory.blocks) == (spec.clips is not None and spec.name != "video_starter")
