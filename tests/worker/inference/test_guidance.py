"""Prompts that change or join while a picture is drawn: what the U-Net is told, and how it is summed."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from app.contract.passes import Pass
from tests.worker.inference.small import embeddings_of
from tests.worker.inference.test_start import REQUEST
from worker.inference.conditioning import Texts
from worker.inference.draw import Request, draw
from worker.inference.guidance import Guide
from worker.inference.levels import Levels


def picture(pipe: Any, **changes: Any) -> bytes:
    [(_, image)] = draw(pipe, replace(REQUEST, **changes))
    return image.tobytes()


def one_pass(steps: int = 4, calls: int | None = None) -> Pass:
    return Pass(width=16, height=16, schedule_steps=steps, steps=steps, calls=calls or steps)


def answer(pipe: Any, latents: Tensor, embeddings: Tensor) -> Tensor:
    found: Tensor = pipe.unet(latents, torch.tensor(500), embeddings).sample
    return found


def test_prompts_joined_by_and_add_up(pipe: Any) -> None:
    latents = torch.randn((1, 6, 4, 4), generator=torch.Generator().manual_seed(0))
    prompts = ("a red house AND two boats :0.5", "blurred")
    guide = Guide(pipe, Texts(pipe), prompts, 6.0, (one_pass(), None))
    found = guide.predict(latents, torch.tensor(500), 0)
    first, negative = embeddings_of(pipe, "a red house", "blurred")
    second, _ = embeddings_of(pipe, "two boats", "blurred")
    without = answer(pipe, latents, negative)
    expected = without + 6 * (answer(pipe, latents, first) - without)
    expected = expected + 3 * (answer(pipe, latents, second) - without)
    assert torch.allclose(found, expected, atol=1e-4)


def test_joined_prompts_of_different_lengths_are_padded(pipe: Any) -> None:
    assert picture(pipe, prompt="a house AND " + "b " * 90) != picture(pipe, prompt="a house")


@pytest.mark.parametrize(
    ("edited", "plain"),
    [
        ("a [red:blue:0.0] house", "a blue house"),
        ("a [red:blue:1.0] house", "a red house"),
        ("a [red::99] house", "a red house"),
        ("a [red|red] house", "a red house"),
    ],
)
def test_editing_that_changes_nothing_is_the_plain_prompt(pipe: Any, edited: str, plain: str) -> None:
    assert picture(pipe, prompt=edited) == picture(pipe, prompt=plain)


@pytest.mark.parametrize("prompt", ["a [red:blue:0.5] house", "a [red|blue] house"])
@pytest.mark.parametrize("side", ["prompt", "negative_prompt"])
def test_a_changing_prompt_is_neither_of_both(pipe: Any, prompt: str, side: str) -> None:
    texts = [prompt, "a red house", "a blue house"]
    assert len({picture(pipe, **{side: text}) for text in texts}) == 3


@pytest.mark.parametrize(
    ("calls", "expected"), [(4, "aabb"), (7, "aaaabbb"), (5, "aaabb")], ids=["once", "twice", "PLMS"]
)
def test_steps_are_counted_and_not_calls(pipe: Any, calls: int, expected: str) -> None:
    """Half of four steps; the second call of a step belongs to it."""
    latents = torch.randn((1, 6, 4, 4), generator=torch.Generator().manual_seed(0))
    guide = Guide(pipe, Texts(pipe), ("[a:b:0.5]", ""), 1.0, (one_pass(4, calls), None))
    sides = {name: answer(pipe, latents, embeddings_of(pipe, name, "")[0]) for name in "ab"}
    said = [guide.predict(latents, torch.tensor(500), call) for call in range(calls)]
    assert "".join("a" if torch.equal(each, sides["a"]) else "b" for each in said) == expected
    assert torch.equal(said[-1], sides["b"])


def test_lora_tags_are_no_part_of_the_grammar(pipe: Any) -> None:
    assert picture(pipe, prompt="a [<lora:ink:1>red:blue:0.5] house") == picture(
        pipe, prompt="a [red:blue:0.5] house"
    )


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_levels_lead_from_prediction_to_origin_and_back(pipe: Any, kind: str) -> None:
    scheduler = type(pipe.scheduler).from_config(pipe.scheduler.config, prediction_type=kind)
    levels, made = Levels(scheduler), torch.Generator().manual_seed(0)
    origin, noise = (torch.randn((1, 6, 4, 4), generator=made) for _ in range(2))
    for timestep in (0.0, 12.5, 500.0, 999.0):
        at = torch.tensor(timestep)
        signal, spread = levels.shares(at)
        noisy = signal * origin + spread * noise
        said = noise if kind == "epsilon" else signal * noise - spread * origin
        assert torch.allclose(levels.prediction(origin, noisy, at), said, atol=1e-3)
        assert torch.allclose(levels.origin(said, noisy, at), origin, atol=1e-3)


def test_a_request_without_changes_encodes_each_text_once(pipe: Any) -> None:
    seen: list[int] = []
    handle = pipe.text_encoder.register_forward_hook(lambda *_: seen.append(1))
    try:
        list(draw(pipe, Request(**{**vars(REQUEST), "seeds": (1, 2, 3), "negative_prompt": "blurred"})))
    finally:
        handle.remove()
    assert len(seen) == 2
