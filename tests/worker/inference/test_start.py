"""Starting from a picture: how much of it stays, and that a mask keeps what it keeps to the bit."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from app.contract.jobs import Hires
from app.contract.passes import picture_calls, start_steps
from app.contract.samplers import SAMPLERS
from tests.worker.inference.small import SIZE
from worker.inference.draw import Request, draw
from worker.inference.errors import SettingsError
from worker.inference.pictures import decode, encode, fitted
from worker.inference.samplers import create_scheduler
from worker.inference.start import Start, grown


def scene(size: tuple[int, int] = (SIZE, SIZE)) -> Image.Image:
    image = Image.new("RGB", size, (40, 90, 200))
    ImageDraw.Draw(image).ellipse((2, 2, size[0] // 2, size[1] // 2), fill=(230, 60, 20))
    return image


def half_mask() -> Image.Image:
    mask = Image.new("L", (SIZE, SIZE), 0)
    mask.paste(255, (SIZE // 2, 0, SIZE, SIZE))
    return mask


REQUEST = Request(
    prompt="a red house",
    negative_prompt="",
    sampler="Euler a",
    steps=6,
    cfg_scale=4.0,
    width=SIZE,
    height=SIZE,
    seeds=(5,),
)


def from_picture(
    pipe: Any, *, sampler: str = "Euler a", seeds: tuple[int, ...] = (5,), **start: Any
) -> bytes:
    request = replace(REQUEST, sampler=sampler, seeds=seeds, start=Start(scene(), **start))
    return b"".join(image.tobytes() for _, image in draw(pipe, request))


def test_a_denoise_of_one_is_drawn_from_noise_alone(pipe: Any) -> None:
    [(_, image)] = draw(pipe, REQUEST)
    assert from_picture(pipe, denoise=1.0) == image.tobytes()


def test_a_denoise_of_zero_is_the_picture_itself(pipe: Any) -> None:
    seen: list[int] = []
    request = replace(REQUEST, start=Start(scene((40, 20)), denoise=0.0))
    [(_, image)] = draw(pipe, request, on_step=lambda done, _: seen.append(done))
    assert image.tobytes() == fitted(scene((40, 20)), (SIZE, SIZE)).tobytes()
    assert seen == []


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_runs_the_last_steps_and_twice_alike(pipe: Any, sampler: str) -> None:
    request = replace(REQUEST, sampler=sampler, start=Start(scene(), denoise=0.5))
    seen: list[tuple[int, int]] = []
    [(_, image)] = draw(pipe, request, on_step=lambda *now: seen.append(now))
    [(_, again)] = draw(pipe, request)
    total = picture_calls(request)
    assert seen == [(call, total) for call in range(1, total + 1)]
    assert image.tobytes() == again.tobytes()
    assert image.tobytes() != from_picture(pipe, sampler=sampler, denoise=1.0)


def test_less_denoise_stays_nearer(pipe: Any) -> None:
    plain = np.frombuffer(decode(pipe, encode(pipe, scene())).tobytes(), np.uint8).astype(float)
    away = [
        np.abs(np.frombuffer(from_picture(pipe, denoise=share), np.uint8) - plain).mean()
        for share in (0.2, 0.5, 1.0)
    ]
    assert away == sorted(away)
    assert away[0] < 0.7 * away[2]


def test_its_formula_for_one_euler_step(pipe: Any) -> None:
    """The picture's latents with the noise of the last level, and one step down to zero."""
    request = replace(REQUEST, sampler="Euler", cfg_scale=1, start=Start(scene(), denoise=1 / 6))
    scheduler = create_scheduler("Euler", pipe.scheduler.config, 6)
    sigma, timestep = scheduler.sigmas[-2], scheduler.timesteps[-1]
    noise = torch.randn((1, 6, 4, 4), generator=torch.Generator().manual_seed(5))
    x = encode(pipe, scene()) + sigma * noise
    words = pipe.text_encoder(
        pipe.tokenizer("a red house", padding="max_length", max_length=77, return_tensors="pt").input_ids
    )[0]
    predicted = pipe.unet(x / (sigma**2 + 1) ** 0.5, timestep, words).sample
    expected = decode(pipe, x - sigma * predicted).tobytes()
    [(_, image)] = draw(pipe, request)
    assert max(abs(a - b) for a, b in zip(expected, image.tobytes(), strict=True)) <= 1


def test_the_seed_decides_and_not_the_neighbours(pipe: Any) -> None:
    together = from_picture(pipe, seeds=(5, 6), denoise=0.5, mask=half_mask())
    alone = [from_picture(pipe, seeds=(seed,), denoise=0.5, mask=half_mask()) for seed in (5, 6)]
    assert together == b"".join(alone)
    assert alone[0] != alone[1]


@pytest.mark.parametrize("size", [(SIZE, SIZE), (40, 40)])
def test_a_black_mask_gives_the_picture_back(pipe: Any, size: tuple[int, int]) -> None:
    mask = Image.new("L", size, 0)
    assert from_picture(pipe, denoise=0.7, mask=mask, mask_blur=4) == scene().tobytes()


