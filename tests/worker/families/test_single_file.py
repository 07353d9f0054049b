"""Checkpoints in one file: every name in its place, nothing looked up, refusals that say what to do."""

import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.loaders.single_file_utils import (
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
    convert_open_clip_checkpoint,
)
from safetensors.torch import load_file, save_file

from tests.worker.families.single import (
    LISTINGS,
    SINGLE_FILE_FAMILIES,
    Small,
    empty_models,
    file_tensors,
    layout_of,
    listing_of,
    small,
    write_single_file,
)
from tests.worker.tiny import tiny_vae
from worker.families import catalog
from worker.families.base import CheckpointRefused, Chosen
from worker.families.checkpoints import check_unet, open_checkpoint
from worker.families.single_file import SingleFile

CPU = torch.device("cpu")


@pytest.fixture(params=SINGLE_FILE_FAMILIES, scope="module")
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Small:
    return small(request.param, tmp_path_factory.mktemp(request.param))


@pytest.mark.parametrize("name", LISTINGS)
def test_names_and_shapes_are_those_of_published_files(name: str) -> None:
    layout = layout_of(name)
    assert listing_of(layout, empty_models(layout)) == LISTINGS[name]


@pytest.mark.parametrize("name", LISTINGS)
def test_the_unet_is_placed_as_diffusers_places_it(name: str) -> None:
    layout = layout_of(name)
    part, config = layout.part("unet"), layout.config("unet")
    weights = empty_models(layout)["unet"].state_dict()
    theirs = convert_ldm_unet_checkpoint(dict(file_tensors(part, config, weights)), config)
    assert theirs.keys() == weights.keys()
    assert [key for key in weights if theirs[key] is not weights[key]] == []


def test_vae_and_text_are_placed_as_diffusers_places_them(made: Small) -> None:
    tensors = load_file(made.path)
    vae = made.models["vae"]
    theirs = convert_ldm_vae_checkpoint(tensors, vae.config)
    assert theirs.keys() == vae.state_dict().keys()
    assert all(torch.equal(theirs[key].reshape(t.shape), t) for key, t in vae.state_dict().items())
    if text := made.models.get("text_encoder_2"):
        theirs = convert_open_clip_checkpoint(text, tensors, "conditioner.embedders.1.model.")
        assert theirs.keys() == text.state_dict().keys()
        assert all(torch.equal(theirs[key], tensor) for key, tensor in text.state_dict().items())


