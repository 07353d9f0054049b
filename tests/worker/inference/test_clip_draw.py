"""Clips of tiny random models: as diffusers' own pipelines draw them, each by its seed alone."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import LTXImageToVideoPipeline, WanImageToVideoPipeline
from PIL import Image

from tests.worker.inference.small_clips import FAMILIES, SIZES
from worker.inference.clip_draw import ClipRequest, draw_clips
from worker.inference.clip_files import Frames
from worker.inference.errors import NotFiniteError, SettingsError

STEPS = 4
NEAR = 0.51 / 255
"""Frames are rounded to bytes; beyond that nothing may differ."""


def wanted(family: str, **changes: Any) -> ClipRequest:
    height, width, frames = SIZES[family]
    sampler = "Euler" if family == "ltx" else "UniPC"
    request = ClipRequest(
        "a red boat", "fog", STEPS, 4.0, width, height, frames, seeds=(1,), sampler=sampler, fps=25
    )
    return replace(request, **changes)


def drawn(pipe: Any, request: ClipRequest) -> list[Frames]:
    return [frames for _, frames in draw_clips(pipe, request)]


def theirs(pipe: Any, request: ClipRequest, **options: Any) -> Any:
    """The same clip by diffusers, floats in 0…1."""
    pipe.set_progress_bar_config(disable=True)
    return pipe(
        prompt=request.prompt,
        negative_prompt=request.negative_prompt,
        height=request.height,
        width=request.width,
        num_frames=request.frames,
        num_inference_steps=request.steps,
        guidance_scale=request.cfg_scale,
        generator=torch.Generator().manual_seed(request.seeds[0]),
        max_sequence_length=pipe.tokenizer.model_max_length,
        output_type="np",
        **options,
    ).frames[0]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("cfg_scale", [4.0, 1.0])
def test_clips_are_those_of_diffusers(clip_pipes: dict[str, Any], family: str, cfg_scale: float) -> None:
    request = wanted(family, cfg_scale=cfg_scale)
    frames = drawn(clip_pipes[family], request)[0]
    height, width, count = SIZES[family]
    assert frames.shape == (count, height, width, 3)
    assert frames.std() > 5
    assert np.abs(frames / 255 - theirs(clip_pipes[family], request)).max() < NEAR


def picture(width: int, height: int) -> Image.Image:
    ramp = np.linspace(0, 255, width * height * 3).reshape(height, width, 3)
    return Image.fromarray(ramp.astype(np.uint8))


def test_a_first_frame_is_kept_as_diffusers_keeps_it(
    clip_pipes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Theirs wants a library for odd characters, which there are none of here."""
    monkeypatch.setattr("diffusers.pipelines.wan.pipeline_wan_i2v.prompt_clean", str.strip)
    pipe = clip_pipes["wan22_5b"]
    height, width, _ = SIZES["wan22_5b"]
    request = wanted("wan22_5b", first_frame=picture(width, height))
    other: Any = WanImageToVideoPipeline(
        **{name: pipe.components[name] for name in ("tokenizer", "text_encoder", "vae", "transformer")},
        scheduler=pipe.scheduler,
        expand_timesteps=True,
    )
    frames = drawn(pipe, request)[0]
    assert np.abs(frames / 255 - theirs(other, request, image=request.first_frame)).max() < NEAR
    assert not np.array_equal(frames, drawn(pipe, wanted("wan22_5b"))[0])


