"""LoRAs and their relatives: kind, naming, rank, alpha, base and trained words."""

import json

import pytest

from app.recognition.bases import BASES
from tests.app.recognition.listings import KOHYA, OLD, PEFT, Shapes, lora, told

FLAT = "down_blocks_0_attentions_0_transformer_blocks_0_"
DOTS = "down_blocks.0.attentions.0.transformer_blocks.0."
TE = "text_model_encoder_layers_0_self_attn_q_proj"


def unet(context: int, form: str, layer: str = FLAT, wide: int = 320) -> dict[str, tuple[int, int]]:
    """Two layers: one that reads the picture and one that reads the text. `form` has the name in braces."""
    to = "attn{}.to_k" if "." in layer else "attn{}_to_k"
    return {
        form.format(layer + to.format(1)): (wide, wide),
        form.format(layer + to.format(2)): (context, wide),
    }


KOHYA_SD1 = lora(unet(768, "lora_unet_{}") | {f"lora_te_{TE}": (768, 768)}, ends=KOHYA, alpha=True)
KOHYA_SDXL = lora(
    unet(2048, "lora_unet_{}", "input_blocks_4_1_transformer_blocks_0_", 640)
    | {f"lora_te1_{TE}": (768, 768), f"lora_te2_{TE}": (1280, 1280)},
    ends=KOHYA,
    alpha=True,
)

NAMED = (".lora_A.default.weight", ".lora_B.default.weight")
NAMINGS: list[tuple[Shapes, str, str, tuple[str, ...]]] = [
    (KOHYA_SD1, "kohya", "SD 1.5", ("text-encoder", "unet")),
    (lora(unet(1024, "lora_unet_{}"), ends=KOHYA), "kohya", "SD 2.1", ("unet",)),
    (KOHYA_SDXL, "kohya-sgm", "SDXL 1.0", ("text-encoder", "text-encoder-2", "unet")),
    (lora(unet(2048, "lora_unet_{}"), ends=KOHYA), "kohya", "SDXL 1.0", ("unet",)),
    (lora(unet(128, "lora_unet_{}", wide=128), ends=KOHYA, alpha=True), "kohya", "Starter 1", ("unet",)),
    (lora(unet(768, "unet.{}", DOTS), ends=PEFT), "diffusers", "SD 1.5", ("unet",)),
    (lora(unet(2048, "unet.{}", DOTS), ends=PEFT), "diffusers", "SDXL 1.0", ("unet",)),
    (lora(unet(768, "unet.{}", DOTS), ends=OLD), "diffusers-old", "SD 1.5", ("unet",)),
    (lora(unet(768, "base_model.model.{}", DOTS), ends=PEFT), "peft", "SD 1.5", ("unet",)),
    (lora(unet(768, "base_model.model.unet.{}", DOTS), ends=NAMED), "peft", "SD 1.5", ("unet",)),
    (lora({f"{DOTS}attn2.processor.to_k": (768, 320)}, ends=("_lora.down.weight", "_lora.up.weight")),
     "diffusers-old", "SD 1.5", ("unet",)),
    (lora({"unet:0": (320, 320), "unet:1": (768, 320), "text_encoder:0": (768, 768)}, ends=(":down", ":up")),
     "cloneofsimo", "SD 1.5", ("text-encoder", "unet")),
    (lora(unet(2048, "lycoris_{}", DOTS.replace(".", "_")), ends=KOHYA), "lycoris", "SDXL 1.0", ("unet",)),
    (lora(unet(768, "lora_unet_unet_{}"), ends=("_lora_down.weight", "_lora_up.weight")),
     "unknown", "SD 1.5", ("unet",)),
    (lora({f"lora_te_{TE}": (768, 768)}, ends=KOHYA), "kohya", "SD 1.5", ("text-encoder",)),
    (lora({f"lora_te1_{TE}": (768, 768), f"lora_te2_{TE}": (1280, 1280)}, ends=KOHYA),
     "kohya", "SDXL 1.0", ("text-encoder", "text-encoder-2")),
]  # fmt: skip


