"""Files that are a part: VAE, text encoder, embedding, ControlNet, upscaler; and what ships with Bottega."""

import io
import zipfile
from pathlib import Path

import pytest

from app.gallery.starter import write_zip
from app.recognition import HeaderRefused, read_header, recognise, recognise_file
from app.recognition.folders import MAX_ENTRIES
from tests.app.recognition.listings import (
    OPEN_CLIP_G,
    OPEN_CLIP_H,
    SD_DIFFUSERS,
    SD_LDM,
    VAE_LDM,
    Shapes,
    diffusers,
    ldm,
    told,
    under,
    whole,
)
from worker.starter import WEIGHTS

HALF = {name: shape for name, shape in ldm(SD_LDM, 768).items() if not name.startswith("out")}
HALF_DIFFUSERS = {n: shape for n, shape in diffusers(SD_DIFFUSERS, 768).items() if "up_blocks" not in n}
PARTS: list[tuple[Shapes, str, str, str | None]] = [
    (VAE_LDM, "vae", "VAE", None),
    (under("first_stage_model.", VAE_LDM), "vae", "VAE", None),
    (VAE_LDM | {"decoder.conv_in.weight": [512, 16, 3, 3]}, "vae", "VAE", None),
    ({"decoder.conv1.weight": [1], "decoder.head.0.gamma": [1]}, "vae", "VAE", None),
    ({"text_model.embeddings.token_embedding.weight": [49408, 768]}, "text-encoder", "TextEncoder", None),
    ({"embeddings.token_embedding.weight": [49408, 768]}, "text-encoder", "TextEncoder", None),
    (OPEN_CLIP_H, "text-encoder", "TextEncoder", "SD 2.1"),
    (OPEN_CLIP_G, "text-encoder", "TextEncoder", None),
    ({"shared.weight": [32128, 4096]}, "text-encoder", "TextEncoder", None),
    ({"shared.weight": [256384, 4096]}, "text-encoder", "TextEncoder", "Wan Video"),
    ({"model.embed_tokens.weight": [151936, 2560]}, "text-encoder", "TextEncoder", None),
    ({"vision_model.embeddings.patch_embedding.weight": [1280, 3, 14, 14]}, "image-encoder", "CLIPVision",
     None),
    ({"emb_params": [5, 768]}, "embedding", "TextualInversion", "SD 1.5"),
    ({"<tuscany>": [1024]}, "embedding", "TextualInversion", "SD 2.1"),
    ({"string_to_param.*": [2, 768]}, "embedding", "TextualInversion", "SD 1.5"),
    ({"clip_l": [4, 768], "clip_g": [4, 1280]}, "embedding", "TextualInversion", "SDXL 1.0"),
    (HALF | {"input_hint_block.0.weight": [16, 3, 3, 3]}, "controlnet", "Controlnet", "SD 1.5"),
    (under("control_model.", HALF | {"input_hint_block.0.weight": [16, 3, 3, 3]}), "controlnet", "Controlnet",
     "SD 1.5"),
    (HALF_DIFFUSERS | {"controlnet_cond_embedding.conv_in.weight": [16, 3, 3, 3]}, "controlnet", "Controlnet",
     "SD 1.5"),
    ({"lora_controlnet": []}, "controlnet", "Controlnet", "SDXL 1.0"),
    ({"image_proj.norm.bias": [768], "ip_adapter.1.to_k_ip.weight": [320, 768]}, "adapter", "Controlnet",
     None),
    ({"down_blocks.0.motion_modules.0.x": [1]}, "motion-module", "MotionModule", None),
    ({"conv_first.weight": [64, 3, 3, 3], "body.0.rdb1.conv1.weight": [1]}, "upscaler", "Upscaler", None),
    ({"model.0.weight": [64, 3, 3, 3], "model.1.sub.0.RDB1.conv1.0.weight": [1]}, "upscaler", "Upscaler",
     None),
    ({"body.0.weight": [64, 3, 3, 3], "body.1.weight": [64]}, "upscaler", "Upscaler", None),
    ({"pretrained.act_postprocess3.0.project.0.weight": [768, 1536]}, "other", "Other", "SD 2.0"),
]  # fmt: skip


@pytest.mark.parametrize(("shapes", "kind", "model_type", "base_model"), PARTS)
def test_parts(shapes: Shapes, kind: str, model_type: str, base_model: str | None) -> None:
    found = told(shapes)
    assert (found.kind, found.model_type, found.base_model) == (kind, model_type, base_model)
    assert found.family is None


def test_an_embedding_has_its_size() -> None:
    found = told({"emb_params": [5, 768]})
    assert found.embedding is not None
    assert (found.embedding.vectors, found.embedding.width) == (5, 768)
    assert found.words == "an embedding (textual inversion) for SD 1.5"
    others: list[Shapes] = [
        {"emb_params": [5, 77]}, {"x": [5, 768]}, {"emb_params": [5000, 768]}, {"emb_params": []},
    ]  # fmt: skip
    assert [told(shapes).base_model for shapes in others] == [None] * 4


def test_a_vae_says_what_its_tensors_cannot_tell() -> None:
    assert "SD 1.x, SD 2.x and SDXL" in told(VAE_LDM).notes[0]


@pytest.mark.parametrize(
    ("part", "kind"), [("unet", "checkpoint"), ("vae", "vae"), ("text_encoder", "text-encoder")]
)
def test_the_starters_own_files(part: str, kind: str) -> None:
    [path] = (WEIGHTS / part).glob("*.safetensors")
    with path.open("rb") as file:
        found = recognise(read_header(file, path.stat().st_size))
    assert (found.kind, found.base_model) == (kind, "Starter 1")