def test_a_white_mask_is_no_mask(pipe: Any) -> None:
    mask = Image.new("L", (SIZE, SIZE), 255)
    assert from_picture(pipe, denoise=0.7, mask=mask) == from_picture(pipe, denoise=0.7)


@pytest.mark.parametrize("sampler", ["Euler a", "DPM++ 2M", "Heun", "DPM2 a", "DDIM", "DPM++ SDE", "LCM"])
@pytest.mark.parametrize("denoise", [0.5, 1.0])
def test_outside_the_mask_every_pixel_is_the_pictures(pipe: Any, sampler: str, denoise: float) -> None:
    found = from_picture(pipe, sampler=sampler, denoise=denoise, mask=half_mask(), mask_blur=0)
    image = Image.frombytes("RGB", (SIZE, SIZE), found)
    left, right = (0, 0, SIZE // 2, SIZE), (SIZE // 2, 0, SIZE, SIZE)
    assert image.crop(left).tobytes() == scene().crop(left).tobytes()
    assert image.crop(right).tobytes() != scene().crop(right).tobytes()


def test_the_kept_part_is_seen_by_the_drawn_one(pipe: Any) -> None:
    """Another picture under the kept half changes what is drawn in the other half."""
    request = replace(REQUEST, start=Start(scene(), denoise=1.0, mask=half_mask(), mask_blur=0))
    other = replace(
        request, start=Start(Image.new("RGB", (SIZE, SIZE)), denoise=1.0, mask=half_mask(), mask_blur=0)
    )
    right = (SIZE // 2, 0, SIZE, SIZE)
    found = [next(iter(draw(pipe, each)))[1].crop(right).tobytes() for each in (request, other)]
    assert found[0] != found[1]


def test_a_blur_softens_the_edge_alone(pipe: Any) -> None:
    mask = Image.new("L", (64, 16), 0)
    mask.paste(255, (32, 0, 64, 16))
    white_picture = Image.new("RGB", (64, 16), "white")
    soft = replace(REQUEST, width=64, start=Start(white_picture, 1.0, mask=mask, mask_blur=3))
    [(_, image)] = draw(pipe, soft)
    columns = [image.crop((x, 0, x + 1, 16)).tobytes() for x in range(64)]
    white = b"\xff" * 48
    assert columns[:20] == [white] * 20
    assert any(column != white for column in columns[28:32])


def spot(box: tuple[int, int, int, int]) -> Image.Image:
    mask = Image.new("L", (SIZE, SIZE), 0)
    mask.paste(255, box)
    return mask


def test_only_the_masked_part_is_drawn_in_full_size(pipe: Any) -> None:
    """What lies beyond its region decides nothing, and stays to the bit."""
    box = (4, 4, 8, 8)
    other = scene()
    other.paste((9, 9, 9), (14, 0, SIZE, SIZE))
    options = {"denoise": 0.7, "mask": spot(box), "mask_blur": 0}
    requests = {
        (name, padding): replace(REQUEST, start=Start(picture, mask_padding=padding, **options))
        for name, picture in (("scene", scene()), ("other", other))
        for padding in (None, 2)
    }
    found = {key: next(iter(draw(pipe, request)))[1] for key, request in requests.items()}
    part = {key: image.crop(box).tobytes() for key, image in found.items()}
    assert part["scene", 2] == part["other", 2]
    assert part["scene", None] != part["other", None]
    assert part["scene", 2] not in (part["scene", None], scene().crop(box).tobytes())
    kept = scene()
    kept.paste(found["scene", 2].crop(box), box[:2])
    assert found["scene", 2].tobytes() == kept.tobytes()


def test_only_masked_without_a_mask_on_it_or_without_calls(pipe: Any) -> None:
    empty = Image.new("L", (SIZE, SIZE), 0)
    assert from_picture(pipe, denoise=0.7, mask=empty, mask_padding=8) == scene().tobytes()
    assert from_picture(pipe, denoise=0.0, mask=half_mask(), mask_padding=0) == scene().tobytes()


def test_a_region_has_the_shape_of_the_picture_and_lies_within_it() -> None:
    assert grown((10, 10, 20, 20), 5, (100, 100)) == (5, 5, 25, 25)
    assert grown((0, 0, 10, 10), 5, (100, 100)) == (0, 0, 20, 20)
    assert grown((90, 40, 100, 60), 0, (200, 100)) == (75, 40, 115, 60)
    assert grown((0, 0, 200, 100), 32, (200, 100)) == (0, 0, 200, 100)
    assert grown((190, 90, 200, 100), 30, (200, 100)) == (60, 30, 200, 100)


def test_start_steps_are_a_share_of_the_steps() -> None:
    assert [start_steps(20, share) for share in (0, 0.01, 0.5, 0.75, 1)] == [
        (20, 0),
        (20, 1),
        (20, 10),
        (20, 15),
        (20, 20),
    ]


def test_a_mask_and_the_hires_fix_do_not_go_together(pipe: Any) -> None:
    start = Start(scene(), mask=half_mask())
    with pytest.raises(SettingsError, match="hires fix"):
        list(draw(pipe, replace(REQUEST, start=start, hires=Hires())))
