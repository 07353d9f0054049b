"""Picture i depends on its seed alone; each sampler does what its formula says."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from app.contract.samplers import SAMPLERS
from tests.worker.inference.small import FACTOR, SIZE, embeddings_of
from worker.inference.draw import Request, draw
from worker.inference.errors import NotFiniteError, SettingsError
from worker.inference.pictures import decode
from worker.inference.samplers import create_scheduler

REQUEST = Request(
    prompt="a (red:1.3) house",
    negative_prompt="blurred",
    sampler="Euler a",
    steps=3,
    cfg_scale=7.0,
    width=SIZE,
    height=SIZE,
    seeds=(1, 2, 3, 4),
)


def pictures(pipe: Any, request: Request) -> list[Image.Image]:
    return [image for _, image in draw(pipe, request)]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_four_in_one_go_are_four_single_runs_to_the_bit(pipe: Any, sampler: str) -> None:
    request = replace(REQUEST, sampler=sampler)
    together = pictures(pipe, request)
    alone = [pictures(pipe, replace(request, seeds=(seed,)))[0] for seed in request.seeds]
    assert [image.tobytes() for image in together] == [image.tobytes() for image in alone]
    assert len({image.tobytes() for image in together}) == 4


def test_order_of_seeds_is_the_order_of_pictures(pipe: Any) -> None:
    found = dict(draw(pipe, replace(REQUEST, seeds=(2, 1))))
    other = dict(draw(pipe, replace(REQUEST, seeds=(1, 2))))
    assert found[0].tobytes() == other[1].tobytes()
    assert found[1].tobytes() == other[0].tobytes()


def test_torchs_own_generator_has_no_say(pipe: Any) -> None:
    torch.manual_seed(1)
    first = pictures(pipe, REQUEST)[0]
    torch.manual_seed(2)
    before = torch.random.get_rng_state()
    second = pictures(pipe, REQUEST)[0]
    assert first.tobytes() == second.tobytes()
    assert torch.equal(before, torch.random.get_rng_state())


def test_pictures_have_the_size_asked_for(pipe: Any) -> None:
    [image] = pictures(pipe, replace(REQUEST, width=20, height=12, seeds=(1,)))
    assert (image.size, image.mode) == ((20, 12), "RGB")


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_progress_counts_the_schedulers_steps_over_all_pictures(pipe: Any, sampler: str) -> None:
    seen: list[tuple[int, int]] = []
    for _ in draw(
        pipe, replace(REQUEST, sampler=sampler, seeds=(1, 2)), on_step=lambda *now: seen.append(now)
    ):
        pass
    total = 2 * len(create_scheduler(sampler, pipe.scheduler.config, 3).timesteps)
    assert seen == [(step, total) for step in range(1, total + 1)]


def test_a_picture_is_there_as_soon_as_it_is_drawn(pipe: Any) -> None:
    seen: list[int] = []
    drawing = draw(pipe, REQUEST, on_step=lambda done, _: seen.append(done))
    next(drawing)
    assert seen == [1, 2, 3]


@pytest.mark.parametrize(("stop_at", "finished"), [(0, 0), (2, 0), (3, 1), (7, 2)])
def test_stopping_acts_before_the_next_step(pipe: Any, stop_at: int, finished: int) -> None:
    seen: list[int] = []
    drawn = list(
        draw(
            pipe, REQUEST, on_step=lambda done, _: seen.append(done), should_stop=lambda: len(seen) == stop_at
        )
    )
    assert len(seen) == stop_at
    assert [index for index, _ in drawn] == list(range(finished))


def noise(seed: int) -> tuple[Tensor, torch.Generator]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn((1, 6, SIZE // FACTOR, SIZE // FACTOR), generator=generator), generator


def test_euler_ancestral_is_its_formula(pipe: Any) -> None:
    """k-diffusion's step in float64, written down anew: sigma_up, sigma_down, noise of the picture's seed."""
    positive, negative = embeddings_of(pipe, REQUEST.prompt, REQUEST.negative_prompt)
    scheduler = create_scheduler("Euler a", pipe.scheduler.config, 3)
    sigmas = scheduler.sigmas.double()
    latents, generator = noise(1)
    x = latents.double() * (sigmas[0] ** 2 + 1).sqrt()
    for place, timestep in enumerate(scheduler.timesteps):
        now, following = sigmas[place], sigmas[place + 1]
        model_input = (x / (now**2 + 1).sqrt()).float()
        without = pipe.unet(model_input, timestep, negative).sample.double()
        with_prompt = pipe.unet(model_input, timestep, positive).sample.double()
        slope = without + 7 * (with_prompt - without)
        up = (following**2 * (now**2 - following**2) / now**2).sqrt()
        down = (following**2 - up**2).sqrt()
        x = x + slope * (down - now)
        x = x + torch.randn(x.shape, generator=generator) * up
    expected = decode(pipe, x.float())
    found = pictures(pipe, replace(REQUEST, seeds=(1,)))[0]
    difference = [abs(a - b) for a, b in zip(expected.tobytes(), found.tobytes(), strict=True)]
    assert max(difference) <= 1


def test_ddim_is_its_formula(pipe: Any) -> None:
    positive, _ = embeddings_of(pipe, REQUEST.prompt, REQUEST.negative_prompt)
    alphas = pipe.scheduler.alphas_cumprod.double()
    x = noise(5)[0].double()
    for timestep, following in [(667, 334), (334, 1), (1, -332)]:
        predicted = pipe.unet(x.float(), timestep, positive).sample.double()
        now, then = alphas[timestep], alphas[max(following, 0)]
        origin = (x - (1 - now).sqrt() * predicted) / now.sqrt()
        x = then.sqrt() * origin + (1 - then).sqrt() * predicted
    request = replace(REQUEST, sampler="DDIM", cfg_scale=1, seeds=(5,))
    difference = zip(decode(pipe, x.float()).tobytes(), pictures(pipe, request)[0].tobytes(), strict=True)
    assert max(abs(a - b) for a, b in difference) <= 1


def test_a_cfg_scale_of_one_does_not_ask_the_negative_prompt(pipe: Any) -> None:
    request = replace(REQUEST, cfg_scale=1, seeds=(1,))
    other = replace(request, negative_prompt="something else")
    assert pictures(pipe, request)[0].tobytes() == pictures(pipe, other)[0].tobytes()


@pytest.mark.parametrize(
    "change",
    [
        {"prompt": "a blue house"},
        {"negative_prompt": ""},
        {"cfg_scale": 3.0},
        {"steps": 4},
        {"sampler": "UniPC"},
        {"clip_skip": 2},
        {"prompt": "a (red:0.8) house"},
    ],
)
def test_every_setting_changes_the_picture(pipe: Any, change: dict[str, Any]) -> None:
    request = replace(REQUEST, seeds=(1,))
    assert pictures(pipe, replace(request, **change))[0].tobytes() != pictures(pipe, request)[0].tobytes()


def test_the_pipelines_own_scheduler_is_left_alone(pipe: Any) -> None:
    before, config = pipe.scheduler, dict(pipe.scheduler.config)
    pictures(pipe, replace(REQUEST, sampler="DPM++ 2M Karras", seeds=(1,)))
    assert pipe.scheduler is before
    assert dict(pipe.scheduler.config) == config


@pytest.mark.parametrize("size", [(30, 32), (32, 0), (2, 32)])
def test_sizes_that_cannot_be_drawn_are_refused(pipe: Any, size: tuple[int, int]) -> None:
    with pytest.raises(SettingsError, match="multiples of 4"):
        pictures(pipe, replace(REQUEST, width=size[0], height=size[1]))


def test_numbers_that_are_not_finite_make_no_picture(pipe: Any) -> None:
    with pytest.raises(NotFiniteError):
        pictures(pipe, replace(REQUEST, cfg_scale=1e38, seeds=(1,)))


def test_half_precision_latents_stay_exact(pipe: Any) -> None:
    """Steps are computed in fp32 even where the model is bf16: the picture stays near the fp32 one."""
    from copy import deepcopy

    half = deepcopy(pipe).to(torch.bfloat16)
    exact = pictures(pipe, replace(REQUEST, seeds=(1,)))[0]
    rough = pictures(half, replace(REQUEST, seeds=(1,)))[0]
    difference = [abs(a - b) for a, b in zip(exact.tobytes(), rough.tobytes(), strict=True)]
    assert 0 < sum(difference) / len(difference) < 12
