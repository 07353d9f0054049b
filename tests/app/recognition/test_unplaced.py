"""What of a LoRA has no place in its base is told by name and number, from the header alone."""

import pytest

from app.recognition.unet_names import ARCHITECTURES, UNetNames, numbered, places
from tests.app.recognition.listings import KOHYA, PEFT, Shapes, lora, told
from tests.app.recognition.test_adapters import DOTS, FLAT, KOHYA_SD1, KOHYA_SDXL, TE, unet


def note_of(shapes: Shapes, metadata: dict[str, str] | None = None) -> tuple[int, tuple[str, ...], str]:
    found = told(shapes, metadata)
    assert found.adapter is not None
    notes = [note for note in found.notes if "no place" in note]
    return found.adapter.unplaced, found.adapter.unplaced_names, "".join(notes)


DOTTED = lora(unet(768, "unet.{}", DOTS), ends=PEFT)
COUNTED = {"unet:0": (320, 320), "unet:6": (768, 320), "text_encoder:47": (768, 768)}
NUMBERS = lora(COUNTED, ends=(":down", ":up"))
TEXT_LAYER = {"lora_te.text_model.encoder.layers.0.mlp.fc1": (768, 3072)}


@pytest.mark.parametrize(
    "shapes",
    [
        KOHYA_SD1, KOHYA_SDXL, DOTTED, NUMBERS,
        lora(unet(768, "lora_unet.{}", DOTS) | TEXT_LAYER, ends=KOHYA),
        lora(unet(768, "diffusion_model.{}", "input_blocks.1.1.transformer_blocks.0."), ends=KOHYA),
        lora(unet(2048, "unet.{}", "input_blocks.4.1.transformer_blocks.0.", 640)
             | {"clip_g.text_model.encoder.layers.31.mlp.fc1": (1280, 5120)}, ends=KOHYA),
        KOHYA_SD1 | {"lora_unet_down_blocks_0_resnets_0_norm1.w_norm": [320]},
        KOHYA_SD1 | {"lora_unet_conv_in.diff_b": [320]},
    ],
)  # fmt: skip
def test_what_has_a_place_is_not_spoken_of(shapes: Shapes) -> None:
    assert note_of(shapes) == (0, (), "")


@pytest.mark.parametrize(
    "name",
    [
        "lora_unet_nowhere",
        f"lora_unet_{FLAT}attn3_to_q",
        f"lora_te2_{TE}",
        "lora_te_text_model_encoder_layers_12_mlp_fc1",
        "lora_unet_down_blocks_3_attentions_0_proj_in",
    ],
)
def test_layers_that_the_base_does_not_have(name: str) -> None:
    count, names, note = note_of(KOHYA_SD1 | lora({name: (4, 4)}, ends=KOHYA))
    assert (count, names) == (1, (name,))
    assert note == f"1 entry has no place in Stable Diffusion 1.x and will do nothing: {name}"


@pytest.mark.parametrize(
    "tensors",
    [
        {"emphasis": [4]},
        {"lora_unet_conv_in.lora_up.weight": [320, 4, 1, 1]},
        {"lora_unet_conv_in.alpha": []},
        {"lora_unet_conv_in.oft_blocks": [4, 8, 8]},
        {f"lora_unet_conv_in.{part}.weight": [4, 4] for part in ("a1", "a2", "b1", "b2")},
        {"bundle_emb.<ink>.string_to_param": [2, 768]},
    ],
)
def test_what_cannot_be_applied(tensors: Shapes) -> None:
    count, names, note = note_of(KOHYA_SD1 | tensors)
    assert count == 1
    assert next(iter(tensors)).startswith(names[0])
    assert names[0] in note


def test_numbers_beyond_the_last_layer() -> None:
    beyond = lora({"unet:144": (4, 4), "text_encoder:48": (4, 4)}, ends=(":down", ":up"))
    assert note_of(NUMBERS | beyond)[:2] == (2, ("unet:144", "text_encoder:48"))
    more = {
        "unet": '["CrossAttention", "Attention", "GEGLU", "ResnetBlock2D"]',
        "text_encoder": "[[[",
    }
    assert note_of(NUMBERS | beyond, more)[:2] == (1, ("text_encoder:48",))


def test_fifty_names_are_kept_and_five_are_said() -> None:
    count, names, note = note_of(KOHYA_SD1 | {f"extra_{n:03}": [1] for n in range(70)})
    assert (count, len(names)) == (70, 50)
    assert note.endswith("extra_003, extra_004, …")
    assert note.startswith("70 entries have")


def test_nothing_is_said_of_bases_whose_layers_are_not_known() -> None:
    flux = lora(
        {"lora_unet_double_blocks_0_img_mlp_0": (3072, 12288), "lora_unet_nowhere": (4, 4)}, ends=KOHYA
    )
    assert note_of(flux) == (0, (), "")


def test_a_header_full_of_numbers_is_answered() -> None:
    many = lora({f"unet:{n}": (4, 4) for n in range(1000, 10_000)}, ends=(":down", ":up"))
    padding = {"unet": "[" + ",".join(['"Attention"'] * 60_000) + "]"}
    assert note_of(NUMBERS | many, padding)[0] == 9000


@pytest.mark.parametrize(("name", "layers"), [("sd1", 391), ("sd2", 391), ("sdxl", 1050), ("starter", 0)])
def test_every_layer_has_one_name_in_each_spelling(name: str, layers: int) -> None:
    known = ARCHITECTURES[name].unet
    modules = list(known.modules())
    assert len(set(modules)) == len(modules)
    assert layers in (0, len(modules))
    spelled = places(name)["unet"]
    assert len(spelled) == 2 * len(modules)
    assert set(spelled.values()) == set(modules)


def test_names_that_single_files_do_not_have() -> None:
    with pytest.raises(ValueError, match="Not a name"):
        UNetNames(2, frozenset()).name("encoder_hid_proj")


def test_the_order_of_numbers_is_that_of_old_diffusers() -> None:
    """Down, up, middle; in a block attn1, the first half of ff, attn2: its widths are those of real files."""
    order = numbered("unet", ARCHITECTURES["sd1"].unet.modules())
    assert len(order) == 144
    sides = ("to_q", "to_k", "to_v", "to_out.0")
    ends = [name.partition(".transformer_blocks.0.")[2] for name in order[:9]]
    assert ends == [*(f"attn1.{s}" for s in sides), "ff.net.0.proj", *(f"attn2.{s}" for s in sides)]
    blocks = [name.partition("_")[0] for name in order[::9]]
    assert blocks == ["down"] * 6 + ["up"] * 9 + ["mid"]
    text = numbered("text-encoder", ARCHITECTURES["sd1"].parts()["text-encoder"])
    assert [name.rpartition(".")[2] for name in text[:4]] == ["k_proj", "v_proj", "q_proj", "out_proj"]
    assert len(text) == 48
