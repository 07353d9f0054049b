"""The quality gate: `python -m worker.starter.evaluate`, fixed seeds, no second tries.

A judge that reads unseen renders right looks at 200 generated pictures, 50 of them of
combinations kept out of training. Prints a table, writes JSON and the picture grid, and
ends with status 1 where a limit is missed.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import torch
from PIL import Image

from worker.starter import WEIGHTS
from worker.starter.classifier import (
    SceneClassifier,
    load_classifier,
    pictures_to_tensor,
    right_answers,
)
from worker.starter.data import draw_scenes, make_scenes, to_tensor
from worker.starter.pipeline import GUIDANCE, STEPS, load_pipeline, picture_grid, sample
from worker.starter.scenes import Scene, scene_prompt
from worker.starter.vae import reconstruction_psnr

JUDGE = Path(__file__).parent / "judge.safetensors"
GATE = {"thing": 0.90, "colour": 0.85, "ground": 0.90, "time": 0.95}
JUDGE_GATE = 0.98
_UNSEEN_RENDERS = 2000

Table = dict[str, float]


def gate_scenes(seen: int = 150, held_out: int = 50) -> list[Scene]:
    """The scenes of the gate, the held-out combinations last."""
    return [*make_scenes(seen, seed=100), *make_scenes(held_out, seed=101, held_out=True)]


def _shares(right: dict[str, torch.Tensor]) -> Table:
    return {name: round(float(hits.float().mean()), 4) for name, hits in right.items()}


def judge_the_judge(judge: SceneClassifier, count: int = _UNSEEN_RENDERS) -> Table:
    """Share of right answers per attribute on renders that it was not trained on."""
    scenes = make_scenes(count, seed=200)
    return _shares(right_answers(judge, to_tensor(draw_scenes(scenes)), scenes))


def evaluate(
    weights: Path, judge: SceneClassifier, *, steps: int, guidance: float
) -> tuple[dict, Image.Image]:
    """The report, and a grid of 40 of the pictures."""
    pipeline = load_pipeline(weights)
    scenes = gate_scenes()
    started = time.perf_counter()
    prompts = [scene_prompt(scene) for scene in scenes]
    pictures = sample(pipeline, prompts, list(range(len(scenes))), steps=steps, guidance=guidance)
    seconds = (time.perf_counter() - started) / len(scenes)
    right = right_answers(judge, pictures_to_tensor(pictures), scenes)
    report = {
        "steps": steps,
        "guidance": guidance,
        "judge on unseen renders": judge_the_judge(judge),
        "generated": _shares(right),
        "held-out combinations": _shares({name: hits[150:] for name, hits in right.items()}),
        "vae psnr dB": round(reconstruction_psnr(pipeline.vae, draw_scenes(make_scenes(200, seed=3))), 2),
        "seconds per picture in batches of 10": round(seconds, 2),
        "seconds for one picture": round(_seconds_for_one(pipeline, steps, guidance), 2),
        "megabytes": round(sum(p.stat().st_size for p in weights.rglob("*") if p.is_file()) / 1e6, 2),
    }
    report["passed"] = _passed(report)
    return report, picture_grid([*pictures[:30], *pictures[150:160]], columns=10)


def _seconds_for_one(pipeline: object, steps: int, guidance: float) -> float:
    """The median of three warm pictures."""
    times = []
    for seed in range(3):
        started = time.perf_counter()
        sample(pipeline, ["red house, snow, day"], [seed], steps=steps, guidance=guidance)
        times.append(time.perf_counter() - started)
    return sorted(times)[1]


def _passed(report: dict) -> bool:
    judged = report["judge on unseen renders"]
    fair = min(judged.values()) >= JUDGE_GATE
    return fair and all(report["generated"][name] >= limit for name, limit in GATE.items())


def print_table(report: dict) -> None:
    """One row per attribute, then the other figures."""
    print(f"{'attribute':10}{'judge':>8}{'all 200':>9}{'held out':>10}{'limit':>8}")
    for name, share in report["generated"].items():
        judge, held = report["judge on unseen renders"][name], report["held-out combinations"][name]
        limit = f"{GATE[name]:.0%}" if name in GATE else "-"
        print(f"{name:10}{judge:8.1%}{share:9.1%}{held:10.1%}{limit:>8}")
    for name, value in report.items():
        if not isinstance(value, dict):
            print(f"{name}: {value}")


def main() -> int:
    """Reads the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="worker.starter.evaluate")
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    parser.add_argument("--judge", type=Path, default=JUDGE)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--guidance", type=float, default=GUIDANCE)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--grid", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    judge = load_classifier(arguments.judge)
    report, grid = evaluate(arguments.weights, judge, steps=arguments.steps, guidance=arguments.guidance)
    print_table(report)
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=2) + "\n")
    if arguments.grid:
        grid.save(arguments.grid)
    return 0 if report["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
