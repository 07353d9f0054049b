"""Trainings on clips: windows, mixed sets, both experts, what is written, and resuming to the bit."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from app.contract.events import Checkpoint, Finished, Progress, Sample
from app.contract.jobs import TrainItem, TrainJob
from tests.worker.tiny import blob, tiny_base, tiny_files, tiny_job, tiny_pictures
from tests.worker.tiny_clips import SIDE, clip_job, moving_square, tiny_clips
from tests.worker.training.conftest import equal
from worker.cli import BadJob, simple_job
from worker.draws import Draws
from worker.families import catalog
from worker.inference.clip_files import read_infotext
from worker.reporter import NullReporter
from worker.training.checkpoint import find_resume
from worker.training.dataset import Stream, load_clip, load_examples
from worker.training.errors import TrainingError
from worker.training.monitor import Monitor
from worker.training.recipe import prepare, train
from worker.training.run import Run, Task
from worker.training.step import train_step

CPU = torch.device("cpu")
EXPERTS = "wan22_a14b"
CHANGES: dict[str, tuple[Any, dict[str, Any]]] = {
    "clip_frames": (9, {}),
    "clip_windows": ("head", {"clip_count": 3}),
    "clip_count": (3, {}),
    "clip_stride": (3, {"clip_windows": "sliding"}),
    "flow_shift": (1.0, {}),
    "timestep_density": ("logit_normal", {}),
    "flip": (True, {}),
}
"""field: (changed value, what else the two runs have)."""


class Set:
    """Clips and pictures, a checkpoint of each family, and runs over them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clips = tiny_clips(folder / "clips", 2)
        self.pictures = tiny_pictures(folder / "pictures", 2, ((64, 64), (64, 32)))

    def files(self, family: str) -> dict[str, Path]:
        base = tiny_base(self.folder / f"base-{family}", family)
        return tiny_files(base, [*self.clips, *self.pictures])

    def job(self, family: str = "video_starter", *, pictures: int = 0, **changes: Any) -> TrainJob:
        return clip_job(family, self.clips, self.pictures[:pictures], **changes)

    def train(
        self, job: TrainJob, out: Path, family: str = "video_starter", reporter: NullReporter | None = None
    ) -> Finished:
        return train(job, catalog.load(family), self.files(family), out, reporter or NullReporter())

    def prepare(self, job: TrainJob, out: Path, family: str = "video_starter") -> Run:
        monitor = Monitor(NullReporter(), 1, 1)
        return prepare(Task(job, catalog.load(family), self.files(family), out, monitor, CPU, Draws(0)))


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Set:
    return Set(tmp_path_factory.mktemp("set"))


def adapter(out: Path, name: str = "tiny-000001") -> dict[str, Tensor]:
    return load_file(out / "epochs" / f"{name}.safetensors")


def metadata_of(path: Path) -> dict[str, str]:
    with safe_open(path, framework="pt") as opened:
        return dict(opened.metadata())


def test_windows_show_the_frames_that_the_family_would_play(clips: Set) -> None:
    """12 frames at 16 a second are 6 at 8: one window of 5 begins with the clip, one ends with it."""
    spec = catalog.specs()["video_starter"]
    examples = load_examples(clips.job(pictures=1), clips.files("video_starter"), 16, Draws(0), spec.clips)
    assert [(e.clip, e.shown) for e in examples] == [
        (0, (0, 2, 4, 6, 8)), (0, (2, 4, 6, 8, 10)), (1, (0, 2, 4, 6, 8)), (1, (2, 4, 6, 8, 10)), (2, (0,)),
    ]  # fmt: skip
    assert [e.number for e in examples] == [0, 1, 2, 3, 4]
    pixels = load_clip(examples[1])
    drawn = torch.from_numpy(moving_square(12)[[2, 4, 6, 8, 10]]).permute(3, 0, 1, 2) / 127.5 - 1
    assert pixels.shape == drawn.shape == (3, 5, SIDE, SIDE)
    assert float((pixels - drawn).abs().mean()) < 0.03
    assert load_clip(examples[4]).shape == (3, 1, SIDE, SIDE)


def test_every_clip_counts_alike_and_every_window_has_its_turn(clips: Set) -> None:
    spec = catalog.specs()["video_starter"]
    job = clips.job(pictures=1)
    examples = load_examples(job, clips.files("video_starter"), 16, Draws(0), spec.clips)
    stream = Stream(examples, 6, 2, Draws(0))
    for first in (0, 6):
        turns = [sample.example for sample in stream.take(first, 6)]
        assert sorted(example.clip for example in turns) == [0, 0, 1, 1, 2, 2]
        assert {example.number for example in turns} == {0, 1, 2, 3, 4}


