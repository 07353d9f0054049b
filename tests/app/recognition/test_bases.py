"""Checkpoints by their tensors: base model, variant, what lies in the file, what is unknown."""

from typing import Any

import pytest

from app.recognition import recognise
from app.recognition.bases import BASES, architectures_of, family_of_base, may_be_called, meanings, names_of
from app.recognition.denoisers import ROWS
from tests.app.recognition.listings import (
    CLIP_L,
    OPEN_CLIP_G,
    OPEN_CLIP_H,
    REFINER_LDM,
    SD1,
    SD_DIFFUSERS,
    SD_LDM,
    SDXL,
    UNET,
    VAE_LDM,
    XL_DIFFUSERS,
    XL_LDM,
    Shapes,
    diffusers,
    ema,
    header_of,
    ldm,
    told,
    under,
)
from worker.families.catalog import specs

JOINT = "joint_blocks.0.context_block.adaLN_modulation.1.bias"
FLUX = {
    "double_blocks.0.img_attn.norm.key_norm.scale": [128], "img_in.weight": [3072, 64],
    "guidance_in.in_layer.weight": [3072, 256],
}  # fmt: skip
FLUX_DIFFUSERS = {
    "single_transformer_blocks.0.attn.to_q.weight": [3072, 3072], "x_embedder.weight": [3072, 64],
    "transformer_blocks.0.attn.add_q_proj.weight": [3072, 3072],
    "time_text_embed.guidance_embedder.linear_1.weight": [3072, 256],
}  # fmt: skip
HUNYUAN = {
    "txt_in.individual_token_refiner.blocks.0.norm1.weight": [3072],
    "img_in.proj.weight": [3072, 16, 1, 2, 2],
}


def wan(dim: int, channels: int, *more: str) -> Shapes:
    found = {"head.modulation": [1, 2, dim], "patch_embedding.weight": [dim, channels, 1, 2, 2]}
    return found | {name: [dim] for name in more}


def wan_diffusers(dim: int, channels: int, *more: str) -> Shapes:
    found = {"blocks.0.attn1.to_q.weight": [dim, dim], "condition_embedder.time_proj.weight": [6 * dim, dim]}
    return found | {"patch_embedding.weight": [dim, channels, 1, 2, 2]} | {name: [dim] for name in more}


UNETS: list[tuple[Shapes, str, str, str, str | None]] = [
    (under(UNET, ldm(SD_LDM, 768)), "SD 1.5", "base", "ldm", "sd1"),
    (ldm(SD_LDM, 768), "SD 1.5", "base", "ldm", None),
    (under("unet.", diffusers(SD_DIFFUSERS, 768)), "SD 1.5", "base", "diffusers", None),
    (ema(ldm(SD_LDM, 768)), "SD 1.5", "base", "ema", None),
    (ldm(SD_LDM, 768, channels=9), "SD 1.5", "inpaint", "ldm", None),
    (ldm(SD_LDM, 768, channels=8), "SD 1.5", "pix2pix", "ldm", None),
    (ldm(SD_LDM, 1024), "SD 2.1", "base", "ldm", None),
    (diffusers(SD_DIFFUSERS, 1024), "SD 2.1", "base", "diffusers", None),
    (ldm(SD_LDM, 1024, channels=9), "SD 2.0", "inpaint", "ldm", None),
    (ldm(SD_LDM, 1024, channels=5), "SD 2.0", "depth", "ldm", None),
    (under(UNET, ldm(XL_LDM, 2048)), "SDXL 1.0", "base", "ldm", "sdxl"),
    (under("unet.", ldm(XL_LDM, 2048)), "SDXL 1.0", "base", "ldm", None),
    (diffusers(XL_DIFFUSERS, 2048), "SDXL 1.0", "base", "diffusers", None),
    (ldm(XL_LDM, 2048, channels=9), "SDXL 1.0", "inpaint", "ldm", None),
    (ldm(REFINER_LDM, 1280, width=384), "SDXL 1.0", "refiner", "ldm", None),
    (ldm(SD_LDM | {"input_blocks.4.1": 2}, 2048), "SDXL Distilled", "base", "ldm", None),
    (diffusers(XL_DIFFUSERS, 2048) | {"encoder_hid_proj.weight": [2048, 4096]},
     "Kolors", "base", "diffusers", None),
    (ldm(SD_LDM, 1024, channels=8) | {"input_blocks.1.0.time_stack.in_layers.0.weight": [320]},
     "SVD", "base", "ldm", None),
]  # fmt: skip


