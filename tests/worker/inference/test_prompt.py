"""The prompt grammar of A1111: weights, escapes, BREAK, LoRA tags."""

import subprocess
import sys

import pytest

from worker.inference.prompt import DEEPEST, HEAVIEST, LoraTag, Run, parse_weights, read_prompt


def weights(text: str) -> list[tuple[str, float]]:
    [part] = parse_weights(text)
    return [(run.text, round(run.weight, 6)) for run in part]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a house", [("a house", 1.0)]),
        ("a (red) house", [("a ", 1.0), ("red", 1.1), (" house", 1.0)]),
        ("((red))", [("red", 1.21)]),
        ("(((red)))", [("red", 1.331)]),
        ("[red]", [("red", 0.909091)]),
        ("[[red]]", [("red", 0.826446)]),
        ("(red:1.3)", [("red", 1.3)]),
        ("(red: 0.5 )", [("red", 0.5)]),
        ("(red:.5)", [("red", 0.5)]),
        ("(red:-1)", [("red", -1.0)]),
        ("(a (red:1.3) house)", [("a ", 1.1), ("red", 1.43), (" house", 1.1)]),
        ("(a [red] house:2)", [("a ", 2.0), ("red", 1.818182), (" house", 2.0)]),
        ("[(red)]", [("red", 1.0)]),
        (r"a \(red\) house", [("a (red) house", 1.0)]),
        (r"\[x\] \\", [("[x] \\", 1.0)]),
        (r"(red\):1.5)", [("red)", 1.5)]),
        ("(red", [("red", 1.1)]),
        ("a ((red", [("a ", 1.0), ("red", 1.21)]),
        ("[red", [("red", 0.909091)]),
        ("red)", [("red)", 1.0)]),
        ("red:1.3)", [("red:1.3)", 1.0)]),
        ("(red]", [("red]", 1.1)]),
        ("[red:1.3)", [("red:1.3)", 0.909091)]),
        ("12:30, Big Ben", [("12:30, Big Ben", 1.0)]),
        ("(red:warm)", [("red:warm", 1.1)]),
        ("(red:1.2.3)", [("red:1.2.3", 1.1)]),
        ("(red:99999)", [("red", HEAVIEST)]),
        ("a\nb", [("a\nb", 1.0)]),
        ("(a [b) c]", [("a ", 1.1), ("b", 1.0), (" c", 0.909091)]),
        (
            "a (((house:1.3)) [on] a (hill:0.5), sun, (((sky))).",
            [
                ("a ", 1.0),
                ("house", 1.573),
                (" ", 1.1),
                ("on", 1.0),
                (" a ", 1.1),
                ("hill", 0.55),
                (", sun, ", 1.1),
                ("sky", 1.4641),
                (".", 1.1),
            ],
        ),
    ],
)
def test_weights(text: str, expected: list[tuple[str, float]]) -> None:
    assert weights(text) == expected


@pytest.mark.parametrize("text", ["", "   ", "()", "(:1.5)", "BREAK", "BREAK BREAK"])
def test_nothing_to_say_is_one_empty_part(text: str) -> None:
    assert parse_weights(text) == [[]]


def test_break_starts_a_part_also_inside_brackets() -> None:
    assert parse_weights("a BREAK b") == [[Run("a ")], [Run(" b")]]
    inside = parse_weights("(a BREAK b:1.5)")
    assert [[(run.text, run.weight) for run in part] for part in inside] == [[("a ", 1.5)], [(" b", 1.5)]]


def test_break_is_a_word_of_its_own_in_capitals() -> None:
    assert parse_weights("BREAKFAST, break") == [[Run("BREAKFAST, break")]]


@pytest.mark.parametrize(
    ("tag", "expected"),
    [
        ("<lora:ink:0.8>", LoraTag("ink", 0.8, 0.8)),
        ("<lora:ink>", LoraTag("ink", 1.0, 1.0)),
        ("<lora:ink:0.5:0.9>", LoraTag("ink", text_encoder=0.5, unet=0.9)),
        ("<lora:ink:te=0.5:unet=0.9>", LoraTag("ink", text_encoder=0.5, unet=0.9)),
        ("<lora:ink:unet=0.9>", LoraTag("ink", text_encoder=1.0, unet=0.9)),
        ("<lora:ink:te=0.5>", LoraTag("ink", text_encoder=0.5, unet=0.5)),
        ("<lora:ink:unet=0.9:0.5>", LoraTag("ink", text_encoder=0.5, unet=0.9)),
        ("<lora:ink:1:0.5:13>", LoraTag("ink", text_encoder=1.0, unet=0.5)),
        ("<lora:ink:0.5:dyn=13>", LoraTag("ink", text_encoder=0.5, unet=0.5)),
        ("<LORA:ink_v1.2-b:-.5>", LoraTag("ink_v1.2-b", -0.5, -0.5)),
        ("<lyco:ink:1>", LoraTag("ink", 1.0, 1.0)),
    ],
)
def test_lora_tags(tag: str, expected: LoraTag) -> None:
    prompt = read_prompt(f"a house {tag}, red")
    assert prompt.loras == (expected,)
    assert prompt.text == "a house , red"
    assert prompt.ignored == ()


@pytest.mark.parametrize(
    "tag", ["<hypernet:x:1>", "<lora:ink:strong>", "<lora:ink:lbw=1,2>", "<lora: :1>", "<lora:ink:1e9>"]
)
def test_tags_without_meaning_are_cut_out_and_named(tag: str) -> None:
    prompt = read_prompt(f"{tag} a house")
    assert prompt.text == "a house"
    assert prompt.ignored == (tag,)
    assert prompt.loras == ()


def test_of_one_name_twice_the_last_wins() -> None:
    prompt = read_prompt("<lora:a:1> <lora:b:1> <lora:a:0.5>")
    assert prompt.loras == (LoraTag("b", 1.0, 1.0), LoraTag("a", 0.5, 0.5))


@pytest.mark.parametrize("text", ["a < b > c", "<lora>", "<lora:", "<3 hearts>", "<lora:a<b:1>"])
def test_other_angle_brackets_are_text(text: str) -> None:
    assert read_prompt(text).text == text


@pytest.mark.parametrize(
    "text", ["(a" * 20000, "(" * 60000, "[a:" * 20000, "(a:1.5)" * 9000, "<lora:" * 10000, "\\" * 60000]
)
@pytest.mark.timeout(60)  # a quadratic reader would need many minutes
def test_hostile_prompts_are_read_to_their_end(text: str) -> None:
    read = "".join(run.text for part in parse_weights(read_prompt(text).text) for run in part)
    assert read.count("a") == text.count("a")


def test_brackets_deeper_than_the_limit_are_text() -> None:
    [[run]] = parse_weights("(" * (DEEPEST + 2) + "x")
    assert run.text == "((x"


def test_reader_needs_no_torch() -> None:
    code = "import sys, worker.inference.prompt, worker.inference.infotext; print('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"