@pytest.mark.parametrize(("shapes", "naming", "base_model", "acts_on"), NAMINGS)
def test_namings(shapes: Shapes, naming: str, base_model: str, acts_on: tuple[str, ...]) -> None:
    found = told(shapes)
    assert (found.kind, found.model_type, found.base_model) == ("lora", "LORA", base_model)
    assert found.adapter is not None
    assert (found.adapter.naming, found.adapter.acts_on) == (naming, acts_on)
    assert (found.adapter.algorithm, found.adapter.rank, found.adapter.ranks) == ("LoRA", 8, (8,))
    assert found.adapter.modules == sum(
        name.endswith(("up.weight", "B.weight", ":up", "B.default.weight")) for name in shapes
    )
    assert found.why


def blocks(form: str, ends: tuple[str, str], width: int, *names: str) -> Shapes:
    return lora({form.format(name): (width, width) for name in names}, ends=ends)


EVERY_BLOCK = [f"double_blocks_{n}_img_attn_qkv" for n in range(19)]
TRANSFORMERS: list[tuple[Shapes, str | None]] = [
    (blocks("lora_unet_{}", KOHYA, 3072, "double_blocks_0_img_mlp_0"), "Flux.1 D"),
    (blocks("lora_unet_{}", KOHYA, 3072, *EVERY_BLOCK), "Flux.1 D"),
    (blocks("lora_transformer_{}", KOHYA, 3072, "single_transformer_blocks_0_attn_to_q"), "Flux.1 D"),
    (blocks("transformer.{}", PEFT, 3072, "transformer_blocks.0.attn.to_q",
            "single_transformer_blocks.0.attn.to_q"), "Flux.1 D"),
    (blocks("diffusion_model.{}", PEFT, 3072, "double_blocks.0.img_attn.qkv"), "Flux.1 D"),
    (blocks("lora_unet_{}", KOHYA, 3072, "double_blocks_7_img_attn_qkv"), None),
    (blocks("diffusion_model.{}", PEFT, 3072, "double_blocks.0.img_attn_qkv"), "Hunyuan Video"),
    (blocks("lora_unet_{}", KOHYA, 3072, "double_blocks_19_img_attn_qkv"), "Hunyuan Video"),
    (blocks("diffusion_model.{}", PEFT, 3072, "distilled_guidance_layer.layers.0.in_layer",
            "double_blocks.0.img_attn.qkv"), "Chroma"),
    (blocks("diffusion_model.{}", PEFT, 6144, "double_blocks.0.img_attn.qkv"), "Flux.2 D"),
    (blocks("transformer.{}", PEFT, 3072, "single_transformer_blocks.0.attn.to_qkv_mlp_proj"),
     "Flux.2 Klein 4B"),
    (blocks("lora_unet_{}", KOHYA, 1536, "joint_blocks_0_x_block_attn_qkv"), "SD 3"),
    (blocks("transformer.{}", PEFT, 1536, "transformer_blocks.0.attn.to_q"), "SD 3"),
    (blocks("transformer.{}", PEFT, 2432, "transformer_blocks.0.attn.to_q"), "SD 3.5 Large"),
    (blocks("transformer.{}", PEFT, 3072, "transformer_blocks.59.attn.to_q"), "Qwen"),
    (blocks("diffusion_model.{}", PEFT, 5120, "blocks.0.self_attn.q"), None),
    (blocks("diffusion_model.{}", PEFT, 5120, "blocks.0.self_attn.q", "blocks.0.cross_attn.k_img"),
     "Wan Video 14B i2v 480p"),
    (blocks("lora_unet_{}", KOHYA, 1536, "blocks_0_self_attn_q"), "Wan Video 1.3B t2v"),
    (blocks("transformer.{}", PEFT, 3072, "blocks.0.attn1.to_q"), "Wan Video 2.2 TI2V-5B"),
    (blocks("diffusion_model.{}", PEFT, 2048, "transformer_blocks.0.attn1.to_q"), "LTXV"),
    (blocks("diffusion_model.{}", PEFT, 3840, "layers.0.attention.qkv"), "ZImageTurbo"),
    (blocks("diffusion_model.{}", PEFT, 2304, "layers.0.attention.to_q"), "Lumina"),
    (blocks("diffusion_model.{}", PEFT, 2560, "double_stream_blocks.0.block.attn1.to_q"), "HiDream"),
    (blocks("transformer.{}", PEFT, 64, "nothing.that.is.known"), None),
]  # fmt: skip


