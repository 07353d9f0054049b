"""The same depth with SDXL's two encoders: embeddings for both, sizes told in both passes, starts."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from app.contract.jobs import Hires
from tests.worker.inference.test_start import scene
from tests.worker.tiny import tiny_base
from worker.families import catalog
from worker.inference.conditioning import Texts
from worker.inference.draw import Request, draw
from worker.inference.embeddings import Embedding, EmbeddingError
from worker.inference.pictures import fitted
from worker.inference.start import Start

REQUEST = Request(
    prompt="a red house",
    negative_prompt="",
    sampler="DPM++ 2M",
    steps=2,
    cfg_scale=5.0,
    width=64,
    height=32,
    seeds=(1,),
)


@pytest.fixture(scope="module")
def pipe(tmp_path_factory: pytest.TempPathFactory) -> Any:
    family: Any = catalog.load("sdxl")
    return family.pipeline(tiny_base(tmp_path_factory.mktemp("sdxl"), "sdxl"), torch.float32)


def known_words(pipe: Any, words: str) -> Embedding:
    """An embedding with the very vectors that the words have."""
    ids = pipe.tokenizer(words, add_special_tokens=False)["input_ids"]
    parts = {part: getattr(pipe, part).get_input_embeddings().weight[ids] for part in ENCODERS}
    return Embedding("words", parts)


ENCODERS = ("text_encoder", "text_encoder_2")


def test_an_embedding_speaks_to_both_encoders(pipe: Any) -> None:
    [said], _ = Texts(pipe).encode(["a red house, day"], "")
    [found], _ = Texts(pipe, embeddings=[known_words(pipe, "red house")]).encode(["a words, day"], "")
    assert torch.allclose(found.embeddings, said.embeddings, atol=1e-6)
    assert said.pooled is not None
    assert found.pooled is not None
    assert torch.allclose(found.pooled, said.pooled, atol=1e-6)


def test_one_for_stable_diffusion_1_is_refused(pipe: Any) -> None:
    with pytest.raises(EmbeddingError, match="reads 32 and 24"):
        Texts(pipe, embeddings=[Embedding("old", {"text_encoder": torch.ones(1, 32)})])


def test_each_pass_of_the_hires_fix_hears_of_its_own_size(pipe: Any) -> None:
    heard: list[list[float]] = []
    handle = pipe.unet.register_forward_pre_hook(
        lambda _, __, options: heard.append(options["added_cond_kwargs"]["time_ids"][0].tolist()),
        with_kwargs=True,
    )
    try:
        list(draw(pipe, replace(REQUEST, hires=Hires(scale=2.0, steps=1))))
    finally:
        handle.remove()
    assert heard == [[32, 64, 0, 0, 32, 64]] * 2 + [[64, 128, 0, 0, 64, 128]]


def test_a_start_goes_through_the_fp32_vae(pipe: Any) -> None:
    half = replace(REQUEST, start=Start(scene((64, 32)), denoise=0.5))
    [(_, image)] = draw(pipe, half)
    [(_, pure)] = draw(pipe, REQUEST)
    assert image.size == (64, 32)
    assert image.tobytes() not in (pure.tobytes(), fitted(scene((64, 32)), (64, 32)).tobytes())


def test_joined_prompts_have_their_own_pooled_outputs(pipe: Any) -> None:
    heard: list[torch.Tensor] = []
    handle = pipe.unet.register_forward_pre_hook(
        lambda _, __, options: heard.append(options["added_cond_kwargs"]["text_embeds"]), with_kwargs=True
    )
    try:
        list(draw(pipe, replace(REQUEST, prompt="a red house AND two boats", steps=1)))
    finally:
        handle.remove()
    assert heard[0].shape == (3, 20)
    assert not heard[0][0].any()
    assert not torch.equal(heard[0][1], heard[0][2])
