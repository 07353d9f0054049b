"""Where texts hide in files, and that hostile ones end: whatever the bytes, an answer in bounded time."""

import gzip
import json
import random
import zlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.worker.inference.metadata.graphs import simple
from tests.worker.inference.metadata.pictures import SIGNATURE, chunk, exif_picture, png, raw_png, written
from worker.inference.metadata.infotext import MAX_TEXT
from worker.inference.metadata.reading import Found, read_file, read_picture, read_texts
from worker.inference.metadata.texts import MAX_BYTES, MAX_TOTAL, Texts, file_texts

TEXT = "a heron, (città:1.2)\nNegative prompt: 夕方\nSteps: 9, Sampler: Euler, Seed: 3, Size: 64x64"


def read_bytes(folder: Path, content: bytes) -> Found | None:
    return read_file(written(folder, content))


def check(found: Found | None) -> None:
    assert found is not None
    assert (found.tool, found.text) == ("A1111", TEXT)


def test_chunks_before_and_after_the_pixels(tmp_path: Path) -> None:
    utf8 = b"parameters\0" + TEXT.encode()
    check(read_bytes(tmp_path, png(parameters=TEXT)))
    check(read_bytes(tmp_path, raw_png(chunk(b"tEXt", utf8))))
    check(read_bytes(tmp_path, raw_png(chunk(b"zTXt", b"parameters\0\0" + zlib.compress(TEXT.encode())))))
    for packed in (b"\0\0", b"\1\0"):
        body = zlib.compress(TEXT.encode()) if packed[0] else TEXT.encode()
        international = b"parameters\0" + packed + b"en\0Parameter\0" + body
        check(read_bytes(tmp_path, raw_png(chunk(b"iTXt", international))))


def test_a_latin_chunk_and_the_first_of_two(tmp_path: Path) -> None:
    latin = chunk(b"tEXt", b"parameters\0" + "città\nSteps: 9, Sampler: Euler, Seed: 3".encode("latin-1"))
    found = read_bytes(tmp_path, raw_png(latin, chunk(b"tEXt", b"parameters\0other")))
    assert found is not None
    assert found.info.prompt == "città"


def test_a_picture_that_is_cut_off_keeps_its_text(tmp_path: Path) -> None:
    whole = png(parameters=TEXT)
    check(read_bytes(tmp_path, whole[: whole.index(b"IDAT") + 6]))


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "AVIF"])
@pytest.mark.parametrize(
    "comment",
    [
        b"UNICODE\0" + TEXT.encode("utf-16-be"),
        b"UNICODE\0" + TEXT.encode("utf-16-le"),
        b"UNICODE\0\xff\xfe" + TEXT.encode("utf-16-le"),
        b"ASCII\0\0\0" + TEXT.encode(),
        TEXT.encode(),
    ],
)
def test_exif_comments(tmp_path: Path, kind: str, comment: bytes) -> None:
    check(read_bytes(tmp_path, exif_picture(kind, comment=comment)))


def test_comfys_webp_keeps_graphs_in_exif(tmp_path: Path) -> None:
    tags = {"x010f": "workflow:{}", "x0110": f"prompt:{json.dumps(simple())}"}
    found = read_bytes(tmp_path, exif_picture("WEBP", **tags))
    assert found is not None
    assert (found.tool, found.info.seed) == ("ComfyUI", 77)


def test_fooocus_puts_the_comment_into_the_first_directory(tmp_path: Path) -> None:
    found = read_bytes(tmp_path, exif_picture("JPEG", x9286="a heron\nSteps: 9, Sampler: Euler, Seed: 3"))
    assert found is not None
    assert (found.info.prompt, found.info.seed) == ("a heron", 3)


def test_comments_of_jpeg_and_gif(tmp_path: Path) -> None:
    picture = Image.new("P", (64, 64))
    for kind in ("JPEG", "GIF"):
        picture.convert("RGB" if kind == "JPEG" else "P").save(tmp_path / "a", kind, comment=TEXT.encode())
        check(read_file(tmp_path / "a"))


