"""The shipped folder of the video starter loads offline, is what it says, and stays within its size."""

import json
from typing import Any

import pytest
import torch

from worker.families.catalog import specs
from worker.starter.clips import BASE_MODEL, WEIGHTS
from worker.starter.clips.evaluate import FOLDER, GATE, JUDGE
from worker.starter.clips.judge import load_classifier
from worker.starter.clips.pipeline import load_pipeline, sample

PROMPT = "red boat, sailing left, beach, day"


@pytest.fixture(scope="module")
def pipeline() -> Any:
    return load_pipeline(WEIGHTS)


def test_all_files_together_have_16_mb_at_most() -> None:
    assert sum(path.stat().st_size for path in WEIGHTS.rglob("*") if path.is_file()) <= 16_000_000


def test_the_parts_are_wans() -> None:
    index = json.loads((WEIGHTS / "model_index.json").read_text())
    assert index["_class_name"] == "WanPipeline"
    assert index["transformer"][1] == "WanTransformer3DModel"
    assert index["vae"][1] == "AutoencoderKLWan"
    assert index["text_encoder"][1] == "UMT5EncoderModel"


def test_no_file_names_a_place_on_the_machine_that_made_it() -> None:
    for path in WEIGHTS.rglob("*.json"):
        assert "/work" not in path.read_text()
        assert "/home" not in path.read_text()


def test_the_base_model_name_is_its_own() -> None:
    assert specs()["video_starter"].base_model == BASE_MODEL == "Video Starter 1"


def test_it_draws_the_same_clip_for_the_same_seed(pipeline: Any) -> None:
    first, second = (sample(pipeline, [PROMPT], [7], steps=2) for _ in range(2))
    assert first.shape == (1, 17, 64, 64, 3)
    assert first.tobytes() == second.tobytes()


def test_latents_are_an_eighth_in_space_and_a_quarter_in_time(pipeline: Any) -> None:
    with torch.no_grad():
        latents = pipeline.vae.encode(torch.zeros(1, 3, 9, 64, 80)).latent_dist.mean
    assert latents.shape == (1, 16, 3, 8, 10)


def test_the_judge_loads() -> None:
    logits = load_classifier(JUDGE)(torch.zeros(1, 3, 17, 64, 64))
    assert {name: values.shape[1] for name, values in logits.items()} == {
        "thing": 7, "motion": 12, "colour": 8, "ground": 4, "time": 2,
    }  # fmt: skip


def test_the_report_of_the_gate_is_that_of_weights_that_passed_it() -> None:
    report = json.loads((FOLDER / "report.json").read_text())
    assert report["passed"]
    assert all(report["generated"][name] >= limit for name, limit in GATE.items())


def test_every_cover_has_its_clip_and_poster() -> None:
    covers = json.loads((FOLDER / "covers" / "covers.json").read_text())
    assert len(covers) == 8
    for cover in covers:
        assert (FOLDER / "covers" / f"{cover['file']}.mp4").read_bytes()[4:8] == b"ftyp"
        assert (FOLDER / "covers" / f"{cover['file']}.jpg").read_bytes()[:3] == b"\xff\xd8\xff"