@pytest.mark.parametrize(("shapes", "base_model", "variant", "layout", "family"), UNETS)
def test_unets(shapes: Shapes, base_model: str, variant: str, layout: str, family: str | None) -> None:
    alone = told(shapes)
    assert (alone.kind, alone.model_type) == ("checkpoint", "Checkpoint")
    assert (alone.base_model, alone.variant, alone.layout) == (base_model, variant, layout)
    assert alone.family is None
    assert alone.notes
    with_text = told(shapes | under("te1.", CLIP_L))
    assert with_text.family == family
    assert bool(with_text.notes) == (family is None)


TRANSFORMERS: list[tuple[Shapes, str | None, str]] = [
    (FLUX, "Flux.1 D", "base"),
    (FLUX | {"img_in.weight": [3072, 384]}, "Flux.1 D", "inpaint"),
    (FLUX | {"img_in.weight": [3072, 128]}, "Flux.1 D", "control"),
    ({name: shape for name, shape in FLUX.items() if "guidance" not in name}, "Flux.1 S", "base"),
    (FLUX_DIFFUSERS, "Flux.1 D", "base"),
    ({name: shape for name, shape in FLUX_DIFFUSERS.items() if "guidance" not in name}, "Flux.1 S", "base"),
    (FLUX | {"distilled_guidance_layer.in_proj.bias": [5120]}, "Chroma", "base"),
    ({"single_stream_modulation.lin.weight": [1], "txt_in.weight": [6144, 15360]}, "Flux.2 D", "base"),
    ({"single_stream_modulation.lin.weight": [1], "txt_in.weight": [4096, 12288]}, "Flux.2 Klein 9B", "base"),
    ({"single_stream_modulation.linear.weight": [1], "context_embedder.weight": [3072, 7680]},
     "Flux.2 Klein 4B", "base"),
    ({JOINT: [9216], "pos_embed": [1, 36864, 1536]}, "SD 3", "base"),
    ({JOINT: [9216], "pos_embed": [1, 147456, 1536]}, "SD 3.5 Medium", "base"),
    ({JOINT: [14592], "joint_blocks.37.x_block.mlp.fc1.weight": [9728, 2432]}, "SD 3.5 Large", "base"),
    (wan(1536, 16), "Wan Video 1.3B t2v", "base"),
    (wan(5120, 16), None, "base"),
    (wan(5120, 36, "img_emb.proj.0.weight"), "Wan Video 14B i2v 480p", "i2v"),
    (wan(5120, 36), "Wan Video 2.2 I2V-A14B", "i2v"),
    (wan(3072, 48), "Wan Video 2.2 TI2V-5B", "base"),
    (wan(5120, 16, "vace_blocks.0.modulation"), "Wan Video", "vace"),
    (wan(5120, 36, "face_adapter.0.weight"), "Wan Video", "animate"),
    (wan_diffusers(1536, 16), "Wan Video 1.3B t2v", "base"),
    (wan_diffusers(5120, 36), "Wan Video 2.2 I2V-A14B", "i2v"),
    (wan_diffusers(3072, 48), "Wan Video 2.2 TI2V-5B", "base"),
    ({"patchify_proj.weight": [1], "transformer_blocks.27.scale_shift_table": [6, 1]}, "LTXV", "base"),
    ({"av_ca_a2v_gate_adaln_single.linear.weight": [1]}, "LTXV2", "base"),
    (HUNYUAN, "Hunyuan Video", "base"),
    (HUNYUAN | {"img_in.proj.weight": [3072, 33, 1, 2, 2]}, "Hunyuan Video", "i2v"),
    ({"txt_norm.weight": [3584], "transformer_blocks.0.attn.add_q_proj.weight": [3072, 3072]},
     "Qwen", "base"),
    ({"cap_embedder.0.weight": [2560], "cap_embedder.1.weight": [3840, 2560]}, "ZImageTurbo", "base"),
    ({"cap_embedder.0.weight": [2304], "cap_embedder.1.weight": [2304, 2304]}, "Lumina", "base"),
    ({"double_stream_blocks.0.block.x": [1], "single_stream_blocks.0.block.x": [1]}, "HiDream", "base"),
    ({"double_layers.0.attn.w1q.weight": [3072, 3072]}, "AuraFlow", "base"),
    ({"adaln_single.linear.weight": [1], "pos_embed.proj.bias": [1152]}, "PixArt E", "base"),
    ({"mlp_t5.0.weight": [1], "blocks.0.attn1.q": [1]}, "Hunyuan 1", "base"),
    ({"blocks.0.attn.qkv_x.weight": [1]}, "Mochi", "base"),
    ({"clip_txt_mapper.weight": [2048, 1280]}, "Stable Cascade", "base"),
    ({"x_embedder.proj.1.weight": [1], "llm_adapter.norm.weight": [1]}, "Anima", "base"),
]  # fmt: skip