@pytest.mark.parametrize(("shapes", "base_model"), TRANSFORMERS)
def test_loras_of_transformers(shapes: Shapes, base_model: str | None) -> None:
    found = told(shapes)
    assert (found.kind, found.base_model) == ("lora", base_model)
    assert found.family == (BASES[found.architecture].family if found.architecture else None)
    assert found.notes or found.family


TO_K = f"lora_unet_{FLAT}attn2_to_k"
CONV = "lora_unet_down_blocks_0_resnets_0_conv1"
LOHA = {f"{TO_K}.hada_w1_a": [320, 8], f"{TO_K}.hada_w1_b": [8, 768], f"{TO_K}.hada_w2_a": [320, 8],
        f"{TO_K}.hada_w2_b": [8, 768], f"{TO_K}.alpha": []}  # fmt: skip
LOKR = {
    f"{TO_K}.lokr_w1": [8, 16],
    f"{TO_K}.lokr_w2_a": [40, 8],
    f"{TO_K}.lokr_w2_b": [8, 48],
    f"{TO_K}.alpha": [],
}
ALGORITHMS: list[tuple[Shapes, str, str, int | None, int | None]] = [
    (KOHYA_SD1 | {f"{CONV}.lora_down.weight": [4, 320, 3, 3], f"{CONV}.lora_up.weight": [320, 4, 1, 1]},
     "LoCon", "LoCon", 8, 4),
    (KOHYA_SD1 | {f"{CONV}.lora_down.weight": [4, 320, 1, 1], f"{CONV}.lora_mid.weight": [4, 4, 3, 3],
                  f"{CONV}.lora_up.weight": [320, 4, 1, 1]}, "LoCon", "LoCon", 8, 4),
    (LOHA, "LoHa", "LoCon", 8, None),
    (LOKR, "LoKr", "LoCon", 8, None),
    (KOHYA_SD1 | {f"{TO_K}.dora_scale": [320, 1]}, "DoRA", "DoRA", 8, None),
    (lora(unet(768, "unet.{}", DOTS), ends=PEFT) | {f"unet.{DOTS}attn2.to_k.lora_magnitude_vector": [320]},
     "DoRA", "DoRA", 8, None),
    ({f"{TO_K}.diff": [320, 768]}, "full difference", "LoCon", None, None),
]  # fmt: skip


@pytest.mark.parametrize(("shapes", "algorithm", "model_type", "rank", "conv_rank"), ALGORITHMS)
def test_algorithms(
    shapes: Shapes, algorithm: str, model_type: str, rank: int | None, conv_rank: int | None
) -> None:
    found = told(shapes)
    assert found.adapter is not None
    assert (found.adapter.algorithm, found.model_type) == (algorithm, model_type)
    assert (found.adapter.rank, found.adapter.conv_rank) == (rank, conv_rank)
    assert found.base_model == "SD 1.5"


def test_a_convolution_of_one_pixel_is_a_plain_lora() -> None:
    proj = "lora_unet_down_blocks_0_attentions_0_proj_in"
    found = told(
        KOHYA_SD1 | {f"{proj}.lora_down.weight": [8, 320, 1, 1], f"{proj}.lora_up.weight": [320, 8, 1, 1]}
    )
    assert found.model_type == "LORA"


def test_different_ranks_are_all_said() -> None:
    other = lora({f"lora_unet_{FLAT}attn1_to_q": (320, 320)}, rank=16, ends=KOHYA)
    found = told(KOHYA_SD1 | other)
    assert found.adapter is not None
    assert (found.adapter.rank, found.adapter.ranks) == (8, (8, 16))


@pytest.mark.parametrize(
    ("metadata", "alpha"),
    [
        ({"ss_network_alpha": "4.0"}, 4.0),
        ({"ss_network_alpha": "None"}, None),
        ({"ss_network_alpha": "nan"}, None),
        ({"lora_adapter_metadata": json.dumps({"unet.r": 8, "unet.lora_alpha": 16})}, 16.0),
        ({"lora_adapter_metadata": "[[["}, None),
        ({"lora_adapter_metadata": "[1]"}, None),
        ({}, None),
    ],
)
def test_alpha(metadata: dict[str, str], alpha: float | None) -> None:
    found = told(KOHYA_SD1, metadata)
    assert found.adapter is not None
    assert found.adapter.alpha == alpha


