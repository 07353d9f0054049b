"""A generation from job to files: what it reports, what it writes, how it ends."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from app.contract.events import EVENT, Command, Event, Finished, LogLine, Picture, Progress, Unplaced
from app.contract.jobs import GenerateJob
from tests.worker.inference.small import SIZE, job, kohya_lora, lora_ref, save_lora, small_pipeline
from worker.inference.draw import Request, draw
from worker.inference.generate import run_generate
from worker.inference.infotext import find_text, read
from worker.inference.lora_files import autov3
from worker.inference.pool import PipelinePool
from worker.reporter import NullReporter


@dataclass
class Studio:
    """A pool with the small checkpoint and two LoRA files; `run` draws a job."""

    base: Path
    folder: Path
    pool: PipelinePool
    runs: int = 0
    events: list[Event] = field(default_factory=list)
    out: Path = Path()

    @property
    def files(self) -> dict[str, Path]:
        return {
            "ab" * 32: self.base,
            "11" * 32: self.folder / "ink.safetensors",
            "22" * 32: self.folder / "oil.safetensors",
            "33" * 32: self.folder / "odd.safetensors",
        }

    def run(self, wanted: GenerateJob, reporter: NullReporter | None = None) -> Finished:
        reporter = reporter or NullReporter()
        self.runs += 1
        self.out = self.folder / f"out{self.runs}"
        finished = run_generate(wanted, self.files, self.out, reporter, self.pool)
        self.events = reporter.events
        return finished

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    def pixels(self, wanted: GenerateJob) -> list[bytes]:
        assert self.run(wanted).outcome == "succeeded"
        return [Image.open(path).tobytes() for path in sorted(self.out.glob("*.png"))]

    @property
    def warnings(self) -> list[str]:
        return [event.message for event in self.of(LogLine) if event.level == "warning"]


@pytest.fixture(scope="module")
def pool() -> PipelinePool:
    """Warm from test to test, as in a worker from job to job."""
    return PipelinePool(1 << 40)


@pytest.fixture
def studio(pipe: Any, base_folder: Path, tmp_path: Path, pool: PipelinePool) -> Studio:
    save_lora(tmp_path / "ink.safetensors", kohya_lora(pipe))
    save_lora(tmp_path / "oil.safetensors", kohya_lora(pipe, seed=2))
    return Studio(base_folder, tmp_path, pool)


INK, OIL = lora_ref("ink", "11"), lora_ref("oil", "22")


class Wishing(NullReporter):
    """Speaks a command once so many steps were reported."""

    def __init__(self, after: int, command: Command) -> None:
        super().__init__()
        self._after, self._wish = after, command

    def command(self) -> Command | None:
        steps = sum(isinstance(event, Progress) and event.current > 0 for event in self.events)
        if steps != self._after:
            return None
        self._after = -1
        return self._wish


def test_a_generation_writes_and_reports_every_picture(studio: Studio) -> None:
    finished = studio.run(job(seeds=(11, 12, 13)))
    assert (finished.outcome, finished.code, finished.steps) == ("succeeded", None, 6)
    assert finished.run_seconds is not None
    assert finished.peak_memory_bytes
    pictures = studio.of(Picture)
    assert [(p.index, p.seed, p.path) for p in pictures] == [
        (0, 11, "000.png"),
        (1, 12, "001.png"),
        (2, 13, "002.png"),
    ]
    for picture in pictures:
        with Image.open(studio.out / picture.path) as image:
            assert (image.size, image.mode) == ((SIZE, SIZE), "RGB")
            assert find_text(image) == picture.infotext
        assert read(picture.infotext).seed == picture.seed
    assert all(EVENT.validate_json(event.model_dump_json()) == event for event in studio.events)


def test_pictures_are_those_of_draw(studio: Studio) -> None:
    request = Request("a red house", "", "DPM++ 2M Karras", 2, 7, SIZE, SIZE, (11, 12))
    expected = [image.tobytes() for _, image in draw(small_pipeline(), request)]
    assert studio.pixels(job()) == expected


@pytest.mark.parametrize("sampler", ["Euler a", "DPM++ 2M Karras", "DPM++ SDE"])
def test_four_at_once_are_four_jobs_to_the_bit(studio: Studio, sampler: str) -> None:
    together = studio.pixels(job(sampler=sampler, seeds=(1, 2, 3, 4), loras=(INK,)))
    alone = [studio.pixels(job(sampler=sampler, seeds=(seed,), loras=(INK,)))[0] for seed in (1, 2, 3, 4)]
    assert together == alone


def test_progress_runs_over_all_pictures(studio: Studio) -> None:
    studio.run(job())
    [preparing, *sampling] = studio.of(Progress)
    assert (preparing.phase, preparing.current) == ("preparing", 0)
    assert [(event.phase, event.current, event.total) for event in sampling] == [
        ("sampling", step, 4) for step in (1, 2, 3, 4)
    ]
    assert all(event.rate > 0 for event in sampling)
    assert sampling[-1].eta_seconds == 0


def test_a_picture_is_reported_before_the_next_is_begun(studio: Studio) -> None:
    studio.run(job())
    kinds = [event.kind for event in studio.events]
    assert kinds == ["progress"] * 3 + ["picture"] + ["progress"] * 2 + ["picture"]


@pytest.mark.parametrize(("after", "pictures"), [(0, 0), (1, 0), (2, 1), (3, 1)])
def test_cancel_acts_before_the_next_step(studio: Studio, after: int, pictures: int) -> None:
    finished = studio.run(job(), Wishing(after, "cancel"))
    assert (finished.outcome, finished.steps) == ("canceled", after)
    assert len(studio.of(Picture)) == pictures == len(list(studio.out.glob("*.png")))


def test_pause_ends_it_so_that_it_can_run_anew(studio: Studio) -> None:
    assert studio.run(job(), Wishing(3, "pause")).outcome == "paused"


def test_a_job_canceled_before_it_began_loads_nothing(studio: Studio) -> None:
    studio.pool.clear()
    assert studio.run(job(), NullReporter(["cancel"])).outcome == "canceled"
    assert studio.pool.warm == []


def test_wishes_that_a_generation_does_not_know_are_passed_over(studio: Studio) -> None:
    assert studio.run(job(), NullReporter(["save", "sample"])).outcome == "succeeded"


def test_a_lora_acts_and_is_gone_in_the_next_job(studio: Studio) -> None:
    plain = studio.pixels(job())
    with_ink = studio.pixels(job(loras=(INK,)))
    with_both = studio.pixels(job(loras=(INK, OIL)))
    assert studio.pixels(job()) == plain
    assert len({tuple(plain), tuple(with_ink), tuple(with_both)}) == 3


def test_a_tag_in_the_prompt_replaces_the_strength(studio: Studio) -> None:
    tagged = studio.pixels(job(prompt="a red house <lora:ink:0.3>", loras=(INK,)))
    assert read(studio.of(Picture)[0].infotext).prompt == "a red house <lora:ink:0.3>"
    assert tagged == studio.pixels(job(loras=(lora_ref("ink", "11", 0.3),)))
    assert tagged != studio.pixels(job(loras=(INK,)))
    parted = studio.pixels(job(prompt="a red house <lora:ink:0:0.3>", loras=(INK,)))
    assert parted != tagged


def test_what_the_prompt_names_in_vain_is_told(studio: Studio) -> None:
    prompt = "a red house <lora:unknown:1> <hypernet:x:1>"
    assert studio.pixels(job(prompt=prompt, negative_prompt="<lora:ink:1>")) == studio.pixels(job())
    studio.run(job(prompt=prompt, negative_prompt="<lora:ink:1>"))
    assert len(studio.warnings) == 3
    for words in ("“unknown”", "<hypernet:x:1>", "negative prompt"):
        assert any(words in warning for warning in studio.warnings)


def test_a_strength_out_of_range_in_the_prompt_is_brought_into_it(studio: Studio) -> None:
    far = studio.pixels(job(prompt="a red house <lora:ink:7>", loras=(INK,)))
    assert "“ink”" in studio.warnings[0]
    assert far == studio.pixels(job(loras=(lora_ref("ink", "11", 2.0),)))


def test_layers_without_a_place_are_told(studio: Studio, tmp_path: Path) -> None:
    odd = kohya_lora(small_pipeline()) | {"odd_key": torch.ones(1)}
    save_lora(tmp_path / "odd.safetensors", odd)
    finished = studio.run(job(loras=(INK, lora_ref("odd", "33"))))
    assert finished.unplaced == (Unplaced(lora="odd", count=1, names=("odd_key",)),)
    assert studio.warnings == ["LoRA “odd”: 1 entry has no place here and does nothing: odd_key"]


def test_infotext_names_every_lora_and_its_hash(studio: Studio) -> None:
    studio.run(job(prompt="<lora:ink:0.5> a red house", loras=(INK, lora_ref("oil", "22", 1.0, autov3=""))))
    info = read(studio.of(Picture)[0].infotext)
    assert info.prompt == "<lora:ink:0.5> a red house <lora:oil:1>"
    oil = autov3(studio.folder / "oil.safetensors")
    assert info.settings["Lora hashes"] == f"ink: 0123456789ab, oil: {oil}"
    assert [(lora.name, lora.strength) for lora in info.loras] == [("ink", 0.5), ("oil", 1.0)]


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        ({"cfg_scale": 1e38}, "not-finite", "CFG scale"),
        ({"width": 30}, "invalid-settings", "multiples of 4"),
        ({"sampler": "Euler z"}, "invalid-settings", "Euler a"),
        ({"clip_skip": 9}, "invalid-settings", "between 1 and 2"),
        ({"steps": 0}, "invalid-settings", "1 or more"),
        ({"loras": (INK, INK)}, "lora-unusable", "twice"),
        ({"width": 1 << 24, "height": 1 << 24}, "out-of-memory", "smaller size"),
    ],
)
def test_failures_are_told_in_words(studio: Studio, change: dict[str, Any], code: str, words: str) -> None:
    finished = studio.run(job(**change))
    assert (finished.outcome, finished.code) == ("failed", code)
    assert words in (finished.detail or "")
    assert studio.of(LogLine)[-1] == LogLine(level="error", message=finished.detail or "")
    assert studio.of(Picture) == []


def test_after_a_failure_the_pool_draws_as_before(studio: Studio) -> None:
    plain = studio.pixels(job())
    for change in ({"width": 1 << 24, "height": 1 << 24}, {"cfg_scale": 1e38, "loras": (INK,)}):
        assert studio.run(job(**change)).outcome == "failed"
        assert studio.pixels(job()) == plain


def test_a_full_memory_empties_the_pool(studio: Studio) -> None:
    studio.run(job())
    assert studio.pool.warm
    studio.run(job(width=1 << 24, height=1 << 24))
    assert studio.pool.warm == []


def test_an_unusable_lora_is_told(studio: Studio) -> None:
    (studio.folder / "ink.safetensors").write_bytes(b"not a LoRA")
    assert studio.run(job(loras=(INK,))).code == "lora-unusable"


@pytest.mark.parametrize(("name", "words"), [("notes.txt", "diffusers folder"), ("x.safetensors", "damaged")])
def test_an_unusable_checkpoint_is_told(studio: Studio, tmp_path: Path, name: str, words: str) -> None:
    studio.base = tmp_path / "broken"
    studio.base.mkdir()
    (studio.base / name).write_bytes(b"not a checkpoint")
    studio.pool.clear()
    finished = studio.run(job())
    assert (finished.outcome, finished.code) == ("failed", "checkpoint-refused")
    assert words in (finished.detail or "")


def test_threads_are_those_of_the_job(studio: Studio) -> None:
    studio.run(job(threads=2), NullReporter(["cancel"]))
    assert torch.get_num_threads() == 2
