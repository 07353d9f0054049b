"""`./dev bench starter`: the quality gate of the starter checkpoint, and the time of a picture."""

import json
import sys
from typing import Any

import torch

from tests.bench.report import write_section
from worker.starter import WEIGHTS
from worker.starter.classifier import load_classifier
from worker.starter.evaluate import GATE, JUDGE, evaluate
from worker.starter.pipeline import GUIDANCE, STEPS

SECONDS = 2.5


def rows(report: dict[str, Any]) -> list[tuple[str, str]]:
    found = []
    for name, share in report["generated"].items():
        target = f" (target {GATE[name]:.0%})" if name in GATE else ""
        judge, held = report["judge on unseen renders"][name], report["held-out combinations"][name]
        found.append(
            (f"{name}{target}", f"{share:.1%}; held-out combinations {held:.1%}; the judge {judge:.1%}")
        )
    return [
        *found,
        (f"one picture, warm (target {SECONDS} s)", f"{report['seconds for one picture']:.2f} s"),
        ("a picture in batches of 10", f"{report['seconds per picture in batches of 10']:.2f} s"),
        ("unseen scenes through the VAE", f"{report['vae psnr dB']:.1f} dB"),
        ("weights and configuration (target 32 MB)", f"{report['megabytes']:.1f} MB"),
        ("all targets met", "yes" if met(report) else "no"),
    ]


def met(report: dict[str, Any]) -> bool:
    """The gate of the weights, and the time of this machine."""
    return bool(report["passed"]) and report["seconds for one picture"] <= SECONDS


def main(arguments: list[str]) -> None:
    if arguments:
        sys.exit("./dev bench starter takes no arguments.")
    torch.set_num_threads(2)
    report, grid = evaluate(WEIGHTS, load_classifier(JUDGE), steps=STEPS, guidance=GUIDANCE)
    (JUDGE.parent / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    grid.save(JUDGE.parent / "grid.png")
    write_section(
        "starter",
        "The starter checkpoint",
        "./dev bench starter",
        rows(report),
        text=f"200 generated pictures, first tries, {STEPS} steps with CFG {GUIDANCE:g}, 50 of them of "
        "combinations kept out of training, read by a classifier that is measured on 2 000 unseen renders.",
    )
    sys.exit(0 if met(report) else 1)