ONLY_RESNETS = lora({"lora_unet_down_blocks_0_resnets_0_time_emb_proj": (1280, 320)}, ends=KOHYA)


@pytest.mark.parametrize(
    ("shapes", "metadata", "base_model"),
    [
        (ONLY_RESNETS, {}, None),
        (ONLY_RESNETS, {"format": "pt"}, None),
        (ONLY_RESNETS, {"ss_base_model_version": "sdxl_base_v1-0"}, "SDXL 1.0"),
        (ONLY_RESNETS, {"modelspec.architecture": "stable-diffusion-v1/lora"}, "SD 1.5"),
        (ONLY_RESNETS, {"ss_v2": "True"}, "SD 2.1"),
        (ONLY_RESNETS, {"ss_base_model_version": "bottega_starter_1"}, "Starter 1"),
        (KOHYA_SDXL, {"ss_base_model_version": "sd_v1"}, "SDXL 1.0"),
        (KOHYA_SDXL, {"ss_sd_model_name": "ponyDiffusionV6XL.safetensors"}, "Pony"),
        (KOHYA_SDXL, {"ss_sd_model_name": "290640.safetensors"}, "Pony"),
        (KOHYA_SDXL, {"ss_new_sd_model_hash": "67ab2fd8ec439a89b3fedb15cc65f543"}, "Pony"),
        (KOHYA_SDXL, {"ss_sd_model_name": "Illustrious-XL-v0.1.safetensors"}, "Illustrious"),
        (KOHYA_SDXL, {"ss_output_name": "pony_ride"}, "SDXL 1.0"),
        (KOHYA_SD1, {"ss_sd_model_name": "pony.safetensors"}, "SD 1.5"),
    ],
)
def test_metadata_says_what_shapes_do_not(
    shapes: Shapes, metadata: dict[str, str], base_model: str | None
) -> None:
    assert told(shapes, metadata).base_model == base_model


def test_a_wrong_label_is_named() -> None:
    found = told(KOHYA_SDXL, {"ss_base_model_version": "sd_v1"})
    assert "says Stable Diffusion 1.x, but its tensors fit Stable Diffusion XL" in found.notes[0]


FREQUENCY = {"10_hills": {"tuscany": 12, "cypress": 7, "sunset": 12}}
FOLDERS = {"10_hills": {"n_repeats": 10, "img_count": 12}}


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ({"modelspec.trigger_phrase": "tuscany, golden hills"}, ("tuscany", "golden hills")),
        ({"modelspec.trigger_phrase": "None"}, ()),
        ({"<s1>": "<embed>", "<s2>": "<embed>"}, ("<s1>", "<s2>")),
        (
            {"ss_tag_frequency": json.dumps(FREQUENCY), "ss_dataset_dirs": json.dumps(FOLDERS)},
            ("tuscany", "sunset"),
        ),
        ({"ss_tag_frequency": json.dumps(FREQUENCY)}, ()),
        ({"ss_tag_frequency": json.dumps({"1_tuscany": {"tuscany": 1}})}, ("tuscany",)),
        ({"ss_datasets": json.dumps([{"subsets": [{"class_tokens": "tuscan house"}]}])}, ("tuscan house",)),
        ({"ss_datasets": json.dumps([1, {"subsets": 3}, {"subsets": [None, {"class_tokens": 4}]}])}, ()),
        ({"ss_tag_frequency": "[1, 2]", "ss_dataset_dirs": "3"}, ()),
        ({"ss_tag_frequency": '{"a": 3}'}, ()),
        ({"ss_tag_frequency": "{" * 9000}, ()),
        ({"modelspec.trigger_phrase": "x" * 500}, ("x" * 100,)),
    ],
)
def test_trained_words(metadata: dict[str, str], words: tuple[str, ...]) -> None:
    assert told(KOHYA_SD1, metadata).trained_words == words


def test_names_of_no_program_are_said() -> None:
    shapes = lora(unet(768, "lora_unet_unet_{}"), ends=("_lora_down.weight", "_lora_up.weight"))
    assert "no program" in told(shapes).notes[0]


def test_an_alpha_alone_is_no_lora() -> None:
    assert told({"decoder.snake.alpha": [4], "decoder.snake.weight": [4]}).kind == "unknown"
