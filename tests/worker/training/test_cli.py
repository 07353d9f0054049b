import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from app.contract.events import Event, Metric
from tests.worker.tiny import CAPTIONS, tiny_files, tiny_job
from worker import cli
from worker.families import catalog
from worker.reporter import PrintReporter
from worker.training.calibrate import time_steps
from worker.training.checkpoint import find_resume


@pytest.fixture
def photos(pictures: list[Path], tmp_path: Path) -> Path:
    """A folder as people have it: pictures with labels beside them, and something else."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, path in enumerate(pictures):
        (folder / path.name).write_bytes(path.read_bytes())
        (folder / path.name).with_suffix(".txt").write_text(CAPTIONS[number], encoding="utf-8-sig")
    (folder / "notes.md").write_text("no picture")
    return folder


def write(folder: Path, content: Any) -> Path:
    path = folder / "job.json"
    path.write_text(json.dumps(content))
    return path


PARAMS = {
    "resolution": 64, "max_steps": 3, "batch_size": 2, "network_dim": 4, "network_alpha": 2,
    "unet_lr": 5e-3, "lr_scheduler": "constant",
}  # fmt: skip


def test_a_folder_of_photos_becomes_a_lora(
    photos: Path, base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = write(
        tmp_path,
        {"photos": "photos", "base": str(base), "name": "Città vecchia!", "trigger_word": "town",
         "params": PARAMS, "sample_prompts": [{"prompt": "a town", "width": 64, "height": 64}], "threads": 1},
    )  # fmt: skip
    assert cli.main([str(job), "--out", str(tmp_path / "out")]) == 0
    written = tmp_path / "out" / "epochs" / "Citta-vecchia-000001.safetensors"
    assert written.exists()
    assert str(written) in capsys.readouterr().out.replace("\n", "")
    assert (tmp_path / "out" / "samples" / "000001-0.png").exists()
    read, _ = cli.read_job(job)
    assert [item.label for item in read.items] == list(CAPTIONS)


def test_a_worker_s_job_is_read_with_local_paths(base: Path, pictures: list[Path], tmp_path: Path) -> None:
    job = tiny_job(pictures)
    files = {digest: str(path) for digest, path in tiny_files(base, pictures).items()}
    content = {"job": job.model_dump(mode="json"), "files": files}
    assert cli.read_job(write(tmp_path, content)) == (job, tiny_files(base, pictures))
    del files[job.items[0].file.sha256]
    with pytest.raises(cli.BadJob, match=r"000\.png"):
        cli.read_job(write(tmp_path, content))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"photos": "nowhere"}, "photos"),
        ({"base": None}, "base"),
        ({"vae": "nowhere"}, "vae"),
        ({"low_noise": "photos"}, "low_noise"),
        ({"text_encoder": "job.json"}, "text_encoder"),
        ({"wax": 1}, "wax"),
        ({"family": "wax"}, "family"),
        ({"params": {"network_dim": 0}}, "network_dim"),
        ({"preset": "slow"}, "preset"),
        ({"params": [1]}, "params"),
        ({"sample_prompts": ["a town"]}, "sample_prompts"),
    ],
)
def test_a_wrong_job_file_is_told_and_nothing_is_written(
    change: dict[str, Any], words: str, photos: Path, base: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    job = write(tmp_path, {"photos": "photos", "base": str(base)} | change)
    assert cli.main([str(job), "--out", str(tmp_path / "out")]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_no_object_no_json_no_file(tmp_path: Path) -> None:
    assert cli.main([str(write(tmp_path, [1])), "--out", str(tmp_path)]) == 2
    (tmp_path / "job.json").write_text("{")
    assert cli.main([str(tmp_path / "job.json"), "--out", str(tmp_path)]) == 2
    assert cli.main([str(tmp_path / "absent.json"), "--out", str(tmp_path)]) == 2


def test_a_checkpoint_in_one_file_is_trained_on(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "base.safetensors").write_bytes(b"a file")
    (tmp_path / "vae.safetensors").write_bytes(b"another")
    content = {"photos": "photos", "base": "base.safetensors", "vae": "vae.safetensors", "family": "sd1"}
    job, files = cli.read_job(write(tmp_path, content))
    assert (job.base.format, job.base.family) == ("SafeTensor", "sd1")
    assert files[job.base.file.sha256] == tmp_path / "base.safetensors"
    assert job.base.vae is not None
    assert files[job.base.vae.sha256] == tmp_path / "vae.safetensors"


def test_pieces_beside_a_checkpoint_are_named(photos: Path, tmp_path: Path) -> None:
    for name in ("base", "vae", "low"):
        (tmp_path / f"{name}.safetensors").write_bytes(name.encode())
    (tmp_path / "text" / "tokenizer").mkdir(parents=True)
    content = {
        "photos": "photos", "base": "base.safetensors", "vae": "vae.safetensors", "text_encoder": "text",
        "low_noise": "low.safetensors", "family": "wan22_a14b",
    }  # fmt: skip
    job, files = cli.read_job(write(tmp_path, content))
    named = [job.base.vae, job.base.text_encoder, job.base.low_noise]
    assert [files[blob.sha256].name for blob in named if blob] == [
        "vae.safetensors",
        "text",
        "low.safetensors",
    ]
    chosen = {blob.sha256 for blob in named if blob}
    left = {digest: str(file) for digest, file in files.items() if digest not in chosen}
    with pytest.raises(cli.BadJob, match=r"vae\.safetensors, text, low\.safetensors"):
        cli.read_job(write(tmp_path, {"job": job.model_dump(mode="json"), "files": left}))


def test_a_failed_training_has_its_own_exit_code(
    photos: Path, base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    params = PARAMS | {"unet_lr": 1e-12}
    job = write(tmp_path, {"photos": "photos", "base": str(base), "params": params, "threads": 1})
    assert cli.main([str(job), "--out", str(tmp_path / "out")]) == 1
    assert capsys.readouterr().out.startswith("It learned nothing")


class InterruptedOnce(PrintReporter):
    """Somebody presses Ctrl-C after the first step."""

    def report(self, event: Event) -> None:
        super().report(event)
        if isinstance(event, Metric) and event.step == 1:
            os.kill(os.getpid(), signal.SIGINT)


def test_ctrl_c_saves_and_the_same_command_goes_on(
    photos: Path, base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    job = write(tmp_path, {"photos": "photos", "base": str(base), "params": PARAMS, "threads": 1})
    command = [str(job), "--out", str(tmp_path / "out")]
    before = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patch:
        patch.setattr(cli, "PrintReporter", InterruptedOnce)
        assert cli.main(command) == 130
    assert signal.getsignal(signal.SIGINT) is before
    assert [path.name for path in find_resume(tmp_path / "out")] == ["step-00000001.safetensors"]
    assert cli.main(command) == 0
    printed = capsys.readouterr()
    assert "The same command goes on from there" in printed.out
    assert "Goes on from step 1." in printed.err


def test_three_steps_are_timed(base: Path) -> None:
    params = tiny_job([]).params
    figures = time_steps(catalog.load("starter"), base, params=params, threads=1)
    assert 0 < figures.seconds_per_step < 600
    assert figures.peak_memory_bytes > 2**20
