"""Wan and LTX-Video in single files: every name in its place, what is missing is said, leftovers are told."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.loaders import single_file_utils
from safetensors.torch import load_file, save_file

from app.recognition import recognise_file
from app.recognition.bases import BASES, TEXTS
from tests.worker.families.pieces import IN_PIECES, Pieces, layout_of, piece_tensors, tiny_pieces
from tests.worker.tiny_clips import clip_job, tiny_clips
from worker.families import catalog
from worker.families.base import NOTHING, CheckpointRefused, Chosen
from worker.families.single_file import empty_model
from worker.inference.pool import PipelinePool
from worker.reporter import NullReporter
from worker.training.recipe import train

CPU = torch.device("cpu")
SIZES = {
    ("wan", "transformer"): 1_418_996_800,
    ("wan_14b", "transformer"): 14_288_491_584,
    ("wan22_5b", "transformer"): 4_999_787_712,
    ("wan", "vae"): 126_892_531,
    ("ltx", "transformer"): 1_923_385_472,
    ("ltx", "vae"): 419_193_905,
    ("ltx", "vae_091"): None,
    ("ltx", "vae_095"): None,
}
"""Numbers in published models, as far as they are known."""
CONVERTERS = {
    ("wan", "transformer"): single_file_utils.convert_wan_transformer_to_diffusers,
    ("wan", "vae"): single_file_utils.convert_wan_vae_to_diffusers,
    ("ltx", "transformer"): single_file_utils.convert_ltx_transformer_checkpoint_to_diffusers,
    ("ltx", "vae"): single_file_utils.convert_ltx_vae_checkpoint_to_diffusers,
}


@pytest.fixture(scope="module", params=IN_PIECES)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pieces:
    return tiny_pieces(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def experts(tmp_path_factory: pytest.TempPathFactory) -> Pieces:
    return tiny_pieces("wan22_a14b", tmp_path_factory.mktemp("experts"))


@pytest.mark.parametrize(("name", "config"), SIZES)
def test_true_sizes_are_placed_as_diffusers_places_them(name: str, config: str) -> None:
    layout = layout_of(catalog.load(name))
    part = layout.part(config.partition("_")[0])
    weights = empty_model(part.kind, layout.config(config)).state_dict()
    known = SIZES[name, config]
    assert known in (None, sum(tensor.numel() for tensor in weights.values()))
    start = "vae." if (name, part.name) == ("ltx", "vae") else ""
    theirs = {start + part.names(key, layout.config(config)).key: tensor for key, tensor in weights.items()}
    found = CONVERTERS[name[:3], part.name](dict(theirs))
    assert found.keys() == weights.keys()
    assert [key for key in weights if found[key] is not weights[key]] == []


def test_the_vae_of_wan_22_is_called_as_its_makers_call_it() -> None:
    layout = layout_of(catalog.load("wan22_5b"))
    part, config = layout.part("vae"), layout.config("vae")
    weights = empty_model(part.kind, config).state_dict()
    assert sum(tensor.numel() for tensor in weights.values()) == 704_688_668
    names = {part.names(key, config).key for key in weights}
    assert len(names) == len(weights)
    assert {
        "encoder.downsamples.0.downsamples.2.resample.1.weight",
        "encoder.downsamples.1.downsamples.2.time_conv.weight",
        "encoder.downsamples.1.downsamples.0.shortcut.weight",
        "encoder.middle.1.to_qkv.weight",
        "decoder.upsamples.0.upsamples.0.residual.2.weight",
        "decoder.upsamples.0.upsamples.3.time_conv.weight",
        "decoder.head.2.weight",
        "conv1.weight",
    } <= names


def test_pieces_are_the_checkpoint_that_they_came_from(made: Pieces) -> None:
    parts = made.family.load(made.base, CPU, torch.float32, made.chosen)
    assert parts.notes == []
    _same(parts, made.pipe)
    pixels = torch.zeros(1, 3, 9, 32, 32)
    whole = made.family.load(made.folder, CPU, torch.float32)
    for ours, theirs in zip(
        made.family.encode_images(parts, pixels), made.family.encode_images(whole, pixels), strict=True
    ):
        assert torch.equal(ours, theirs)
    parts.free_encoders(keep_text_encoder=False)
    made.family.load_encoders(parts)
    _same(parts, made.pipe)


def test_the_names_of_diffusers_are_read_as_well(made: Pieces, tmp_path: Path) -> None:
    other = tiny_pieces(made.family.spec.name, tmp_path, ours=True)
    pipe = other.family.pipeline(other.base, torch.float32, other.chosen)
    for name in ("transformer", "vae", "text_encoder"):
        _equal(getattr(pipe, name), getattr(made.pipe, name))


def test_what_diffusers_keeps_exact_stays_exact(made: Pieces) -> None:
    """The same precision for each number as from a folder."""
    ours = made.family.load(made.base, CPU, torch.bfloat16, made.chosen).model
    theirs = made.family.load(made.folder, CPU, torch.bfloat16).model
    assert {key: t.dtype for key, t in ours.state_dict().items()} == {
        key: t.dtype for key, t in theirs.state_dict().items()
    }
    assert ours.dtype == theirs.dtype


def test_a_missing_piece_is_named(made: Pieces, tmp_path: Path) -> None:
    alone = replace(made.chosen, text_encoder=None)
    with pytest.raises(CheckpointRefused, match=r"no text encoder\. Choose one for it: a zip with"):
        made.family.load(made.base, CPU, torch.float32, alone)
    with pytest.raises(CheckpointRefused, match=r"holds no VAE of .*\. Choose one for it"):
        made.family.load(made.base, CPU, torch.float32, replace(made.chosen, vae=None))
    with pytest.raises(CheckpointRefused, match="is no text encoder that can be used here"):
        made.family.load(made.base, CPU, torch.float32, replace(made.chosen, text_encoder=tmp_path))
    with pytest.raises(CheckpointRefused, match="holds no transformer of"):
        made.family.load(made.chosen.vae, CPU, torch.float32, made.chosen)
    tensors = load_file(made.base)
    lacking = next(key for key in tensors if "blocks.1." in key)
    del tensors[lacking]
    save_file(tensors, tmp_path / "cut.safetensors")
    with pytest.raises(CheckpointRefused, match=rf"lacks 1 tensors: {lacking}"):
        made.family.load(tmp_path / "cut.safetensors", CPU, torch.float32, made.chosen)


def test_two_networks_need_two_files(experts: Pieces) -> None:
    with pytest.raises(CheckpointRefused, match=r"two networks.*the file for low noise"):
        experts.family.load(experts.base, CPU, torch.float32, replace(experts.chosen, low_noise=None))
    with pytest.raises(CheckpointRefused, match="choose no file for low noise"):
        experts.family.load(experts.folder, CPU, torch.float32, Chosen(low_noise=experts.base))
    parts = experts.family.load(experts.base, CPU, torch.float32, experts.chosen)
    assert parts.boundary == 0.875
    _equal(parts.model_2, experts.pipe.transformer_2)


def test_leftovers_are_told(made: Pieces, tmp_path: Path) -> None:
    more = load_file(made.base) | {"vace_blocks.0.after_proj.weight": torch.zeros(2, 2)}
    save_file(more, tmp_path / "more.safetensors", {"config": _metadata(made)})
    (note,) = made.family.load(tmp_path / "more.safetensors", CPU, torch.float32, made.chosen).notes
    assert note.startswith("1 entries")
    assert "vace_blocks.0.after_proj.weight" in note


def _metadata(made: Pieces) -> str:
    heads = made.pipe.transformer.config.num_attention_heads
    return f'{{"transformer": {{"num_attention_heads": {heads}}}}}'


def test_relatives_are_refused_by_their_width(tmp_path: Path, experts: Pieces) -> None:
    family: Any = catalog.load("wan")
    save_file({"patch_embedding.weight": torch.zeros(3072, 48, 1, 1, 1)}, tmp_path / "large.safetensors")
    with pytest.raises(CheckpointRefused, match=r"is Wan 2\.2 5B, not Wan 2\.1 1\.3B"):
        family.load(tmp_path / "large.safetensors", CPU, torch.float32, experts.chosen)
    save_file({"conv1.weight": torch.zeros(96, 96, 1, 1, 1)}, tmp_path / "vae.safetensors")
    with pytest.raises(CheckpointRefused, match=r"a VAE of 48 channels, where Wan 2\.2 A14B has 16"):
        experts.family.load(
            experts.base, CPU, torch.float32, replace(experts.chosen, vae=tmp_path / "vae.safetensors")
        )


def test_a_whole_file_of_ltx_has_its_own_vae(tmp_path: Path) -> None:
    made = tiny_pieces("ltx", tmp_path)
    layout = layout_of(made.family)
    whole = {
        f"model.diffusion_model.{key}": tensor
        for key, tensor in piece_tensors(layout, "transformer", made.pipe.transformer).items()
    }
    whole |= {f"vae.{k}": tensor for k, tensor in piece_tensors(layout, "vae", made.pipe.vae).items()}
    whole["vae.per_channel_statistics.channel"] = torch.zeros(8)
    save_file(whole, tmp_path / "ltxv.safetensors", {"config": _metadata(made)})
    parts = made.family.load(
        tmp_path / "ltxv.safetensors", CPU, torch.float32, Chosen(text_encoder=made.chosen.text_encoder)
    )
    _same(parts, made.pipe)
    assert parts.notes == []


def test_a_chosen_text_encoder_goes_before_that_of_a_folder(made: Pieces, tmp_path: Path) -> None:
    """Many zips have one folder around everything, and what macOS adds beside it."""
    text = tmp_path / "umt5"
    (text / "__MACOSX").mkdir(parents=True)
    shutil.copytree(made.chosen.text_encoder or Path(), text / "inner")
    tensors = load_file(text / "inner" / "text_encoder" / "model.safetensors")
    name = "encoder.final_layer_norm.weight"
    tensors[name] = torch.full_like(tensors[name], 0.25)
    save_file(tensors, text / "inner" / "text_encoder" / "model.safetensors", {"format": "pt"})
    parts = made.family.load(made.folder, CPU, torch.float32, Chosen(text_encoder=text))
    assert float(parts.text_encoder.state_dict()[name].mean()) == 0.25


def test_a_zipped_text_encoder_is_known_when_it_is_uploaded(made: Pieces, tmp_path: Path) -> None:
    """What the folder holds is what the worker opens: both go by the same names."""
    archive = Path(shutil.make_archive(str(tmp_path / "text"), "zip", made.chosen.text_encoder))
    with archive.open("rb") as file:
        found = recognise_file(file, archive.stat().st_size)
    kind = TEXTS[next(key for key, base in BASES.items() if base.family == made.family.spec.name)]
    assert (found.kind, found.component, found.file_format) == ("text-encoder", kind, "Diffusers")


def test_families_of_pictures_and_starters_say_what_they_take(tmp_path: Path) -> None:
    save_file({"x": torch.zeros(1)}, tmp_path / "x.safetensors")
    for name, words in (
        ("sd1", "choose nothing else for it"),
        ("video_starter", "no checkpoints in one file"),
    ):
        with pytest.raises(CheckpointRefused, match=words):
            catalog.load(name).load(
                tmp_path / "x.safetensors", CPU, torch.float32, Chosen(text_encoder=tmp_path)
            )


def test_a_training_and_a_pool_take_the_pieces(
    experts: Pieces, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog, "load", lambda _: experts.family)
    clips = tiny_clips(tmp_path / "clips")
    job = clip_job("wan22_a14b", clips, epochs=1, max_steps=2)
    names = ("vae", "text_encoder", "low_noise")
    blobs = {
        name: job.base.file.model_copy(update={"sha256": digit * 64})
        for name, digit in zip(names, "def", strict=True)
    }
    base = job.base.model_copy(update={**blobs, "format": "SafeTensor"})
    files = {item.file.sha256: clip for item, clip in zip(job.items, clips, strict=True)}
    files |= {blobs[name].sha256: getattr(experts.chosen, name) for name in names}
    files[base.file.sha256] = experts.base
    job = job.model_copy(update={"base": base})
    finished = train(job, experts.family, files, tmp_path / "out", NullReporter())
    assert (finished.outcome, finished.steps) == ("succeeded", 2), finished.detail
    pool = PipelinePool(1 << 40)
    warm = pool.get(base, experts.base, Chosen.of(base, files))
    assert warm is pool.get(base, experts.base, Chosen.of(base, files))
    assert pool.warm == ["+".join([base.file.sha256, *(blob.sha256 for blob in blobs.values())])]
    assert Chosen.of(clip_job("wan", clips).base, {}) == NOTHING


def _same(parts: Any, pipe: Any) -> None:
    _equal(parts.model, pipe.transformer)
    _equal(parts.vae, pipe.vae)
    _equal(parts.text_encoder, pipe.text_encoder)


def _equal(ours: Any, theirs: Any) -> None:
    """All numbers, those that no file holds included."""
    mine, wanted = (dict(model.named_parameters()) | dict(model.named_buffers()) for model in (ours, theirs))
    assert mine.keys() == wanted.keys()
    assert [key for key in wanted if not torch.equal(mine[key], wanted[key])] == []