def test_a_comment_that_tells_something_else_is_no_generation_data(tmp_path: Path) -> None:
    Image.new("RGB", (64, 64)).save(tmp_path / "a", "JPEG", comment=b"Made with a camera, 1: 2, 3: 4, 5: 6")
    assert read_file(tmp_path / "a") is None
    assert (
        read_bytes(tmp_path, exif_picture("JPEG", comment=b"ASCII\0\0\0my holiday", x010e="a heron")) is None
    )
    assert read_bytes(tmp_path, png(Comment="a heron", Software="Paint")) is None
    assert read_bytes(tmp_path, png(parameters={"unknown": [1]})) is None
    assert read_bytes(tmp_path, png(prompt="just words", workflow="[1]")) is None


def stealth(payload: bytes, *, kind: bytes = b"stealth_pngcomp", length: int | None = None) -> Image.Image:
    head = kind + (8 * len(payload) if length is None else length).to_bytes(4)
    bits = [byte >> n & 1 for byte in head + payload for n in range(7, -1, -1)]
    picture = Image.new("RGBA", (64, 64), (9, 9, 9, 254))
    for at, bit in enumerate(bits[: 64 * 64]):
        picture.putpixel((at // 64, at % 64), (9, 9, 9, 254 | bit))
    return picture


def test_data_in_the_lowest_bits_of_alpha(tmp_path: Path) -> None:
    novelai = json.dumps({"Software": "NovelAI", "Description": "a heron", "Comment": '{"steps": 28}'})
    packed, path = gzip.compress(TEXT.encode(), mtime=0), tmp_path / "a"
    for picture in (stealth(packed), stealth(TEXT.encode(), kind=b"stealth_pnginfo")):
        picture.save(path, "PNG")
        check(read_file(path))
    stealth(gzip.compress(novelai.encode())).save(path, "WEBP", lossless=True, exact=True)
    found = read_file(path)
    assert found is not None
    assert (found.tool, found.info.prompt, found.info.steps) == ("NovelAI", "a heron", 28)
    for broken in (stealth(packed[:-20]), stealth(packed, length=1 << 31), stealth(b"no gzip"), stealth(b"")):
        broken.save(path, "PNG")
        read_file(path)
    for silent in (stealth(packed, kind=b"stealth_other!!"), stealth(b"no gzip"), stealth(packed, length=0)):
        silent.save(path, "PNG")
        assert read_file(path) is None


def test_an_opened_picture(tmp_path: Path) -> None:
    with Image.open(written(tmp_path, png(parameters=TEXT))) as picture:
        check(read_picture(picture))
    assert read_picture(Image.new("RGB", (8, 8))) is None


def test_what_is_no_picture_has_no_data(tmp_path: Path) -> None:
    for content in (
        b"",
        b"hello",
        SIGNATURE,
        SIGNATURE + b"\0\0\0",
        b"RIFF\0\0\0\0WEBP",
        b"\xff\xd8\xff\xe1\0\x02",
    ):
        assert read_bytes(tmp_path, content) is None
    assert read_file(tmp_path / "absent") is None


@pytest.mark.timeout(60)
def test_bombs_and_endless_chunks_are_cut_short(tmp_path: Path) -> None:
    bomb = zlib.compress(b"x" * (MAX_BYTES + 1))
    found = read_bytes(
        tmp_path,
        raw_png(chunk(b"zTXt", b"parameters\0\0" + bomb), chunk(b"iTXt", b"prompt\0\1\0\0\0" + bomb)),
    )
    assert found is None
    assert (
        read_bytes(tmp_path, SIGNATURE + chunk(b"IDAT", b"") * 60_000 + chunk(b"tEXt", b"parameters\0x"))
        is None
    )
    many = [chunk(b"tEXt", b"key%d\0" % n + b"x" * (MAX_BYTES // 2)) for n in range(12)]
    kept = file_texts(written(tmp_path, raw_png(*many)))
    assert sum(len(text) for text in kept.values()) <= MAX_TOTAL
    endless = SIGNATURE + (2**31 - 1).to_bytes(4) + b"IDAT" + b"x" * 100
    assert read_bytes(tmp_path, endless) is None


def nested(depth: int) -> str:
    return '{"a":' * depth + "1" + "}" * depth


def long_values() -> dict[str, str]:
    """Every place of a text filled with something too long, too deep or of the wrong type."""
    wrong = {
        key: ["x" * 100_000, {"deep": []}, -1e300] for key in ("prompt", "seed", "steps", "sampler", "loras")
    }
    return {
        "parameters": json.dumps({"sui_image_params": wrong, "sui_models": "x"}),
        "invokeai_metadata": json.dumps(wrong | {"model": 7, "loras": [[[]], {"model": []}], "vae": "x"}),
        "sd-metadata": json.dumps({"image": {"prompt": [{"prompt": 7}, 8], "seed": "9" * 5000}}),
        "Dream": '"' + "[" * 60_000 + '" -s ' + "- " * 60_000,
        "prompt": json.dumps({str(n): {"class_type": "KSampler", "inputs": wrong} for n in range(50)}),
        "workflow": json.dumps(
            {"nodes": [7, {"type": []}, {"type": "x", "inputs": 7}], "links": [[], {"id": 1}]}
        ),
        "UserComment": json.dumps({"extraMetadata": json.dumps({"prompt": "x", "resources": [7, {}]})}),
        "xmp": "<exif:UserComment" + "<rdf:" * 20_000 + '{"c":[]}</exif:UserComment>',
        "Comment": json.dumps({"v4_prompt": {"caption": []}, "uc": 7}),
    }


@pytest.mark.timeout(120)
@pytest.mark.parametrize("keyword", [*long_values(), "nested"])
def test_values_of_the_wrong_kind_and_size(keyword: str) -> None:
    texts = Texts()
    text = nested(400_000) if keyword == "nested" else long_values()[keyword]
    texts.keep("prompt" if keyword == "nested" else keyword, text)
    texts.keep("Software", "NovelAI")
    found = read_texts(texts)
    assert found is None or len(found.text) <= MAX_TEXT


SEEDS = [
    png(parameters=TEXT),
    png(prompt=simple()),
    png(invokeai_metadata={"positive_prompt": "a", "seed": 1, "model": {"name": "x"}}),
    exif_picture("JPEG", comment=b"UNICODE\0" + TEXT.encode("utf-16-be")),
    exif_picture("WEBP", x0110=f"prompt:{json.dumps(simple())}"),
]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), which=st.integers(0, len(SEEDS) - 1), changes=st.integers(1, 40))
@example(seed=0, which=0, changes=1)
@pytest.mark.timeout(300)
def test_mutated_files_get_an_answer(tmp_path: Path, seed: int, which: int, changes: int) -> None:
    drawn = random.Random(seed)
    content = bytearray(SEEDS[which])
    for _ in range(changes):
        at = drawn.randrange(len(content))
        match drawn.randrange(3):
            case 0:
                content[at] = drawn.randrange(256)
            case 1:
                del content[at : at + drawn.randrange(8)]
            case _:
                content[at:at] = drawn.randbytes(drawn.randrange(8))
        content = content or bytearray(b"x")
    found = read_bytes(tmp_path, bytes(content))
    if found is not None:
        assert "\0" not in found.text
        found.text.encode()
        assert len(found.resources) <= 40


@settings(max_examples=300, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=20),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(
                st.sampled_from(
                    [
                        "prompt",
                        "seed",
                        "class_type",
                        "inputs",
                        "text",
                        "model",
                        "loras",
                        "image",
                        "KSampler",
                        "sui_image_params",
                    ]
                )
                | st.text(max_size=3),
                inner,
                max_size=5,
            )
        ),
        max_leaves=25,
    )
)
def test_any_json_gets_an_answer(value: object) -> None:
    """Surrogates and zero bytes that JSON can write do not come through."""
    for keyword in ("parameters", "prompt", "workflow", "invokeai_metadata", "sd-metadata", "UserComment"):
        texts = Texts()
        texts.keep(
            keyword, json.dumps(value if isinstance(value, dict) else {"prompt": value, "base_model": value})
        )
        found = read_texts(texts)
        if found is not None:
            assert "\0" not in found.text
            found.text.encode()
