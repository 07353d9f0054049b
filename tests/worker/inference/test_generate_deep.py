"""Jobs with more than a prompt: grids, start pictures, hires fix, embeddings, previews."""

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from app.contract.events import Preview, Progress
from app.contract.jobs import Cell, EmbeddingRef, Grid, Hires, StartPicture
from app.contract.passes import picture_calls, picture_job
from tests.worker.inference.small import SIZE, blob, job, kohya_lora, lora_ref, save_lora
from tests.worker.inference.test_generate import Picture, Studio, Wishing
from tests.worker.inference.test_start import half_mask, scene
from worker.inference import preview
from worker.inference.grid import series_of
from worker.inference.infotext import read
from worker.inference.pool import PipelinePool

INK, OIL = lora_ref("ink", "11"), lora_ref("oil", "22")
FILES = {"33": "scene.png", "44": "mask.png", "55": "style.safetensors"}


class Atelier(Studio):
    @property
    def files(self) -> dict[str, Path]:
        return super().files | {digits * 32: self.folder / name for digits, name in FILES.items()}


@pytest.fixture(scope="module")
def pool() -> PipelinePool:
    return PipelinePool(1 << 40)


@pytest.fixture
def studio(pipe: Any, base_folder: Path, tmp_path: Path, pool: PipelinePool) -> Studio:
    save_lora(tmp_path / "ink.safetensors", kohya_lora(pipe))
    save_lora(tmp_path / "oil.safetensors", kohya_lora(pipe, seed=2))
    scene((2 * SIZE, 2 * SIZE)).save(tmp_path / "scene.png")
    half_mask().save(tmp_path / "mask.png")
    made = torch.Generator().manual_seed(0)
    save_file({"emb_params": torch.randn((2, 32), generator=made)}, tmp_path / "style.safetensors")
    return Atelier(base_folder, tmp_path, pool)


def style() -> EmbeddingRef:
    return EmbeddingRef(file=blob("55", "style.safetensors"), name="my-style", base_model="SD 1.5")


def grid(*cells: dict[str, Any]) -> Grid:
    made = tuple(Cell(x=number, y=0, **cell) for number, cell in enumerate(cells))
    return Grid(x_axis="Many", x_labels=tuple(str(number) for number in range(len(cells))), cells=made)


MIXED = (
    {"loras": (INK,)},
    {"loras": ()},
    {"steps": 3, "loras": (INK,)},
    {"seed": 99},
    {"prompt": "a blue boat", "negative_prompt": "rain", "cfg_scale": 3.0},
    {"sampler": "Heun", "schedule": "Karras", "loras": (INK.model_copy(update={"strength": 0.2}),)},
)


def test_every_cell_is_the_picture_that_it_is_alone(studio: Studio) -> None:
    wanted = job(seeds=tuple(range(6)), loras=(INK, OIL), grid=grid(*MIXED))
    together = studio.pixels(wanted)
    texts = {picture.index: picture.infotext for picture in studio.of(Picture)}
    assert sorted(texts) == list(range(6))
    for index in range(6):
        alone = picture_job(wanted, index)
        assert alone.grid is None
        assert studio.pixels(alone) == [together[index]]
        assert studio.of(Picture)[0].infotext == texts[index]
    assert len(set(together)) == 6


def test_cells_with_the_same_loras_stand_together() -> None:
    wanted = job(seeds=tuple(range(6)), loras=(OIL,), grid=grid(*MIXED))
    order = [series.places for series in series_of(wanted)]
    assert order == [(0,), (2,), (1,), (3,), (4,), (5,)]
    seeds = job(seeds=(1, 2, 3), grid=grid({}, {"seed": 9}, {}))
    [only] = series_of(seeds)
    assert (only.places, only.job.seeds) == ((0, 1, 2), (1, 9, 3))


def test_infotext_and_event_tell_of_the_cell(studio: Studio) -> None:
    studio.run(job(seeds=tuple(range(6)), grid=grid(*MIXED)))
    found = {picture.index: picture for picture in studio.of(Picture)}
    assert found[3].seed == 99
    infos = {index: read(picture.infotext) for index, picture in found.items()}
    assert (infos[2].steps, infos[3].seed, infos[4].cfg_scale) == (3, 99, 3)
    assert infos[5].settings["Sampler"].startswith("Heun")
    assert infos[4].prompt == "a blue boat"
    assert infos[4].negative_prompt == "rain"
    assert "<lora:ink:0.2>" in infos[5].prompt
    assert "<lora" not in infos[1].prompt


def test_progress_runs_over_all_cells_and_both_passes(studio: Studio) -> None:
    hires = Hires(scale=2.0, steps=1)
    wanted = job(seeds=(1, 2, 3), hires=hires, grid=grid({}, {"sampler": "Heun"}, {"steps": 4}))
    studio.run(wanted)
    total = sum(picture_calls(picture_job(wanted, index)) for index in range(3))
    assert total == 3 + 4 + 5
    told = [event.current for event in studio.of(Progress) if event.total == total]
    assert told == list(range(1, total + 1))
    assert {(picture.width, picture.height) for picture in studio.of(Picture)} == {(2 * SIZE, 2 * SIZE)}


