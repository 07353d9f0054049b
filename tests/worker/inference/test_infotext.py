"""The "parameters" text: written as A1111 writes it, read whoever wrote it, safe to read from anybody."""

import io
import json
from typing import Any

import pytest
from PIL import Image, PngImagePlugin

from app.contract.jobs import EmbeddingRef, GenerateJob, Hires, StartPicture
from tests.worker.inference.small import blob, checkpoint, job, lora_ref
from worker.inference import infotext
from worker.inference.infotext import (
    Infotext,
    SecondPass,
    UsedLora,
    describe,
    embed_png,
    find_text,
    plain,
    read,
    write,
)

A1111 = """<lora:Pecha_Swords_LORA_V1.2:1>, axe, highly detailed, sharp focus
Steps: 28, Sampler: DPM++ 2S a, CFG scale: 16, Seed: 2527192005, Size: 512x512, Model hash: fc2511737a, \
Model: chilloutmix_NiPrunedFp32Fix, Lora hashes: "Pecha_Swords_LORA_V1.2: f4c3c4a69a0e", Version: v1.4.0"""


def tail(text: str) -> str:
    return text.split("\n")[-1]


def full_job() -> GenerateJob:
    return job(
        prompt="a red house, <lora:ink:0.5>",
        negative_prompt="blurred,\ndark",
        loras=(lora_ref("ink", "11"), lora_ref("oil-2.b", "22", 1.0, "ba9876543210")),
        clip_skip=2,
        cfg_scale=6.5,
        width=64,
        height=96,
    )


def test_the_whole_text_of_a_picture() -> None:
    text = write(describe(full_job(), 123))
    assert text == (
        "a red house, <lora:ink:0.5> <lora:oil-2.b:1>\n"
        "Negative prompt: blurred,\n"
        "dark\n"
        "Steps: 2, Sampler: DPM++ 2M Karras, Schedule type: Karras, CFG scale: 6.5, Seed: 123, Size: 64x96, "
        "Model hash: ababababab, Model: Little base, Clip skip: 2, RNG: CPU, "
        'Lora hashes: "ink: 0123456789ab, oil-2.b: ba9876543210", '
        'Hashes: {"model": "ababababab", "lora:ink": "1111111111", "lora:oil-2.b": "2222222222"}, '
        f"Version: Bottega v{infotext.bottega_version()}"
    )


def test_a_plain_picture_has_no_lines_for_what_it_lacks() -> None:
    text = write(describe(job(sampler="Euler a"), 1))
    assert text.startswith(
        "a red house\nSteps: 2, Sampler: Euler a, Schedule type: Automatic, CFG scale: 7, Seed: 1"
    )
    for absent in ("Negative prompt", "Clip skip", "Lora hashes", "Civitai resources"):
        assert absent not in text


def settings_of(**changes: Any) -> str:
    """The last line without the keys that every picture has before and after."""
    line = tail(write(describe(job(**changes), 1)))
    return line.split("Model: Little base, ")[1].split(", Version: ")[0]


HASHES = 'Hashes: {"model": "ababababab"}'


def test_sampler_and_schedule_are_written_joined_and_apart() -> None:
    for sampler, schedule, joined, said in (
        ("DPM++ 2M", "Automatic", "DPM++ 2M Karras", "Karras"),
        ("DPM++ 2M", "Karras", "DPM++ 2M Karras", "Karras"),
        ("DPM++ 2M", "Normal", "DPM++ 2M", "Normal"),
        ("DPM++ 2M SDE", "Automatic", "DPM++ 2M SDE Exponential", "Exponential"),
        ("Euler", "Beta", "Euler Beta", "Beta"),
        ("Euler a", "SGM Uniform", "Euler a", "SGM Uniform"),
        ("Euler a", "Automatic", "Euler a", "Automatic"),
    ):
        info = read(write(describe(job(sampler=sampler, schedule=schedule), 1)))
        assert (info.settings["Sampler"], info.settings["Schedule type"]) == (joined, said)
        assert (info.sampler, info.schedule) == (joined, said)


