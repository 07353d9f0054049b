"""Drawing from a job file on the command line: what people write, and what they get wrong."""

import json
from pathlib import Path
from typing import Any

import pytest

from app.contract.jobs import GenerateJob
from tests.worker.inference.small import save_lora
from tests.worker.inference.small_clips import clip_lora, saved
from worker import cli
from worker.cli_draw import read_drawing
from worker.families import catalog
from worker.inference.clip_files import read_infotext
from worker.inference.infotext import read


@pytest.fixture(scope="module")
def film(clip_pipes: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(clip_pipes["video_starter"], tmp_path_factory.mktemp("cli") / "film")


def write(folder: Path, content: Any) -> Path:
    path = folder / "job.json"
    path.write_text(json.dumps(content))
    return path


def simple(film: Path, **changes: Any) -> dict[str, Any]:
    usual = {
        "prompt": "a red boat", "base": str(film), "family": "video_starter", "frames": 5, "width": 32,
        "height": 32, "steps": 2, "seeds": [7], "fps": 12, "shift": 5, "threads": 1,
    }  # fmt: skip
    return usual | changes


def test_a_prompt_becomes_a_clip_with_a_lora(
    film: Path, clip_pipes: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_lora(tmp_path / "foam.safetensors", clip_lora(clip_pipes["video_starter"].transformer))
    loras = ["foam.safetensors"]
    job = write(tmp_path, simple(film, loras=loras))
    assert cli.main([str(job), "--out", str(tmp_path / "out")]) == 0
    assert "000.mp4" in capsys.readouterr().out
    info = read(read_infotext(tmp_path / "out" / "000.mp4"))
    assert info.prompt == "a red boat <lora:foam:1>"
    assert (info.seed, info.frames, info.fps, info.shift) == (7, 5, 12, 5)


def test_what_is_not_said_is_the_family_s_own(film: Path, tmp_path: Path) -> None:
    job, files = read_drawing({"prompt": "a boat", "base": str(film), "family": "video_starter"}, tmp_path)
    spec = catalog.specs()["video_starter"]
    assert spec.clips
    assert (job.frames, job.shift, job.fps) == (spec.clips.length, spec.clips.shift, None)
    assert (job.steps, job.sampler) == (spec.generation.steps, spec.generation.sampler)
    assert files == {job.base.file.sha256: film}
    again, _ = read_drawing({"job": job.model_dump(mode="json"), "files": {"ab": "x"}}, tmp_path)
    assert again == job
    assert isinstance(again, GenerateJob)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"base": "nowhere"}, "there is no “nowhere”"),
        ({"base": None}, "“base” must name"),
        ({"family": "sd9"}, "Unknown family"),
        ({"colour": 1}, "Unknown in the job file: colour"),
        ({"loras": [{"file": "a", "size": 1}]}, "Unknown in a LoRA: size"),
        ({"loras": ["a.safetensors"]}, "there is no “a.safetensors”"),
        ({"start": "first.png"}, "there is no “first.png”"),
        ({"seeds": ["x"]}, "seeds"),
    ],
)
def test_what_is_wrong_is_said(
    film: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, Any], words: str
) -> None:
    job = write(tmp_path, simple(film, **changes))
    assert cli.main([str(job), "--out", str(tmp_path / "out")]) == 2
    assert words in capsys.readouterr().err


def test_a_failure_has_its_words(film: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    job = write(tmp_path, simple(film, frames=6))
    assert cli.main([str(job), "--out", str(tmp_path / "out")]) == 1
    assert "4 · n + 1 frames" in capsys.readouterr().out