def test_cancel_acts_between_cells_too(studio: Studio) -> None:
    wanted = job(seeds=(1, 2, 3), grid=grid({}, {"cfg_scale": 2.0}, {"cfg_scale": 3.0}))
    finished = studio.run(wanted, Wishing(2, "cancel"))
    assert (finished.outcome, finished.steps) == ("canceled", 2)
    assert [picture.index for picture in studio.of(Picture)] == [0]


def test_a_grid_warns_once(studio: Studio) -> None:
    studio.run(job(prompt="a <hypernet:x:1>", seeds=(1, 2), grid=grid({}, {"loras": (INK,)})))
    assert len(studio.warnings) == 1


def test_one_wrong_cell_stops_the_job_before_it_begins(studio: Studio) -> None:
    finished = studio.run(job(seeds=(1, 2), grid=grid({}, {"sampler": "Euler z"})))
    assert (finished.outcome, finished.code) == ("failed", "invalid-settings")
    assert studio.of(Picture) == []


def start(**changes: Any) -> StartPicture:
    return StartPicture(file=blob("33", "scene.png"), **changes)


def test_a_job_starts_from_a_picture(studio: Studio) -> None:
    [same] = studio.pixels(job(seeds=(1,), start=start(denoise=0.0)))
    assert same == scene((2 * SIZE, 2 * SIZE)).resize((SIZE, SIZE), Image.Resampling.LANCZOS).tobytes()
    assert studio.run(job(seeds=(1,), start=start(denoise=0.0))).steps == 0
    [drawn] = studio.pixels(job(seeds=(1,), steps=4, start=start(denoise=0.5)))
    [pure] = studio.pixels(job(seeds=(1,), steps=4))
    assert len({same, drawn, pure}) == 3
    assert studio.pixels(job(seeds=(1,), steps=4, start=start(denoise=1.0))) == [pure]


def test_a_mask_keeps_what_is_dark(studio: Studio) -> None:
    wanted = start(denoise=1.0, mask=blob("44", "mask.png"), mask_blur=0)
    [found] = studio.pixels(job(seeds=(1,), start=wanted))
    [same] = studio.pixels(job(seeds=(1,), start=start(denoise=0.0)))
    left = [found[3 * SIZE * row :][: 3 * SIZE // 2] for row in range(SIZE)]
    assert left == [same[3 * SIZE * row :][: 3 * SIZE // 2] for row in range(SIZE)]
    assert found != same


@pytest.mark.parametrize(("name", "words"), [("scene.png", "start from"), ("mask.png", "The mask")])
def test_a_file_that_is_no_picture_is_told(studio: Studio, name: str, words: str) -> None:
    (studio.folder / name).write_bytes(b"not a picture")
    finished = studio.run(job(start=start(mask=blob("44", "mask.png"))))
    assert finished.code == "invalid-settings"
    assert words in (finished.detail or "")


def test_an_embedding_acts_where_it_is_named(studio: Studio) -> None:
    plain = studio.pixels(job(prompt="a my-style house"))
    with_style = studio.pixels(job(prompt="a my-style house", embeddings=(style(),)))
    assert with_style != plain
    assert studio.pixels(job(embeddings=(style(),))) == studio.pixels(job())
    assert studio.pixels(job(negative_prompt="my-style", embeddings=(style(),))) != studio.pixels(
        job(negative_prompt="my-style")
    )


def test_an_embedding_that_is_not_here_is_told(studio: Studio) -> None:
    studio.run(job(prompt="embedding:my-style, (embedding:gone:1.2).", embeddings=(style(),)))
    assert [warning for warning in studio.warnings if "“gone”" in warning] == studio.warnings
    assert len(studio.warnings) == 1


def test_an_embedding_that_does_not_fit_is_told(studio: Studio) -> None:
    save_file({"emb_params": torch.ones(2, 8)}, studio.folder / "style.safetensors")
    finished = studio.run(job(prompt="my-style", embeddings=(style(),)))
    assert finished.code == "embedding-unusable"
    assert "“my-style” needs another base model" in (finished.detail or "")


def test_text_encoder_strength_is_its_own(studio: Studio) -> None:
    apart = INK.model_copy(update={"text_encoder_strength": 0.0})
    both = studio.pixels(job(loras=(INK,)))
    assert studio.pixels(job(loras=(apart,))) != both
    tagged = job(prompt="a red house <lora:ink:0:0.8>", loras=(INK,))
    assert studio.pixels(job(loras=(apart,))) == studio.pixels(tagged)


def test_long_pictures_show_themselves(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preview, "PERIOD", 0.0)
    monkeypatch.setattr(preview, "LARGEST_SHARE", 1e9)
    with_previews = studio.pixels(job(steps=4))
    told = studio.of(Preview)
    assert {event.index for event in told} == {0, 1}
    assert len(told) > 4
    with Image.open(studio.out / told[0].path) as image:
        assert image.size == (SIZE, SIZE)
    monkeypatch.setattr(preview, "PERIOD", 3600.0)
    assert studio.pixels(job(steps=4)) == with_previews
    assert studio.of(Preview) == []
