"""`./dev bench video-starter`: the quality gate of the checkpoint for clips, and the time of a clip."""

import sys
from typing import Any

import torch

from tests.bench.report import write_section
from worker.starter.clips import WEIGHTS
from worker.starter.clips.evaluate import CLIPS, FOLDER, GATE, JUDGE, evaluate, write_all
from worker.starter.clips.judge import load_classifier
from worker.starter.clips.pipeline import GUIDANCE, STEPS

SECONDS = 20.0
MEGABYTES = 16.0


def rows(report: dict[str, Any]) -> list[tuple[str, str]]:
    found = []
    for name, share in report["generated"].items():
        target = f" (target {GATE[name]:.0%})" if name in GATE else ""
        found.append(
            (f"{name}{target}", f"{share:.1%}; the judge {report['judge on unseen renders'][name]:.1%}")
        )
    return [
        *found,
        (f"one clip, warm (target {SECONDS:g} s)", f"{report['seconds for one clip']:.2f} s"),
        ("a clip in batches of 10", f"{report['seconds per clip in batches of 10']:.2f} s"),
        ("unseen scenes through the autoencoder", f"{report['vae psnr dB']:.1f} dB"),
        (f"weights and configuration (target {MEGABYTES:g} MB)", f"{report['megabytes']:.1f} MB"),
        ("all targets met", "yes" if met(report) else "no"),
    ]


def met(report: dict[str, Any]) -> bool:
    """The gate of the weights, their size, and the time of this machine."""
    small = bool(report["megabytes"] <= MEGABYTES)
    return bool(report["passed"]) and small and report["seconds for one clip"] <= SECONDS


def main(arguments: list[str]) -> None:
    if arguments:
        sys.exit("./dev bench video-starter takes no arguments.")
    torch.set_num_threads(2)
    report, clips = evaluate(WEIGHTS, load_classifier(JUDGE))
    write_all(report, clips, FOLDER)
    write_section(
        "video-starter",
        "The starter checkpoint for clips",
        "./dev bench video-starter",
        rows(report),
        text=f"{CLIPS} generated clips of 17 frames at 64 px, first tries, {STEPS} steps with CFG "
        f"{GUIDANCE:g}, read by a classifier trained on clips that the model's training did not hold.",
    )
    sys.exit(0 if met(report) else 1)
