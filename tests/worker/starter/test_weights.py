"""The shipped folder loads offline, is what it says, and stays within its sizes."""

import json

import pytest
import torch

from worker.starter import BASE_MODEL, WEIGHTS
from worker.starter.classifier import load_classifier
from worker.starter.evaluate import JUDGE
from worker.starter.pipeline import load_pipeline, sample

pytestmark = pytest.mark.skipif(
    not (WEIGHTS / "model_index.json").exists(), reason="the checkpoint is not built yet"
)


def test_no_file_is_over_24_mb_nor_all_over_32() -> None:
    sizes = [path.stat().st_size for path in WEIGHTS.rglob("*") if path.is_file()]
    assert max(sizes) <= 24_000_000
    assert sum(sizes) <= 32_000_000


def test_the_parts_are_stable_diffusion_1s() -> None:
    index = json.loads((WEIGHTS / "model_index.json").read_text())
    assert index["_class_name"] == "StableDiffusionPipeline"
    assert index["unet"][1] == "UNet2DConditionModel"
    assert index["vae"][1] == "AutoencoderKL"
    assert index["text_encoder"][1] == "CLIPTextModel"
    assert index["safety_checker"] == [None, None]


def test_no_file_names_a_place_on_the_machine_that_made_it() -> None:
    for path in WEIGHTS.rglob("*.json"):
        assert "/work" not in path.read_text()
        assert "/home" not in path.read_text()


def test_the_base_model_name_is_its_own() -> None:
    assert BASE_MODEL == "Starter 1"


def test_it_draws_the_same_picture_for_the_same_seed() -> None:
    pipeline = load_pipeline(WEIGHTS)
    first, second = (sample(pipeline, ["red house, snow, day"], [7], steps=2)[0] for _ in range(2))
    assert first.size == (128, 128)
    assert first.tobytes() == second.tobytes()


def test_latents_are_an_eighth_of_the_picture() -> None:
    vae = load_pipeline(WEIGHTS).vae
    with torch.no_grad():
        latents = vae.encode(torch.zeros(1, 3, 104, 152)).latent_dist.mean
    assert latents.shape == (1, 12, 13, 19)


def test_the_judge_loads() -> None:
    logits = load_classifier(JUDGE)(torch.zeros(1, 3, 128, 128))
    assert {name: values.shape[1] for name, values in logits.items()} == {
        "thing": 12,
        "colour": 8,
        "ground": 7,
        "time": 4,
        "count": 3,
        "weather": 4,
        "style": 6,
    }
