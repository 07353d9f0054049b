"""The hires fix: two passes, the second from the first one scaled up."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from PIL import Image

from app.contract.jobs import UPSCALERS, Hires
from app.contract.passes import hires_size, hires_steps, passes, picture_calls
from app.contract.samplers import SAMPLERS
from tests.worker.inference.small import SIZE
from tests.worker.inference.test_start import REQUEST, scene
from worker.inference.draw import draw
from worker.inference.errors import SettingsError
from worker.inference.pictures import decode, encode, upscale
from worker.inference.start import Start

WANTED = replace(REQUEST, hires=Hires(scale=2.0, steps=3))


@pytest.mark.parametrize("upscaler", UPSCALERS)
def test_without_denoise_it_is_the_small_one_scaled(pipe: Any, upscaler: str) -> None:
    [(_, image)] = draw(pipe, replace(WANTED, hires=Hires(scale=2.0, upscaler=upscaler, denoise=0.0)))
    [(_, small)] = draw(pipe, REQUEST)
    assert image.size == (2 * SIZE, 2 * SIZE)
    if upscaler in ("Lanczos", "Nearest"):
        how = {"Lanczos": Image.Resampling.LANCZOS, "Nearest": Image.Resampling.NEAREST}[upscaler]
        expected = decode(pipe, encode(pipe, small.resize((2 * SIZE, 2 * SIZE), how)))
        assert image.tobytes() == expected.tobytes()


def test_latents_are_scaled_without_new_colours(pipe: Any) -> None:
    latents = torch.arange(4.0).view(1, 1, 2, 2).expand(1, 6, 2, 2)
    nearest = upscale(pipe, latents, (16, 16), "Latent (nearest)")
    assert torch.equal(
        nearest[0, 0], torch.tensor([[0.0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 3, 3], [2, 2, 3, 3]])
    )
    smooth = upscale(pipe, latents, (16, 16), "Latent")
    assert smooth.shape == (1, 6, 4, 4)
    assert torch.allclose(smooth[0, 0, 0], torch.tensor([0.0, 0.25, 0.75, 1.0]))


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_progress_counts_both_passes(pipe: Any, sampler: str) -> None:
    request = replace(WANTED, sampler=sampler, steps=3, seeds=(1, 2))
    seen: list[tuple[int, int]] = []
    sizes = [image.size for _, image in draw(pipe, request, on_step=lambda *now: seen.append(now))]
    total = 2 * picture_calls(request)
    assert seen == [(call, total) for call in range(1, total + 1)]
    assert sizes == [(2 * SIZE, 2 * SIZE)] * 2


@pytest.mark.parametrize("upscaler", UPSCALERS)
def test_a_picture_is_the_same_alone(pipe: Any, upscaler: str) -> None:
    request = replace(WANTED, hires=Hires(scale=2.0, upscaler=upscaler, steps=2), seeds=(1, 2))
    together = [image.tobytes() for _, image in draw(pipe, request)]
    alone = [next(iter(draw(pipe, replace(request, seeds=(seed,)))))[1].tobytes() for seed in (1, 2)]
    assert together == alone
    assert together[0] != together[1]


def test_a_full_denoise_forgets_the_first_pass(pipe: Any) -> None:
    hires = Hires(scale=2.0, denoise=1.0, steps=6)
    [(_, image)] = draw(pipe, replace(REQUEST, hires=hires))
    [(_, large)] = draw(pipe, replace(REQUEST, width=2 * SIZE, height=2 * SIZE))
    assert image.tobytes() == large.tobytes()


def test_it_also_follows_a_start_from_a_picture(pipe: Any) -> None:
    request = replace(WANTED, start=Start(scene(), denoise=0.0), hires=Hires(scale=2.0, denoise=0.0))
    [(_, image)] = draw(pipe, request)
    expected = decode(pipe, upscale(pipe, encode(pipe, scene()), (2 * SIZE, 2 * SIZE), "Latent"))
    assert image.tobytes() == expected.tobytes()


def test_its_steps_are_run_as_the_end_of_a_longer_schedule() -> None:
    assert [hires_steps(20, share) for share in (0.0, 0.5, 0.55, 0.95, 1.0)] == [
        (20, 0),
        (40, 20),
        (36, 20),
        (21, 20),
        (20, 20),
    ]
    assert hires_steps(30, 0.01) == (200, 2)


def test_sides_are_rounded_to_whole_latents() -> None:
    assert hires_size(512, 768, 1.5) == (768, 1152)
    assert hires_size(520, 512, 1.3) == (672, 664)
    assert hires_size(8, 8, 0.1) == (8, 8)


def test_passes_tell_size_and_calls() -> None:
    first, second = passes(replace(REQUEST, sampler="Heun", hires=Hires(scale=2.0, steps=4, denoise=0.5)))
    assert (first.width, first.steps, first.calls) == (SIZE, 6, 11)
    assert (second.width, second.schedule_steps, second.steps, second.calls) == (2 * SIZE, 8, 4, 7)


@pytest.mark.parametrize(
    ("hires", "words"),
    [(Hires(upscaler="ESRGAN"), "Lanczos"), (Hires(steps=0), "1 or more")],
)
def test_settings_without_sense_are_refused(pipe: Any, hires: Hires, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        list(draw(pipe, replace(REQUEST, hires=hires)))