RUN_IN_PIECES = {"wan-1.3b", "wan-14b", "wan22-5b", "ltxv"}
"""What runs here from a file with the transformer alone; a second network of Wan 2.2 looks like 2.1."""


@pytest.mark.parametrize("prefix", ["", UNET, "diffusion_model."])
@pytest.mark.parametrize(("shapes", "base_model", "variant"), TRANSFORMERS)
def test_transformers(shapes: Shapes, base_model: str | None, variant: str, prefix: str) -> None:
    found = told(under(prefix, shapes))
    assert (found.kind, found.base_model, found.variant) == ("checkpoint", base_model, variant)
    alone = found.architecture in RUN_IN_PIECES and variant == "base"
    assert found.family == (BASES[found.architecture or ""].family if alone else None)
    words = "complete checkpoint of its kind" if alone else "cannot generate here yet"
    assert any(words in note for note in found.notes)


@pytest.mark.parametrize(
    "shapes",
    [
        # a toy, a U-Net of another width, one with missing layers, half of one, one with a time axis
        diffusers(SD_DIFFUSERS, 32, width=32),
        ldm(SD_LDM, 768, width=192),
        diffusers({name: 1 for name in SD_DIFFUSERS if "mid" not in name}, 768),
        {name: shape for name, shape in ldm(SD_LDM, 768).items() if "out.2" not in name},
        ldm(SD_LDM, 1024) | {"input_blocks.1.0.temopral_conv.conv1.0.weight": [320]},
        ldm(SD_LDM, 768, channels=6),
        {"weight": [3, 3]},
        {"head.modulation": [1, 2, 999], "patch_embedding.weight": [999, 16, 1, 2, 2]},
    ],
)
def test_unknown_is_unknown(shapes: Shapes) -> None:
    found = told(shapes)
    assert (found.kind, found.base_model, found.family, found.model_type) == ("unknown", None, None, None)
    assert "does not know this model" in found.notes[0]


