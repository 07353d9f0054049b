"""Previews: often enough, cheap, and near to what the VAE makes of the same latents."""

import itertools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from PIL import Image

from app.contract.events import Preview
from tests.worker.inference.test_start import scene
from worker.inference.pictures import encode
from worker.inference.preview import KNOWN, LARGEST_SHARE, NAME, PERIOD, Previewer, colours_of, rough
from worker.starter import WEIGHTS


class Clock:
    """Goes on by `tick` with every look at it."""

    def __init__(self, tick: float) -> None:
        self.tick, self.now = tick, 0.0

    def __call__(self) -> float:
        self.now += self.tick
        return self.now


def previews(pipe: Any, folder: Path, tick: float, calls: int) -> list[int]:
    """At which calls of picture 3 there was one."""
    told: list[Preview] = []
    previewer = Previewer(pipe, folder, told.append, Clock(tick))
    found: list[int] = []
    for call in range(calls):
        previewer.look(3, lambda: torch.zeros(1, 6, 4, 4))
        if len(told) > len(found):
            found.append(call)
    assert all(event == Preview(index=3, path=NAME) for event in told)
    return found


def test_a_picture_that_is_done_at_once_has_none(pipe: Any, tmp_path: Path) -> None:
    assert previews(pipe, tmp_path, PERIOD / 50, 20) == []
    assert list(tmp_path.iterdir()) == []


def test_a_long_one_has_several_and_the_file_is_whole(pipe: Any, tmp_path: Path) -> None:
    found = previews(pipe, tmp_path, PERIOD / 4, 400)
    assert len(found) >= 3
    assert [path.name for path in tmp_path.iterdir()] == [NAME]
    with Image.open(tmp_path / NAME) as image:
        assert (image.format, image.size) == ("JPEG", (16, 16))


def test_they_take_a_small_share_of_the_time(pipe: Any, tmp_path: Path) -> None:
    """Each one costs a tick here, so as many ticks must pass until the next."""
    found = previews(pipe, tmp_path, 10 * PERIOD, 400)
    apart = [after - before for before, after in itertools.pairwise(found)]
    assert min(apart) >= 1 / LARGEST_SHARE - 2


def test_each_picture_waits_for_its_own_first_one(pipe: Any, tmp_path: Path) -> None:
    told: list[Preview] = []
    previewer = Previewer(pipe, tmp_path, told.append, Clock(PERIOD * 0.6))
    for index in range(20):
        previewer.look(index, lambda: torch.zeros(1, 6, 4, 4))
    assert told == []


def test_large_pictures_are_shown_small(pipe: Any) -> None:
    assert rough(pipe, torch.zeros(1, 6, 256, 128)).size == (128, 256)
    assert rough(pipe, torch.zeros(1, 6, 4, 8)).size == (32, 16)


def test_broken_numbers_still_make_a_picture(pipe: Any) -> None:
    assert rough(pipe, torch.full((1, 6, 4, 4), float("nan"))).size == (16, 16)


@pytest.mark.parametrize("scale", KNOWN)
def test_stable_diffusions_numbers_are_known(scale: float) -> None:
    vae = AutoencoderKL(block_out_channels=(8,), norm_num_groups=8, scaling_factor=scale)
    assert torch.equal(colours_of(SimpleNamespace(vae=vae)), torch.tensor(KNOWN[scale]))


def test_the_starter_s_fit_shows_where_the_colours_are() -> None:
    vae: Any = AutoencoderKL.from_pretrained(WEIGHTS / "vae", dtype=torch.float32, local_files_only=True)
    starter = SimpleNamespace(vae=vae, vae_scale_factor=8)
    picture = scene((128, 128))
    found, wanted = (
        np.asarray(image.resize((16, 16), Image.Resampling.BOX), float)
        for image in (rough(starter, encode(starter, picture)), picture)
    )
    flat = wanted.mean((0, 1))
    assert np.abs(found - wanted).mean() < 0.5 * np.abs(flat - wanted).mean()