def test_ltx_goes_on_from_a_picture(clip_pipes: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Theirs draws the picture's latents at random; here they are the mean, so theirs is told to take it."""
    pipe = clip_pipes["ltx"]
    height, width, _ = SIZES["ltx"]
    request = wanted("ltx", first_frame=picture(width, height))
    monkeypatch.setattr(
        "diffusers.pipelines.ltx.pipeline_ltx_image2video.retrieve_latents",
        lambda encoded, _generator: encoded.latent_dist.mode(),
    )
    other: Any = LTXImageToVideoPipeline(**pipe.components)
    frames = drawn(pipe, request)[0]
    assert np.abs(frames / 255 - theirs(other, request, image=request.first_frame)).max() < NEAR


@pytest.mark.parametrize("family", ["video_starter", "ltx"])
def test_a_clip_depends_on_its_seed_alone(clip_pipes: dict[str, Any], family: str) -> None:
    pipe = clip_pipes[family]
    three = drawn(pipe, wanted(family, seeds=(7, 8, 9)))
    alone = drawn(pipe, wanted(family, seeds=(9,)))[0]
    assert np.array_equal(three[2], alone)
    assert not np.array_equal(three[0], three[1])


@pytest.mark.parametrize("sampler", ["Euler", "UniPC", "DPM++ 2M"])
def test_samplers_and_the_shift_make_different_clips(clip_pipes: dict[str, Any], sampler: str) -> None:
    pipe = clip_pipes["video_starter"]
    own = drawn(pipe, wanted("video_starter", sampler=sampler))[0]
    assert np.array_equal(own, drawn(pipe, wanted("video_starter", sampler=sampler, shift=3.0))[0])
    assert not np.array_equal(own, drawn(pipe, wanted("video_starter", sampler=sampler, shift=8.0))[0])


def test_the_experts_take_turns_at_the_boundary(clip_pipes: dict[str, Any]) -> None:
    pipe = clip_pipes["wan22_a14b"]
    asked: list[tuple[str, bool]] = []
    hooks = [
        network.register_forward_pre_hook(
            lambda _module, _inputs, told, name=name: asked.append(
                (name, bool(told["timestep"].max() >= 875))
            ),
            with_kwargs=True,
        )
        for name, network in (("high", pipe.transformer), ("low", pipe.transformer_2))
    ]
    drawn(pipe, wanted("wan22_a14b", steps=6))
    for hook in hooks:
        hook.remove()
    assert {name for name, _ in asked} == {"high", "low"}
    assert all(above == (name == "high") for name, above in asked)


def test_a_picture_is_a_clip_of_one_frame(clip_pipes: dict[str, Any]) -> None:
    assert drawn(clip_pipes["video_starter"], wanted("video_starter", frames=1))[0].shape == (1, 32, 48, 3)


def test_progress_counts_calls_and_a_stop_ends_it(clip_pipes: dict[str, Any]) -> None:
    pipe, steps = clip_pipes["video_starter"], []
    request = wanted("video_starter", seeds=(1, 2), frames=1)
    for _ in draw_clips(pipe, request, on_step=lambda done, total: steps.append((done, total))):
        pass
    assert steps == [(call, 2 * STEPS) for call in range(1, 2 * STEPS + 1)]
    made = draw_clips(pipe, request, should_stop=iter([False] * 5 + [True] * 9).__next__)
    assert [index for index, _ in made] == [0]


def test_names_of_loras_and_needless_spaces_are_not_read(clip_pipes: dict[str, Any]) -> None:
    pipe = clip_pipes["video_starter"]
    plain = drawn(pipe, wanted("video_starter", frames=1))[0]
    tagged = drawn(pipe, wanted("video_starter", frames=1, prompt=" a red\n boat  <lora:foam:0.8>"))[0]
    assert np.array_equal(plain, tagged)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"steps": 0}, "Steps"),
        ({"width": 36}, "multiples of"),
        ({"height": 0}, "multiples of"),
        ({"frames": 6}, "4 · n"),
        ({"frames": 0}, "4 · n"),
        ({"shift": 0.0}, "shift"),
        ({"shift": float("nan")}, "shift"),
        ({"sampler": "Euler a"}, "Use one of: Euler, "),
        ({"sampler": "DPM++ 2M Karras"}, "schedule"),
        ({"first_frame": picture(32, 32)}, "cannot go on from a picture"),
    ],
)
def test_what_cannot_be_drawn_is_refused_with_words(
    clip_pipes: dict[str, Any], changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(SettingsError, match=words):
        drawn(clip_pipes["video_starter"], wanted("video_starter", **changes))


def test_one_frame_cannot_go_on_from_a_picture(clip_pipes: dict[str, Any]) -> None:
    request = wanted("wan22_5b", frames=1, first_frame=picture(32, 32))
    with pytest.raises(SettingsError, match="one frame"):
        drawn(clip_pipes["wan22_5b"], request)


@pytest.fixture
def broken(clip_pipes: dict[str, Any]) -> Iterator[Any]:
    pipe = clip_pipes["video_starter"]
    weight = pipe.transformer.proj_out.weight
    before = weight.clone()
    weight.fill_(float("inf"))
    yield pipe
    weight.copy_(before)


def test_numbers_beyond_all_limits_are_told(broken: Any) -> None:
    with pytest.raises(NotFiniteError):
        drawn(broken, wanted("video_starter", frames=1))
