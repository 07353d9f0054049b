"""`bottega inspect`: the answer of recognition, for people and as JSON, with exit codes that differ."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from typer.testing import CliRunner

from app.cli.main import app
from app.gallery.starter import write_zip
from tests.app.recognition.listings import KOHYA, lora, whole
from worker.inference.clip_files import write_clip
from worker.starter import WEIGHTS

LORA = lora({"lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k": (768, 320)}, ends=KOHYA)


def inspect(path: Path, *options: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["inspect", str(path), *options])
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    path = tmp_path / "tuscany.safetensors"
    path.write_bytes(whole(LORA, {"modelspec.trigger_phrase": "tuscany", "ss_network_alpha": "4"}))
    return path


def test_words_for_people(adapter: Path) -> None:
    code, out, err = inspect(adapter)
    assert (code, err) == (0, "")
    rows = dict(line.split(maxsplit=1) for line in out.splitlines() if line.split(maxsplit=1)[1:])
    assert rows["Kind"] == "a LoRA for SD 1.5"
    assert (rows["Rank"], rows["Alpha"], rows["Algorithm"]) == ("8", "4", "LoRA")
    assert "Trained words tuscany" in out
    assert "Runs here     yes (sd1)" in out


def test_json_alone(adapter: Path) -> None:
    code, out, _ = inspect(adapter, "--json")
    found = json.loads(out)
    assert code == 0
    assert (found["kind"], found["base_model"], found["family"]) == ("lora", "SD 1.5", "sd1")
    assert found["adapter"]["rank"] == 8


def test_a_zipped_folder(tmp_path: Path) -> None:
    path = tmp_path / "starter.zip"
    write_zip(WEIGHTS, path)
    code, out, _ = inspect(path)
    assert code == 0
    assert "a checkpoint (Starter 1)" in out


def test_unknown_and_refused_have_their_own_codes(tmp_path: Path) -> None:
    strange, pickle = tmp_path / "strange.safetensors", tmp_path / "model.ckpt"
    strange.write_bytes(whole({"w": [2]}))
    pickle.write_bytes(b"\x80\x02" + bytes(600))
    assert inspect(strange)[0] == 1
    code, out, err = inspect(pickle)
    assert (code, out) == (2, "")
    assert "never opened" in err
    code, out, err = inspect(pickle, "--json")
    assert (code, err) == (2, "")
    assert json.loads(out)["refusal"]["code"] == "pickle"
    assert inspect(tmp_path / "nothing")[0] == 2


def picture(path: Path, text: str = "") -> Path:
    chunks = PngInfo()
    if text:
        chunks.add_text("parameters", text)
    Image.new("RGB", (8, 8)).save(path, "PNG", pnginfo=chunks)
    return path


def test_a_picture_tells_what_it_was_made_with(tmp_path: Path) -> None:
    text = (
        "a heron,\ndawn <lora:ink:0.5>\nNegative prompt: fog\nSteps: 9, Sampler: Euler, Seed: 3, "
        'Model: harbour, Model hash: 0123456789, Lora hashes: "ink: 0123456789ab"'
    )
    made = picture(tmp_path / "a.png", text)
    code, out, err = inspect(made)
    assert (code, err) == (0, "")
    assert out.splitlines()[:6] == [
        "Made with     A1111",
        "Prompt        a heron,",
        "              dawn <lora:ink:0.5>",
        "Negative      fog",
        "Checkpoint    harbour (0123456789)",
        "LoRA          ink at 0.5 (0123456789ab)",
    ]
    assert "Seed          3" in out
    code, out, _ = inspect(made, "--json")
    told = json.loads(out)
    assert (code, told["tool"], told["settings"]["Seed"]) == (0, "A1111", "3")
    assert told["resources"][1] == {"kind": "lora", "name": "ink", "hash": "0123456789ab", "weight": 0.5}
    assert told["infotext"].startswith("a heron")


def test_a_picture_without_data_says_so(tmp_path: Path) -> None:
    plain = picture(tmp_path / "a.png")
    code, out, err = inspect(plain)
    assert (code, out, err) == (1, "This picture carries no generation data.\n", "")
    assert inspect(plain, "--json")[:2] == (1, '{\n  "tool": null\n}\n')


def test_a_clip_tells_what_it_was_made_with(tmp_path: Path) -> None:
    frames = np.zeros((5, 32, 32, 3), np.uint8)
    text = "a boat sails left\nSteps: 20, Sampler: Euler, Seed: 3, Frames: 5, FPS: 8, Shift: 3"
    write_clip(tmp_path / "a.mp4", frames, 8, text)
    code, out, err = inspect(tmp_path / "a.mp4")
    assert (code, err) == (0, "")
    assert "Prompt        a boat sails left" in out
    assert "Frames        5" in out
    write_clip(tmp_path / "b.mp4", frames, 8, "")
    assert inspect(tmp_path / "b.mp4") == (1, "This clip carries no generation data.\n", "")