def test_a_vae_of_its_own() -> None:
    base = checkpoint().model_copy(update={"vae": blob("cd", "kl-mse.safetensors")})
    assert settings_of(base=base) == (
        'VAE hash: cdcdcdcdcd, VAE: kl-mse, RNG: CPU, Hashes: {"model": "ababababab", "vae": "cdcdcdcdcd"}'
    )


def test_embeddings_have_their_hashes() -> None:
    one = EmbeddingRef(file=blob("33", "bad.pt"), name="bad", base_model="SD 1.5", autov3="0123456789ab")
    unknown = one.model_copy(update={"name": "worse", "autov3": ""})
    text = write(describe(job(embeddings=(one, unknown)), 1))
    assert 'TI hashes: "bad: 0123456789ab"' in text
    assert '"embed:bad": "3333333333", "embed:worse": "3333333333"' in text
    assert read(text).embeddings == {"bad": "0123456789ab", "worse": "3333333333"}


def test_pictures_that_start_from_pictures() -> None:
    start = StartPicture(file=blob("44", "start.png"), denoise=0.6)
    assert settings_of(start=start) == f"Denoising strength: 0.6, RNG: CPU, {HASHES}"
    masked = start.model_copy(update={"mask": blob("55", "mask.png"), "mask_blur": 8})
    assert settings_of(start=masked) == f"Denoising strength: 0.6, RNG: CPU, Mask blur: 8, {HASHES}"
    info = read(write(describe(job(start=masked), 1)))
    assert (info.denoise, info.mask_blur, info.mask_padding, info.hires) == (0.6, 8, None, None)
    part = masked.model_copy(update={"mask_padding": 32})
    assert "Mask blur: 8, Inpaint area: Only masked, Masked area padding: 32" in settings_of(start=part)
    assert read(write(describe(job(start=part), 1))).mask_padding == 32


def test_the_second_pass() -> None:
    assert settings_of(hires=Hires(scale=1.5, upscaler="Latent (nearest)", denoise=0.5, steps=12)) == (
        "Denoising strength: 0.5, RNG: CPU, Hires upscale: 1.5, Hires steps: 12, "
        f"Hires upscaler: Latent (nearest), {HASHES}"
    )
    info = read(write(describe(job(hires=Hires()), 1)))
    assert info.hires == SecondPass(1.5, None, "Latent", None, 0.55)
    assert info.size == (16, 16)


def test_a_second_pass_of_other_writers() -> None:
    line = "x\nSteps: 5, Sampler: Euler, Size: 512x512, Denoising strength: 0.4, "
    assert read(f"{line}Hires resize: 768x1024, Hires steps: 0").hires == SecondPass(
        None, (768, 1024), "", None, 0.4
    )
    assert read(f"{line}Hires upscale: 2, Hires resize: 0x0").hires == SecondPass(2.0, None, "", None, 0.4)
    assert read(f"{line}Hires resize: 0x0, Hires upscaler: Latent").hires is None


def test_a_lora_chosen_in_the_form_gets_a_tag_with_both_strengths() -> None:
    ink = lora_ref("ink", "11")
    for te, tag in ((None, "<lora:ink:0.8>"), (0.8, "<lora:ink:0.8>"), (0.0, "<lora:ink:0:0.8>")):
        info = describe(job(loras=(ink.model_copy(update={"text_encoder_strength": te}),)), 1)
        assert info.prompt == f"a red house {tag}"
        apart = te if te != 0.8 else None
        assert read(write(info)).loras == [UsedLora("ink", 0.8, "0123456789ab", apart)]


def test_nothing_private_is_written() -> None:
    start = StartPicture(file=blob("44", "holiday of Ann.png"), mask=blob("55", "mask of Ann.png"))
    base = checkpoint().model_copy(update={"model_version_id": 987654})
    lora = lora_ref("ink", "11").model_copy(update={"title": "Ann's ink", "model_version_id": 987654})
    text = write(describe(job(base=base, loras=(lora,), start=start, hires=Hires()), 1))
    for private in ("Ann", "987654", "blobs/", "44444444", "Civitai resources"):
        assert private not in text