def test_a_file_loads_to_the_same_numbers_with_the_network_closed(
    made: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[Any] = []

    def refuse(*address: Any, **options: Any) -> None:
        tried.append(address)
        raise OSError("the network is closed")

    for variable in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    parts = made.family.load(made.path, CPU, torch.float32)
    assert tried == []
    loaded = {"unet": parts.model, "vae": parts.vae} | {
        name: getattr(parts, name) for name in ("text_encoder", "text_encoder_2") if name in made.models
    }
    for name, model in made.models.items():
        mine = loaded[name].state_dict()
        assert all(torch.equal(mine[key], tensor) for key, tensor in model.state_dict().items())
    assert parts.notes == []
    assert parts.tokenizer("a photo of a cat").input_ids == [49406, 320, 1125, 539, 320, 2368, 49407]
    cond = made.family.encode_captions(parts, ["a photo of a cat"], 1, live=False)
    assert bool(torch.isfinite(cond["embeddings"]).all())


def test_early_names_of_the_text_encoder_are_read(made: Small, tmp_path: Path) -> None:
    tensors = {
        key.replace(".transformer.text_model.", ".transformer."): tensor
        for key, tensor in load_file(made.path).items()
    }
    assert tensors.keys() != load_file(made.path).keys()
    save_file(tensors, tmp_path / "early.safetensors")
    parts = made.family.load(tmp_path / "early.safetensors", CPU, torch.float32)
    expected = made.models["text_encoder"].state_dict()
    assert all(torch.equal(parts.text_encoder.state_dict()[key], t) for key, t in expected.items())
    assert parts.notes == []


def test_what_has_no_place_is_told_by_name(made: Small, tmp_path: Path) -> None:
    more = {
        "model.diffusion_model.control.weight": torch.zeros(2),
        "model_ema.decay": torch.zeros(()),
        "sqrt_recipm1_alphas_cumprod": torch.zeros(3),
        "alphas_cumprod_prev": torch.zeros(3),
    }
    path = write_single_file(tmp_path / "more.safetensors", made.layout, made.models, more=more)
    parts = made.family.load(path, CPU, torch.float32)
    (note,) = parts.notes
    assert "1 entries" in note
    assert "model.diffusion_model.control.weight" in note


def test_what_is_missing_is_told_by_name(made: Small, tmp_path: Path) -> None:
    lacking = "model.diffusion_model.middle_block.1.norm"
    path = write_single_file(tmp_path / "less.safetensors", made.layout, made.models, leave_out=lacking)
    with pytest.raises(CheckpointRefused, match=rf"lacks 2 tensors: {lacking}"):
        made.family.load(path, CPU, torch.float32)


def test_a_vae_can_be_absent_and_chosen(made: Small, tmp_path: Path) -> None:
    path = write_single_file(
        tmp_path / "bare.safetensors", made.layout, made.models, leave_out="first_stage_model."
    )
    with pytest.raises(CheckpointRefused, match="Choose a VAE"):
        made.family.load(path, CPU, torch.float32)
    torch.manual_seed(99)
    other = tiny_vae()
    vae = made.layout.part("vae")
    in_file = {
        key.removeprefix(vae.prefixes[0]): tensor.contiguous()
        for key, tensor in file_tensors(vae, other.config, other.state_dict())
    }
    save_file(in_file, tmp_path / "ldm.safetensors")
    save_file(other.state_dict(), tmp_path / "diffusers.safetensors")
    for chosen in ("ldm", "diffusers"):
        parts = made.family.load(path, CPU, torch.float32, Chosen(tmp_path / f"{chosen}.safetensors"))
        mine = parts.vae.state_dict()
        assert all(torch.equal(mine[key], tensor) for key, tensor in other.state_dict().items())
        parts.free_encoders(keep_text_encoder=False)
        made.family.load_encoders(parts)
        assert torch.equal(
            parts.vae.state_dict()["decoder.conv_in.bias"], other.state_dict()["decoder.conv_in.bias"]
        )


def test_the_file_is_mapped(made: Small) -> None:
    """Weights that keep their precision lie in memory as they lie in the file; nothing was copied."""
    part, config = made.layout.part("unet"), made.layout.config("unet")
    unet = SingleFile(made.path).load(part, config, torch.float32)
    length = int.from_bytes(made.path.read_bytes()[:8], "little")
    header = json.loads(made.path.read_bytes()[8 : 8 + length])
    starts = {
        tensor.data_ptr() - header[part.prefixes[0] + part.names(name, config).key]["data_offsets"][0]
        for name, tensor in unet.named_parameters()
    }
    assert len(starts) == 1


@pytest.mark.parametrize(
    ("key", "metadata", "expected"),
    [
        (None, {}, ("epsilon", False)),
        ("v_pred", {}, ("v_prediction", False)),
        ("ztsnr", {"modelspec.prediction_type": "v"}, ("v_prediction", True)),
        (None, {"modelspec.prediction_type": "epsilon"}, ("epsilon", False)),
    ],
)
def test_marks_say_what_the_model_predicts(
    made: Small, tmp_path: Path, key: str | None, metadata: dict[str, str], expected: tuple[str, bool]
) -> None:
    more = {key: torch.zeros(())} if key else {}
    path = tmp_path / "marked.safetensors"
    write_single_file(path, made.layout, made.models, more=more, metadata=metadata)
    schedule = open_checkpoint(path, made.layout).noise_schedule()
    assert (schedule.config.prediction_type, schedule.config.rescale_betas_zero_snr) == expected
    assert (float(schedule.alphas_cumprod[-1]) < 1e-6) == expected[1]
    assert (
        open_checkpoint(path, made.layout).notes != []
        or made.family.load(path, CPU, torch.float32).notes == []
    )


def damaged(path: Path) -> None:
    path.write_bytes(b"\x10\0\0\0\0\0\0\0{no header at all")


def compressed(path: Path) -> None:
    save_file({"model.diffusion_model.x.scale_weight": torch.ones(1)}, path)


def another_schedule(path: Path) -> None:
    save_file({"edm_vpred.sigma_max": torch.ones(1)}, path)


def a_lora(path: Path) -> None:
    save_file({"lora_unet_x.lora_down.weight": torch.ones(1, 2)}, path)


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (damaged, "Upload it again"),
        (compressed, "fp16 or bf16 form"),
        (another_schedule, "EDM"),
        (a_lora, "holds no U-Net"),
    ],
)
def test_other_files_are_refused(
    made: Small, tmp_path: Path, write: Callable[[Path], None], words: str
) -> None:
    path = tmp_path / "other.safetensors"
    write(path)
    with pytest.raises(CheckpointRefused, match=words):
        made.family.load(path, CPU, torch.float32)


def test_relatives_are_refused_with_the_reason() -> None:
    sd1, sdxl = layout_of("sd1"), layout_of("sdxl")
    for layout, channels, context, words in (
        (sd1, 9, 768, "inpainting"),
        (sd1, 8, 768, "follows another picture"),
        (sd1, 4, 2048, "checkpoint of SDXL"),
        (sd1, 4, 1024, "Stable Diffusion 2"),
        (sdxl, 4, 1280, "refiner"),
        (sdxl, 9, 2048, "inpainting"),
        (sdxl, 4, 768, "Stable Diffusion 1"),
    ):
        with pytest.raises(CheckpointRefused, match=words):
            check_unet(layout, channels, 4, context)
    check_unet(sd1, 4, 4, 768)
    check_unet(sdxl, 4, 4, 2048)


def test_the_header_alone_tells_an_inpainting_checkpoint(made: Small, tmp_path: Path) -> None:
    tensors = load_file(made.path)
    first = "model.diffusion_model.input_blocks.0.0.weight"
    tensors[first] = torch.zeros(tensors[first].shape[0], 9, 3, 3)
    save_file(tensors, tmp_path / "inpaint.safetensors")
    with pytest.raises(CheckpointRefused, match="inpainting"):
        made.family.pipeline(tmp_path / "inpaint.safetensors", torch.float32)


def test_the_starter_has_no_single_files(tmp_path: Path) -> None:
    a_lora(tmp_path / "x.safetensors")
    with pytest.raises(CheckpointRefused, match="diffusers folder"):
        catalog.load("starter").load(tmp_path / "x.safetensors", CPU, torch.float32)