def test_the_zipped_starter(tmp_path: Path) -> None:
    path = tmp_path / "starter.zip"
    write_zip(WEIGHTS, path)
    with path.open("rb") as file:
        found = recognise_file(file, path.stat().st_size)
    assert (found.kind, found.base_model, found.family) == ("checkpoint", "Starter 1", "starter")
    assert found.has_vae
    assert found.text_encoders
    assert (found.precision, found.prediction, found.layout) == ("fp16", "epsilon", "diffusers")


SMALL = whole({"conv_in.weight": [2, 2, 1, 1]})


def packed(files: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (packed({"notes.txt": b"x"}), "zip"),
        (packed({"model_index.json": b"{}", "vae/model.safetensors": SMALL}), "zip"),
        (packed({"model_index.json": b"{}", "unet/model.bin": b"x"}), "pickle"),
        (packed({"model_index.json": b"{}", "unet/model.safetensors": b"\x80\x02" + bytes(99)}), "pickle"),
        (packed({"model_index.json": b"{}", "unet/model.safetensors": SMALL[:-1]}), "file-cut-off"),
        (packed({"model_index.json": b"{}"}, zipfile.ZIP_LZMA), "zip"),
        (packed({f"{n}.txt": b"" for n in range(MAX_ENTRIES + 1)}), "zip"),
        (packed({"model_index.json": b"{}", "unet/model.safetensors": SMALL})[:-30], "file-cut-off"),
        (packed({"model_index.json": b"{}"}).replace(b"PK\x01\x02", b"PK\x01\x09"), "file-damaged"),
    ],
)
def test_other_zips_are_refused(content: bytes, code: str) -> None:
    with pytest.raises(HeaderRefused) as refused:
        recognise_file(io.BytesIO(content), len(content))
    assert refused.value.code == code
    assert refused.value.detail.endswith(".")


def folder(unet: bytes, name: str = "diffusion_pytorch_model.safetensors") -> dict[str, bytes]:
    scheduler = b'{"prediction_type": "v_prediction", "rescale_betas_zero_snr": true}'
    return {
        "my model/model_index.json": b"{}", f"my model/unet/{name}": unet,
        "my model/vae/model.safetensors": whole({"decoder.conv_in.weight": [1]}),
        "my model/scheduler/scheduler_config.json": scheduler,
    }  # fmt: skip


def test_a_packed_folder_in_a_folder() -> None:
    layers = {f"down_blocks.1.attentions.{n}": 1 for n in range(7)}
    unet = whole(diffusers(layers, 128, channels=12, width=64))
    data = packed(folder(unet), zipfile.ZIP_DEFLATED)
    found = recognise_file(io.BytesIO(data), len(data))
    assert (found.base_model, found.prediction, found.zero_terminal_snr) == ("Starter 1", "v", True)
    assert found.has_vae
    half = folder(unet) | {"my model/unet/diffusion_pytorch_model.fp16.safetensors": SMALL}
    data = packed(half)
    assert recognise_file(io.BytesIO(data), len(data)).base_model == "Starter 1"


def test_a_folder_of_an_unknown_model_is_unknown() -> None:
    data = packed(folder(SMALL))
    found = recognise_file(io.BytesIO(data), len(data))
    assert (found.kind, found.base_model, found.family) == ("unknown", None, None)


def text_folder(config: bytes = b'{"model_type": "umt5"}', root: str = "", **more: bytes) -> bytes:
    """The zip of a text encoder and its tokenizer, in a folder or right in it."""
    weights = whole({"encoder.final_layer_norm.weight": [2]})
    files = {"text_encoder/config.json": config, "text_encoder/model.safetensors": weights} | more
    return packed({root + name: data for name, data in files.items()})


TOKENIZER = {"tokenizer/spiece.model": b"x"}


@pytest.mark.parametrize(
    ("content", "component"),
    [
        (text_folder(**TOKENIZER), "UMT5"),
        (text_folder(b'{"model_type": "t5"}', "my encoder/", **TOKENIZER), "T5"),
        (text_folder(b"no json", **TOKENIZER), "language model"),
        (text_folder(**TOKENIZER, **{"model_index.json": b"{}"}), "UMT5"),
    ],
)
def test_a_zipped_text_encoder(content: bytes, component: str) -> None:
    found = recognise_file(io.BytesIO(content), len(content))
    told_ = (found.kind, found.model_type, found.component, found.file_format)
    assert told_ == ("text-encoder", "TextEncoder", component, "Diffusers")
    assert found.tensors == 1


def test_a_large_text_encoder_is_told_by_its_tokens() -> None:
    assert told({"shared.weight": [32128, 4096]}).component == "T5 XXL"
    assert told({"shared.weight": [256384, 4096]}).component == "UMT5 XXL"


@pytest.mark.parametrize(
    ("content", "code", "words"),
    [
        (text_folder(), "tokenizer-missing", "without its tokenizer"),
        (text_folder(root="a/b/", **TOKENIZER), "zip", "no text encoder"),
        (packed({"text_encoder/config.json": b"{}", **TOKENIZER}), "zip", "no .safetensors"),
        (text_folder(**TOKENIZER, **{"text_encoder/model.bin": b"x"}), "pickle", "pickle"),
    ],
)
def test_half_a_text_encoder_is_refused(content: bytes, code: str, words: str) -> None:
    with pytest.raises(HeaderRefused) as refused:
        recognise_file(io.BytesIO(content), len(content))
    assert refused.value.code == code
    assert words in refused.value.detail