def test_lengths_are_never_mixed_in_a_batch(clips: Set, tmp_path: Path) -> None:
    run = clips.prepare(clips.job(pictures=2, batch_size=4), tmp_path)
    shapes = {tuple(tensor.shape[3:]) for tensor in run.cache.latents.values()}
    assert len(shapes) == 3  # clips, a square picture, a wide one
    loss, _ = train_step(run, Stream(run.trained, 8, 4, run.rng).take(0, 8), 1.0)
    assert 0 < float(loss) < 100


@pytest.mark.parametrize("name", CHANGES)
def test_changing_a_field_changes_the_adapter(name: str, clips: Set, tmp_path: Path) -> None:
    value, common = CHANGES[name]
    runs: list[dict[str, Tensor]] = []
    for changes in (common, common | {name: value}):
        out = tmp_path / str(len(runs))
        job = clips.job("wan", epochs=1, repeats=3, **changes)
        assert clips.train(job, out, "wan").outcome == "succeeded"
        runs.append(adapter(out))
    assert not equal(*runs)


def test_checkpointed_gradients_are_the_same(clips: Set, tmp_path: Path) -> None:
    def step(checkpointing: bool) -> tuple[float, list[Tensor]]:
        job = clips.job(EXPERTS, gradient_checkpointing=checkpointing)
        run = clips.prepare(job, tmp_path / str(checkpointing), EXPERTS)
        run.state.step = 1
        loss, _ = train_step(run, Stream(run.trained, 4, 2, run.rng).take(0, 2), 1.0)
        return float(loss), [tensor.detach().clone() for tensor in run.adapter.parameters("model")]

    (loss, plain), (same, saved) = step(False), step(True)
    assert same == pytest.approx(loss, rel=1e-5)
    assert all(torch.allclose(one, other, atol=1e-5) for one, other in zip(plain, saved, strict=True))


def test_pictures_alone_train_a_family_of_clips(clips: Set, tmp_path: Path) -> None:
    job = clip_job("wan", (), clips.pictures, epochs=1, prompts=1)
    reporter = NullReporter()
    assert clips.train(job, tmp_path, "wan", reporter).outcome == "succeeded"
    told = json.loads(metadata_of(tmp_path / "epochs" / "tiny-000001.safetensors")["ss_datasets"])
    assert told[0]["target_frames"] == [1]


def test_samples_are_clips_with_posters_and_generation_data(clips: Set, tmp_path: Path) -> None:
    job = clips.job(epochs=1, prompts=1)
    still = job.sample_prompts[0].model_copy(update={"frames": 1, "seed": 9})
    job = job.model_copy(update={"sample_prompts": (*job.sample_prompts, still)})
    reporter = NullReporter()
    clips.train(job, tmp_path, reporter=reporter)
    samples = [event for event in reporter.events if isinstance(event, Sample)]
    assert [(s.baseline, s.frames, s.fps) for s in samples] == [
        (True, 5, 8), (True, 1, None), (False, 5, 8), (False, 1, None),
    ]  # fmt: skip
    moving, picture = samples[2:]
    assert moving.poster
    with Image.open(tmp_path / moving.poster) as poster:
        assert (poster.format, poster.size) == ("JPEG", (SIDE, SIDE))
    assert "red house" in read_infotext(tmp_path / moving.path)
    with Image.open(tmp_path / picture.path) as opened:
        assert "Seed: 9" in opened.info["parameters"]
    assert {e.unit for e in reporter.events if isinstance(e, Progress) and e.phase == "sampling"} == {"clip"}
    told = metadata_of(tmp_path / "epochs" / "tiny-000001.safetensors")
    assert told["modelspec.thumbnail"].startswith("data:image/jpeg;base64,")


def test_metadata_is_that_of_musubi_and_true(clips: Set, tmp_path: Path) -> None:
    job = clips.job("wan", pictures=1, epochs=1, timestep_density="logit_normal", precision="bf16")
    clips.train(job, tmp_path, "wan")
    told = metadata_of(tmp_path / "epochs" / "tiny-000001.safetensors")
    expected = {
        "ss_base_model_version": "wan", "ss_network_module": "networks.lora_wan",
        "ss_timestep_sampling": "shift", "ss_discrete_flow_shift": "3.0", "ss_weighting_scheme": "none",
        "ss_num_train_items": "5", "ss_full_bf16": "True", "modelspec.architecture": "wan2.1/lora",
        "modelspec.description": "Style LoRA for Starter 1, 2 clips and 1 picture.",
    }  # fmt: skip
    assert {name: told.get(name) for name in expected} == expected
    (described,) = json.loads(told["ss_datasets"])
    assert described["target_frames"] == [1, 5]
    assert described["buckets"] == {"32 × 32 × 1": 1, "32 × 32 × 5": 4}
    foreign = {"ss_min_snr_gamma", "ss_noise_offset", "ss_zero_terminal_snr", "modelspec.prediction_type"}
    assert not foreign & told.keys()