def test_what_lies_in_a_whole_file() -> None:
    found = told(SD1)
    assert (found.base_model, found.family, found.pruned, found.precision) == (
        "SD 1.5",
        "sd1",
        "pruned",
        "fp16",
    )
    assert found.has_vae
    assert found.text_encoders == ("CLIP ViT-L",)
    assert found.prediction == "epsilon"
    assert found.notes == ()
    full = told(SD1 | ema(ldm(SD_LDM, 768)), dtype="F32")
    assert (full.pruned, full.precision) == ("full", "fp32")
    assert full.parameters > found.parameters
    xl = told(SDXL, dtype="BF16")
    assert xl.text_encoders == ("CLIP ViT-L", "OpenCLIP ViT-bigG")
    assert (xl.family, xl.precision) == ("sdxl", "bf16")
    assert told(
        under(UNET, ldm(SD_LDM, 1024)) | under("cond_stage_model.model.", OPEN_CLIP_H)
    ).text_encoders == ("OpenCLIP ViT-H",)
    refiner = under(UNET, ldm(REFINER_LDM, 1280, width=384)) | under(
        "conditioner.embedders.0.model.", OPEN_CLIP_G
    )
    assert told(refiner).text_encoders == ("OpenCLIP ViT-bigG",)
    assert told(under("text_encoders.gemma2.", CLIP_L) | under(UNET, FLUX)).text_encoders == ("gemma2",)
    without = {name: shape for name, shape in SD1.items() if not name.startswith("first_stage")}
    assert not told(without).has_vae
    assert told(without).family == "sd1"
    assert not told(under("vae.", VAE_LDM) | {"x": [1]}).text_encoders


@pytest.mark.parametrize(
    ("marks", "metadata", "expected"),
    [
        ({}, {}, ("epsilon", False)),
        ({"v_pred": []}, {}, ("v", False)),
        ({"v_pred": [], "ztsnr": []}, {}, ("v", True)),
        ({"edm_mean": [4]}, {}, ("edm", False)),
        ({"edm_vpred.sigma_max": []}, {}, ("edm-v", False)),
        ({}, {"modelspec.prediction_type": "v"}, ("v", False)),
        ({}, {"modelspec.predict_key": "epsilon", "ss_zero_terminal_snr": "True"}, ("epsilon", True)),
        ({}, {"ss_v_parameterization": "True"}, ("v", False)),
    ],
)
def test_what_it_predicts(marks: Shapes, metadata: dict[str, str], expected: tuple[str, bool]) -> None:
    found = told(SDXL | marks, metadata)
    assert (found.prediction, found.zero_terminal_snr) == expected
    runs = expected[0] not in ("edm", "edm-v")
    assert (found.family, any("(EDM)" in note for note in found.notes)) == (
        ("sdxl", False) if runs else (None, True)
    )


def test_sd2_does_not_say_what_it_predicts() -> None:
    assert told(ldm(SD_LDM, 1024)).prediction is None
    assert told(ldm(SD_LDM, 1024), {"modelspec.prediction_type": "v"}).prediction == "v"


@pytest.mark.parametrize(
    ("shapes", "title", "distilled", "base_model"),
    [
        (SDXL, "SDXL Turbo 1.0", "turbo", "SDXL Turbo"),
        (SDXL, "dreamshaper_lightning_v2", None, "SDXL 1.0"),
        (SDXL, "Dreamshaper Lightning", "lightning", "SDXL Lightning"),
        (SDXL, "Hyper-SDXL 8 steps", "hyper", "SDXL Hyper"),
        (SDXL, "Hyperrealism 4", None, "SDXL 1.0"),
        (SDXL, "Pony Diffusion V6 XL", None, "Pony"),
        (SD1 | {f"{UNET}time_embed.cond_proj.weight": [320, 256]}, "", "lcm", "SD 1.5 LCM"),
    ],
)
def test_models_for_few_steps(shapes: Shapes, title: str, distilled: str | None, base_model: str) -> None:
    found = told(shapes, {"modelspec.title": title})
    assert (found.distilled, found.base_model) == (distilled, base_model)
    assert found.family is not None
    assert found.title == (title or None)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({f"{UNET}x.weight.quant_state.bitsandbytes__nf4": [9]}, "bitsandbytes nf4"),
        ({"scaled_fp8": [0]}, "scaled fp8"),
    ],
)
def test_compressed_weights_are_said(more: dict[str, Any], words: str) -> None:
    found = told(SDXL | more)
    assert found.quantised == words
    assert found.family is None
    assert words in " ".join(found.notes)


