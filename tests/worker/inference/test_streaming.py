"""Blocks that wait in host memory while clips are drawn: the same frames, also with LoRAs."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.worker.inference.small import save_lora
from tests.worker.inference.small_clips import clip_lora, small_clip_pipeline
from tests.worker.inference.test_clip_draw import drawn, wanted
from tests.worker.inference.test_clip_loras import use
from worker.families.streaming import block_lists
from worker.inference.lora_files import LoraSwitch
from worker.inference.pool import blocks_wait, spread

CPU = torch.device("cpu")


@pytest.mark.parametrize("family", ["wan22_a14b", "ltx"])
def test_frames_are_the_same_to_the_bit(family: str, tmp_path: Path) -> None:
    pipe, request = small_clip_pipeline(family), wanted(family)
    lora = use(save_lora(tmp_path / "ink.safetensors", clip_lora(pipe.transformer)))
    with_lora, switch = [lora], LoraSwitch(pipe)
    (plain,) = drawn(pipe, request)
    switch.attach(with_lora)
    (inked,) = drawn(pipe, request)
    switch.detach()
    assert not np.array_equal(plain, inked)

    spread(pipe, CPU)
    for network in filter(None, (pipe.transformer, getattr(pipe, "transformer_2", None))):
        assert all("forward" in vars(block) for _, blocks in block_lists(network) for block in blocks)
    (streamed,) = drawn(pipe, request)
    assert np.array_equal(streamed, plain)
    switch = LoraSwitch(pipe)
    assert switch.attach(with_lora) == []
    assert np.array_equal(drawn(pipe, request)[0], inked)


@pytest.mark.parametrize(
    ("needed", "free", "host", "sparing", "outside"),
    [
        (40, 80, 128, False, False),
        (40, 48, 128, False, True),
        (40, 80, 128, True, True),
        (40, 48, 64, False, False),
        (40, 48, 64, True, False),
    ],
)
def test_blocks_wait_outside_where_drawing_would_have_no_room(
    needed: int, free: int, host: int, sparing: bool, outside: bool
) -> None:
    assert blocks_wait(needed, free, host, sparing=sparing) == outside
