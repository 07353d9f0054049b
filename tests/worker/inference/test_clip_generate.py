"""A generation of clips from job to files: what it reports, what it writes, how it ends."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from PIL import Image

from app.contract.events import EVENT, Event, Finished, LogLine, Picture, Progress
from app.contract.jobs import GenerateJob, StartPicture
from tests.worker.inference.small import save_lora
from tests.worker.inference.small_clips import SIZES, blob, clip_job, clip_lora, clip_lora_ref, saved
from tests.worker.inference.test_generate import Wishing
from worker.inference.clip_draw import ClipRequest, draw_clips
from worker.inference.clip_files import poster, read_infotext
from worker.inference.clip_models import clip_model
from worker.inference.generate import run_generate
from worker.inference.infotext import find_text, read
from worker.inference.pool import PipelinePool
from worker.inference.preview import rough
from worker.inference.sparing import sparing
from worker.reporter import NullReporter


@dataclass
class Studio:
    """A pool with small checkpoints of clips; `run` draws a job."""

    bases: dict[str, Path]
    folder: Path
    pool: PipelinePool
    events: list[Event] = field(default_factory=list)
    runs: int = 0
    out: Path = Path()

    def run(self, wanted: GenerateJob, reporter: NullReporter | None = None) -> Finished:
        reporter = reporter or NullReporter()
        self.runs += 1
        self.out = self.folder / f"out{self.runs}"
        files = {wanted.base.file.sha256: self.bases[wanted.base.family]}
        files |= {digits * 32: self.folder / name for digits, name in FILES.items()}
        finished = run_generate(wanted, files, self.out, reporter, self.pool)
        self.events = reporter.events
        return finished

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    def bytes_of(self, wanted: GenerateJob) -> list[bytes]:
        finished = self.run(wanted)
        assert finished.outcome == "succeeded", finished.detail
        return [path.read_bytes() for path in sorted(self.out.glob("*.jpg"))]


FILES = {"11": "foam.safetensors", "22": "low.safetensors", "77": "first.png"}
NAMES = {"video_starter": "ab", "wan22_a14b": "cd", "wan22_5b": "ef"}


@pytest.fixture(scope="module")
def bases(clip_pipes: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("films")
    return {family: saved(clip_pipes[family], folder / family) for family in NAMES}


@pytest.fixture(scope="module")
def pool() -> PipelinePool:
    return PipelinePool(1 << 40)


@pytest.fixture
def studio(bases: dict[str, Path], pool: PipelinePool, clip_pipes: dict[str, Any], tmp_path: Path) -> Studio:
    network = clip_pipes["wan22_a14b"].transformer
    save_lora(tmp_path / "foam.safetensors", clip_lora(network, "musubi"))
    save_lora(tmp_path / "low.safetensors", clip_lora(network, seed=2))
    Image.fromarray(np.arange(64 * 48 * 3, dtype=np.uint32).astype(np.uint8).reshape(48, 64, 3)).save(
        tmp_path / "first.png"
    )
    return Studio(bases, tmp_path, pool)


def wanted(family: str = "video_starter", **changes: Any) -> GenerateJob:
    job = clip_job(family, **changes)
    return job.model_copy(
        update={"base": job.base.model_copy(update={"file": blob(NAMES[family], "base.zip")})}
    )


def test_clips_are_written_and_reported(studio: Studio) -> None:
    finished = studio.run(wanted(fps=12))
    assert (finished.outcome, finished.steps) == ("succeeded", 4)
    pictures = studio.of(Picture)
    height, width, frames = SIZES["video_starter"]
    assert [(p.index, p.seed, p.path, p.poster) for p in pictures] == [
        (0, 11, "000.mp4", "000.jpg"),
        (1, 12, "001.mp4", "001.jpg"),
    ]
    for picture in pictures:
        assert (picture.width, picture.height, picture.frames, picture.fps) == (width, height, frames, 12)
        assert read_infotext(studio.out / picture.path) == picture.infotext
        with av.open(studio.out / picture.path) as movie:
            assert sum(1 for _ in movie.decode(video=0)) == frames
        with Image.open(studio.out / picture.poster) as image:
            assert image.size == (width, height)
    assert [p.current for p in studio.of(Progress) if p.phase == "sampling"] == [1, 2, 3, 4]
    assert all(EVENT.validate_json(event.model_dump_json()) == event for event in studio.events)


def test_generation_data_says_what_a_clip_was_made_with(studio: Studio) -> None:
    studio.run(wanted(sampler="DPM++ 2M", seeds=(11,), fps=12))
    info = read(studio.of(Picture)[0].infotext)
    assert (info.prompt, info.negative_prompt, info.seed, info.size) == ("a red boat", "fog", 11, (48, 32))
    assert (info.frames, info.fps, info.shift) == (5, 12, 3)
    assert (info.settings["Sampler"], info.settings["Schedule type"]) == ("DPM++ 2M", "Normal")
    assert "Clip skip" not in info.settings
    studio.run(wanted(seeds=(11,)))
    assert read(studio.of(Picture)[0].infotext).fps == 8


def test_one_frame_is_a_picture(studio: Studio) -> None:
    studio.run(wanted(frames=1, seeds=(11,)))
    (picture,) = studio.of(Picture)
    assert (picture.path, picture.frames, picture.fps, picture.poster) == ("000.png", 1, None, None)
    with Image.open(studio.out / "000.png") as image:
        assert find_text(image) == picture.infotext
    assert read(picture.infotext).frames is None


def test_clips_are_those_of_draw_clips(studio: Studio, clip_pipes: dict[str, Any]) -> None:
    height, width, frames = SIZES["video_starter"]
    request = ClipRequest("a red boat", "fog", 2, 4, width, height, frames, (11,), 3.0)
    drawn = next(draw_clips(clip_pipes["video_starter"], request))[1]
    assert studio.bytes_of(wanted(seeds=(11,))) == [poster(drawn)]


def test_two_at_once_are_two_jobs(studio: Studio) -> None:
    together = studio.bytes_of(wanted(seeds=(1, 2)))
    assert together == [studio.bytes_of(wanted(seeds=(seed,)))[0] for seed in (1, 2)]


def test_a_lora_with_two_files_acts_and_leaves_no_trace(studio: Studio) -> None:
    plain = studio.bytes_of(wanted("wan22_a14b"))
    both = studio.bytes_of(wanted("wan22_a14b", loras=(clip_lora_ref("foam", "11", low="22"),)))
    assert "<lora:foam:0.8>" in studio.of(Picture)[0].infotext
    one = studio.bytes_of(wanted("wan22_a14b", loras=(clip_lora_ref("foam", "11"),)))
    assert len({tuple(plain), tuple(both), tuple(one)}) == 3
    assert studio.bytes_of(wanted("wan22_a14b")) == plain


def test_a_clip_goes_on_from_a_picture_with_all_its_steps(studio: Studio) -> None:
    start = StartPicture(file=blob("77", "first.png"), denoise=0.1)
    assert studio.run(wanted("wan22_5b", start=start, seeds=(11,))).steps == 2
    assert studio.of(Picture)[0].frames == 5
    assert "Denoising strength" not in studio.of(Picture)[0].infotext


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"frames": 6}, "4 · n"),
        ({"frames": 4001}, "at most"),
        ({"fps": 0.2}, "frames a second"),
        ({"sampler": "DDIM"}, "Use one of"),
        ({"start": StartPicture(file=blob("77", "first.png"))}, "cannot go on from a picture"),
        ({"start": StartPicture(file=blob("77", "first.png"), mask=blob("77", "m.png"))}, "A mask"),
    ],
)
def test_what_cannot_be_drawn_ends_with_words(studio: Studio, changes: dict[str, Any], words: str) -> None:
    finished = studio.run(wanted(**changes))
    assert (finished.outcome, finished.code) == ("failed", "invalid-settings")
    assert words in (finished.detail or "")
    assert studio.of(LogLine)[-1].message == finished.detail


def test_a_cancel_acts_between_steps(studio: Studio) -> None:
    finished = studio.run(wanted(seeds=(1, 2, 3)), Wishing(3, "cancel"))
    assert (finished.outcome, finished.steps) == ("canceled", 3)
    assert [picture.index for picture in studio.of(Picture)] == [0]


@pytest.mark.parametrize("family", ["video_starter", "wan22_5b", "ltx"])
def test_previews_show_the_middle_of_a_clip(clip_pipes: dict[str, Any], family: str) -> None:
    pipe = clip_pipes[family]
    sizes = clip_model(pipe).sizes
    shape = sizes.shape(sizes.step + 1, 4 * sizes.side, 2 * sizes.side)
    image = rough(pipe, torch.zeros(*shape))
    assert image.size == (2 * sizes.side, 4 * sizes.side)


def test_sparing_decodes_in_tiles_and_puts_back(clip_pipes: dict[str, Any]) -> None:
    for pipe in clip_pipes.values():
        with sparing(pipe):
            assert pipe.vae.use_tiling is True
        assert pipe.vae.use_tiling is False