def test_leftovers_of_a_lora_do_not_make_a_checkpoint_a_lora() -> None:
    leftovers = {"lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight": [4, 320],
                 "lora_unet_down_blocks_0_attentions_0_proj_in.lora_up.weight": [320, 4]}  # fmt: skip
    assert told(SD1 | leftovers).kind == "checkpoint"


def test_only_installed_families_can_run() -> None:
    header = header_of(SDXL)
    assert recognise(header, ["sd1"]).family is None
    assert "cannot generate here yet" in recognise(header, ["sd1"]).notes[-1]
    assert recognise(header, ["sd1", "sdxl"]).family == "sdxl"


def test_the_table_is_consistent() -> None:
    assert {row.architecture for row in ROWS} <= set(BASES)
    for name, spec in specs().items():
        assert spec.base_model in {base.names[0] for base in BASES.values() if base.family == name}
    assert architectures_of(" sdxl 1.0 ") == {"sdxl", "sdxl-refiner"}
    assert architectures_of("Other") == set()
    assert family_of_base("Illustrious") == "sdxl"
    assert family_of_base("Flux.1 D") is None
    assert may_be_called("sdxl", "Pony")
    assert may_be_called("sdxl", "My own name")
    assert may_be_called(None, "SD 1.5")
    assert not may_be_called("sdxl", "SD 1.5")


def test_what_tensors_cannot_tell_is_asked() -> None:
    """Wan 2.1 14B and an expert of Wan 2.2 A14B: a folder shows by its second network which it is."""
    alone = told(wan(5120, 16))
    assert (alone.architecture, alone.base_model) == ("wan-14b", None)
    assert any("say which it is" in note for note in alone.notes)
    shapes = under("transformer.", wan_diffusers(5120, 16)) | {"text_encoder.shared.weight": [9, 9]}
    two = shapes | under("transformer_2.", wan_diffusers(5120, 16))
    found = [recognise(header_of(names), folder=True) for names in (shapes, two)]
    assert [(f.architecture, f.base_model, f.family) for f in found] == [
        ("wan-14b", "Wan Video 14B t2v", "wan_14b"),
        ("wan22-t2v", "Wan Video 2.2 T2V-A14B", "wan22_a14b"),
    ]
    assert not any("say which it is" in note for f in found for note in f.notes)


def test_the_owner_s_word_decides_between_two_with_the_same_tensors() -> None:
    assert meanings("wan-14b", "Wan Video 2.2 T2V-A14B") == {"wan22-t2v"}
    assert meanings("wan-14b", "Wan Video 14B t2v") == {"wan-14b"}
    assert meanings("wan-14b", "Wan Video") == meanings("wan-14b", "My own") == {"wan-14b", "wan22-t2v"}
    assert meanings("sdxl", "Pony") == {"sdxl"}
    assert family_of_base("Wan Video 2.2 T2V-A14B") == "wan22_a14b"
    assert family_of_base("Wan Video 14B t2v") == "wan_14b"
    assert family_of_base("Wan Video") == "wan"
    assert may_be_called("wan-14b", "Wan Video 2.2 T2V-A14B")
    assert not may_be_called("wan22-5b", "Wan Video 2.2 T2V-A14B")
    assert names_of("wan-14b")[0] == "Wan Video 14B t2v"
    assert "Wan Video 2.2 T2V-A14B" in names_of("wan-14b")


@pytest.mark.parametrize(("width", "family"), [(192, "video_starter"), (1536, "wan"), (3072, "wan22_5b")])
def test_folders_of_wan_run_here(width: int, family: str) -> None:
    channels = 48 if width == 3072 else 16
    shapes = under("transformer.", wan_diffusers(width, channels)) | {"text_encoder.shared.weight": [9, 9]}
    assert recognise(header_of(shapes), folder=True).family == family