def test_two_experts_learn_in_turns_and_have_a_file_each(clips: Set, tmp_path: Path) -> None:
    run = clips.prepare(clips.job(EXPERTS), tmp_path / "by-hand", EXPERTS)
    stream = Stream(run.trained, 8, 2, run.rng)
    for step, learns in ((1, "model"), (2, "model_2"), (3, "model")):
        before = {part: ups(run, part) for part in ("model", "model_2")}
        run.state.step = step
        train_step(run, stream.take(2 * step, 2), 1.0)
        changed = {part for part in before if not torch.equal(before[part], ups(run, part))}
        assert changed == {learns}

    reporter = NullReporter()
    assert (
        clips.train(clips.job(EXPERTS, epochs=2), tmp_path / "run", EXPERTS, reporter).outcome == "succeeded"
    )
    saved = [event for event in reporter.events if isinstance(event, Checkpoint)]
    assert len(saved) == 2
    for event in saved:
        assert event.low_noise
        high, low = (tmp_path / "run" / path for path in (event.path, event.low_noise.path))
        assert (high.stem, low.stem) == (
            f"tiny-{event.epoch:06d}_high_noise",
            f"tiny-{event.epoch:06d}_low_noise",
        )
        assert [metadata_of(path)["bottega_expert"] for path in (high, low)] == ["high_noise", "low_noise"]
        assert load_file(high).keys() == load_file(low).keys()
        assert not equal(load_file(high), load_file(low))
        assert low.stat().st_size == event.low_noise.size


def ups(run: Run, part: str) -> Tensor:
    """Everything that changes in the first step of a fresh adapter."""
    state = run.adapter.state()
    names = [name for name in state if name.startswith(f"{part}.") and name.endswith("lora_up.weight")]
    return torch.cat([state[name].flatten().clone() for name in names])


def test_training_goes_on_from_both_files(clips: Set, tmp_path: Path) -> None:
    clips.train(clips.job(EXPERTS, epochs=1), tmp_path / "first", EXPERTS)
    names = ("high_noise", "low_noise")
    high, low = (tmp_path / f"first/epochs/tiny-000001_{name}.safetensors" for name in names)
    files = clips.files(EXPERTS) | {blob(path).sha256: path for path in (high, low)}
    job = clips.job(EXPERTS, epochs=1).model_copy(
        update={"continue_from": blob(high), "continue_low_noise": blob(low)}
    )
    monitor = Monitor(NullReporter(), 1, 1)
    run = prepare(Task(job, catalog.load(EXPERTS), files, tmp_path / "second", monitor, CPU, Draws(0)))
    for part, path in (("model", high), ("model_2", low)):
        up = load_file(path)["diffusion_model.blocks.0.self_attn.q.lora_B.weight"]
        mine = run.adapter.state()[f"{part}.blocks.0.attn1.to_q.lora_up.weight"]
        assert torch.allclose(mine * 0.5, up, atol=1e-7)  # alpha 2 of dim 4 is multiplied in


CHILD = """
import json, os, signal, sys
from pathlib import Path
from app.contract.jobs import TrainJob
from worker.families import catalog
from worker.reporter import NullReporter
from worker.training.recipe import train

class Killed(NullReporter):
    def report(self, event):
        super().report(event)
        if event.kind == "resume" and event.step == int(sys.argv[3]):
            os.kill(os.getpid(), signal.SIGKILL)

said = json.loads(Path(sys.argv[1]).read_text())
files = {digest: Path(path) for digest, path in said["files"].items()}
train(TrainJob.model_validate(said["job"]), catalog.load(said["family"]), files, Path(sys.argv[2]), Killed(),
      resume_seconds=0)
"""


def hard(clips: Set, family: str) -> TrainJob:
    """Six steps in which everything that is drawn is drawn."""
    more = {"flip": True, "shuffle_tags": True, "caption_dropout": 0.3, "timestep_density": "logit_normal"}
    return clips.job(family, pictures=1, epochs=2, repeats=2, **more)