def test_a_picture_without_a_prompt_begins_with_its_settings() -> None:
    assert write(describe(job(prompt=""), 1)).startswith("Steps: 2, Sampler: ")
    assert write(describe(job(prompt="", negative_prompt="dark"), 1)).startswith(
        "Negative prompt: dark\nSteps"
    )


def test_what_is_written_is_read_again() -> None:
    info = describe(full_job(), 123)
    again = read(write(info))
    assert again == info
    assert (again.steps, again.seed, again.cfg_scale, again.clip_skip) == (2, 123, 6.5, 2)
    assert (again.size, again.sampler, again.model) == ((64, 96), "DPM++ 2M Karras", "Little base")
    assert again.model_hash == "ababababab"
    assert again.loras == [UsedLora("ink", 0.5, "0123456789ab"), UsedLora("oil-2.b", 1.0, "ba9876543210")]


@pytest.mark.parametrize("name", ['Tuscany, "evening": v2', "a\nb", "{braces}", "[x", "plain"])
@pytest.mark.parametrize(
    "prompt", ["", "one", "many\n\nlines, of: text", 'Steps: 5, "quoted"', "(x:1.3) \\(y\\)"]
)
def test_awkward_names_and_prompts_survive(name: str, prompt: str) -> None:
    info = describe(job(base=checkpoint(name=name), prompt=prompt), 1)
    assert read(write(info)) == info


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (7, "7"),
        (7.0, "7"),
        (7.5, "7.5"),
        (0.8, "0.8"),
        (-1.0, "-1"),
        (0.00001, "0.00001"),
        (0.0, "0"),
        (100, "100"),
    ],
)
def test_numbers_are_written_plainly(number: float, expected: str) -> None:
    assert plain(number) == expected


def test_real_a1111_text() -> None:
    info = read(A1111)
    assert info.prompt == "<lora:Pecha_Swords_LORA_V1.2:1>, axe, highly detailed, sharp focus"
    assert info.negative_prompt == ""
    assert (info.steps, info.sampler, info.cfg_scale, info.seed) == (28, "DPM++ 2S a", 16.0, 2527192005)
    assert (info.size, info.model_hash, info.model) == (
        (512, 512),
        "fc2511737a",
        "chilloutmix_NiPrunedFp32Fix",
    )
    assert info.loras == [UsedLora("Pecha_Swords_LORA_V1.2", 1.0, "f4c3c4a69a0e")]
    assert write(info) == A1111


def test_split_sampler_of_newer_versions_is_joined() -> None:
    info = read("x\nSteps: 5, Sampler: DPM++ 2M SDE, Schedule type: Exponential, Seed: 1")
    assert info.sampler == "DPM++ 2M SDE Exponential"
    assert read("x\nSteps: 5, Sampler: Euler a, Schedule type: Automatic, Seed: 1").sampler == "Euler a"


def test_civitais_json_keys() -> None:
    info = read(
        "x\nSteps: 5, Sampler: Euler, Seed: 1, "
        'Hashes: {"model": "ABCDEF0123", "lora:ink": "0123456789", "vae": 7}, '
        'Civitai resources: [{"type":"lora","weight":1}, {"nested":{"a":[1,2]}}], Civitai metadata: {}'
    )
    assert info.model_hash == "abcdef0123"
    assert info.loras == [UsedLora("ink", 1.0, "0123456789")]
    assert json.loads(info.settings["Civitai resources"])[1] == {"nested": {"a": [1, 2]}}
    assert info.settings["Civitai metadata"] == "{}"


def test_a_text_of_words_alone_is_a_prompt() -> None:
    assert read("a house, note: red") == Infotext("a house, note: red", "", {})
    assert read("") == Infotext()


