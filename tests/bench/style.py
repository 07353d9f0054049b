"""`./dev bench style`: does a LoRA of the example set draw in its style, and still what the prompt says?

Trains the example set and the same fifteen scenes in another style, each as the wizard would,
then draws 64 fixed pairs of prompt and seed without, with, and with the other LoRA.
"""

import argparse
import shutil
import sys
from pathlib import Path

import torch

from tests.bench.report import write_section
from worker import cli
from worker.starter import WEIGHTS
from worker.starter.bench import LOST_POINTS, NEARER, PAIRS, Comparison, Measured, compare
from worker.starter.example_set import STYLE, write_example_set

OUT = Path("data/bench/style")
OTHER_STYLE = "neon lines"
TRIGGERS = {STYLE: "tuscafternoon", OTHER_STYLE: "neonlines"}


def train(style: str, preset: str) -> Path:
    """A LoRA of the fifteen scenes in `style`; gives the recommended epoch's file."""
    folder = OUT / style.replace(" ", "-")
    shutil.rmtree(folder, ignore_errors=True)
    write_example_set(folder / "photos", style)
    job, files = cli.simple_job(
        {"photos": "photos", "base": str(WEIGHTS.resolve()), "name": style, "preset": preset,
         "trigger_word": TRIGGERS[style]},
        folder,
    )  # fmt: skip
    finished = cli.run(job, files, folder / "run")
    print(cli.verdict(job, finished, folder / "run"), file=sys.stderr)
    return folder / "run" / "epochs" / f"{job.output_name}-{finished.recommended_epoch:06d}.safetensors"


def rows(found: Comparison) -> list[tuple[str, str]]:
    def words(measured: Measured) -> str:
        return f"distance {measured.distance:.3f}, prompt accuracy {measured.accuracy:.1%}"

    lines = [("without a LoRA", words(found.without)), ("with the LoRA of the style", words(found.ours))]
    if found.other:
        lines.append((f"with a LoRA of another style ({OTHER_STYLE})", words(found.other)))
    return [
        *lines,
        (f"nearer (target {NEARER:.0%} or more)", f"{found.nearer:.1%}"),
        (f"accuracy lost (target {LOST_POINTS * 100:.0f} points or fewer)", f"{found.lost * 100:.1f} points"),
        ("all targets met", "yes" if found.passed else "no"),
    ]


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="./dev bench style", description=__doc__)
    parser.add_argument("--preset", default="normal", choices=("quick", "normal", "best"))
    preset = parser.parse_args(arguments).preset
    torch.set_num_threads(2)
    loras = [train(style, preset) for style in (STYLE, OTHER_STYLE)]
    found = compare(loras[0], loras[1], trigger=TRIGGERS[STYLE])
    found.grid().save(OUT / "grid.png")
    write_section(
        "style",
        f"What a LoRA of the example set does to {PAIRS} pictures",
        f"./dev bench style --preset {preset}",
        rows(found),
        text="Distance: between the scene classifier's features of the pictures and of 15 unseen scenes of "
        "the style. The same prompts and seeds each time.",
    )
    sys.exit(0 if found.passed else 1)