def check_same_files(one: Path, other: Path, count: int) -> None:
    names = sorted(file.name for file in (one / "epochs").iterdir())
    assert len(names) == count
    for name in names:
        assert equal(load_file(one / "epochs" / name), load_file(other / "epochs" / name)), name


def test_a_killed_run_ends_with_the_same_bits(clips: Set, tmp_path: Path) -> None:
    job = hard(clips, EXPERTS)
    assert clips.train(job, tmp_path / "whole", EXPERTS).steps == 6
    path, out = tmp_path / "job.json", tmp_path / "killed"
    files = {digest: str(file) for digest, file in clips.files(EXPERTS).items()}
    path.write_text(json.dumps({"job": job.model_dump(mode="json"), "files": files, "family": EXPERTS}))
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", CHILD, str(path), str(out), "4"],
        env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert find_resume(out)[0].stem == "step-00000004"
    assert clips.train(job, out, EXPERTS).outcome == "succeeded"
    check_same_files(tmp_path / "whole", out, 4)


@pytest.mark.parametrize("family", ["video_starter", "ltx"])
def test_a_paused_run_ends_with_the_same_bits(family: str, clips: Set, tmp_path: Path) -> None:
    job = hard(clips, family)
    clips.train(job, tmp_path / "whole", family)
    wishes: list[Any] = [None] * 9 + ["pause"]
    assert clips.train(job, tmp_path / "two", family, NullReporter(wishes)).outcome == "paused"
    point = find_resume(tmp_path / "two")[0]
    assert 0 < int(point.stem.removeprefix("step-")) < 6
    assert clips.train(job, tmp_path / "two", family).outcome == "succeeded"
    check_same_files(tmp_path / "whole", tmp_path / "two", 2)


@pytest.mark.parametrize("content", [b"", b"no clip at all", b"\0\0\0\x18ftypisom" + bytes(200)])
def test_a_clip_that_cannot_be_read_is_named(content: bytes, clips: Set, tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(content)
    files = clips.files("video_starter") | {blob(clips.clips[0]).sha256: broken}
    finished = train(clips.job(), catalog.load("video_starter"), files, tmp_path / "out", NullReporter())
    assert (finished.outcome, finished.code) == ("failed", "image-unreadable")
    assert finished.detail == "000.mp4 cannot be read. Remove it from the set."


def test_a_clip_that_lost_frames_is_named(clips: Set, tmp_path: Path) -> None:
    (short,) = tiny_clips(tmp_path / "short", 1, (3,))
    files = clips.files("video_starter") | {blob(clips.clips[0]).sha256: short}
    finished = train(clips.job(), catalog.load("video_starter"), files, tmp_path / "out", NullReporter())
    assert finished.code == "image-unreadable"
    assert "fewer frames" in (finished.detail or "")


def test_families_of_pictures_refuse_clips(clips: Set) -> None:
    item = TrainItem(file=blob(clips.clips[0]), width=SIDE, height=SIDE, label="", frames=12, fps=16)
    job = tiny_job((), items=(item,))
    with pytest.raises(TrainingError, match=r"000\.mp4 is a clip"):
        load_examples(job, clips.files("video_starter"), 8, Draws(0))


def test_a_folder_of_clips_is_a_job_of_the_command_line(clips: Set, tmp_path: Path) -> None:
    folder = tmp_path / "set"
    tiny_clips(folder, 2)
    tiny_pictures(folder / "more", 1)[0].rename(folder / "still.png")
    (folder / "000.txt").write_text("a square moves")
    given = {
        "photos": "set", "base": str(clips.folder), "family": "video_starter",
        "sample_prompts": [{"prompt": "a square"}],
    }  # fmt: skip
    job, files = simple_job(given, tmp_path)
    assert [(i.file.name, i.width, i.height, i.frames, i.fps, i.label) for i in job.items] == [
        ("000.mp4", SIDE, SIDE, 12, 16, "a square moves"), ("001.mp4", SIDE, SIDE, 12, 16, ""),
        ("still.png", 64, 64, 1, None, ""),
    ]  # fmt: skip
    assert {files[item.file.sha256].name for item in job.items} == {"000.mp4", "001.mp4", "still.png"}
    assert job.sample_prompts[0].frames == job.params.clip_frames == 17
    pictures, _ = simple_job(given | {"family": "starter"}, tmp_path)
    assert [item.file.name for item in pictures.items] == ["still.png"]
    (folder / "001.mp4").write_bytes(b"no clip")
    with pytest.raises(BadJob, match=r"001\.mp4 cannot be read"):
        simple_job(given, tmp_path)