def test_missing_keys_are_none_and_clip_skip_is_one() -> None:
    info = read("x\nSteps: many, Size: big, Seed: 1e9, Model hash: xyz, CFG scale: nan")
    assert (info.steps, info.size, info.seed, info.model_hash, info.cfg_scale) == (None,) * 5
    assert (info.clip_skip, info.sampler, info.model, info.loras) == (1, None, None, [])


@pytest.mark.parametrize(
    "hostile",
    [
        "a:" * 40000,
        'Steps: "' + "\\" * 65000,
        "Steps: " + "{" * 60000,
        "Steps: " + "[" * 60000,
        'k: "' * 16000,
        "x, " * 20000,
        " " * 65000 + "x",
        "a b " * 16000,
        "k: [1," * 10000,
    ],
)
@pytest.mark.timeout(60)  # an unbounded expression would need hours
def test_hostile_texts_end(hostile: str) -> None:
    info = read(f"house\nSteps: 1, Sampler: Euler, Seed: 2, {hostile}")
    assert (info.prompt, info.steps, info.seed) == ("house", 1, 2)
    assert read(hostile + "\nSteps: 3").prompt.startswith(hostile.strip()[:20])


def test_hashes_that_are_no_object_say_nothing() -> None:
    for text in ("[1]", "{bad", "7", '"x"', "[" * 5000):
        assert Infotext(settings={"Hashes": text}).hashes == {}


def test_only_the_first_64_kib_are_looked_at() -> None:
    assert len(read("x" * 200_000).prompt) == infotext.MAX_TEXT
    picture = Image.open(io.BytesIO(embed_png(Image.new("RGB", (8, 8)), "x" * 200_000)))
    assert len(find_text(picture) or "") == infotext.MAX_TEXT


@pytest.mark.parametrize("text", ["a house\nSteps: 1", "Città sul colle — 夕方\nSteps: 1"])
def test_a_png_carries_its_text(text: str) -> None:
    original = Image.effect_noise((16, 16), 50).convert("RGB")
    png = embed_png(original, text)
    picture = Image.open(io.BytesIO(png))
    assert find_text(picture) == text
    assert picture.tobytes() == original.tobytes()
    assert [key for key, value in picture.info.items() if isinstance(value, str)] == ["parameters"]
    assert (b"tEXtparameters\0" in png) is text.isascii()


def exif(raw: bytes, kind: str) -> Image.Image:
    tags = Image.Exif()
    tags.get_ifd(0x8769)[0x9286] = raw
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, kind, exif=tags.tobytes())
    return Image.open(io.BytesIO(buffer.getvalue()))


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "AVIF"])
@pytest.mark.parametrize(
    "raw",
    [
        b"UNICODE\0" + "città, (x:1.2)\nSteps: 1".encode("utf-16-be"),
        b"UNICODE\0" + "città, (x:1.2)\nSteps: 1".encode("utf-16-le"),
        b"ASCII\0\0\0" + "città, (x:1.2)\nSteps: 1".encode(),
        b"\0" * 8 + "città, (x:1.2)\nSteps: 1".encode(),
        "città, (x:1.2)\nSteps: 1".encode(),
    ],
)
def test_exif_comments_of_either_byte_order(kind: str, raw: bytes) -> None:
    assert find_text(exif(raw, kind)) == "città, (x:1.2)\nSteps: 1"


def test_utf8_in_a_latin1_chunk_is_repaired() -> None:
    chunks = PngImagePlugin.PngInfo()
    chunks.add(b"tEXt", b"parameters\0" + "夕方".encode())
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "PNG", pnginfo=chunks)
    assert find_text(Image.open(io.BytesIO(buffer.getvalue()))) == "夕方"


def test_pictures_without_data_and_with_damaged_exif_say_nothing() -> None:
    assert find_text(Image.new("RGB", (8, 8))) is None
    for raw in (b"", b"UNICODE\0", b"\0" * 8):
        assert find_text(exif(raw, "JPEG")) is None
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff" + b"\x69\x87" * 20)
    with pytest.warns(UserWarning, match="Corrupt EXIF"):
        picture = Image.open(io.BytesIO(buffer.getvalue()))
    assert find_text(picture) is None
