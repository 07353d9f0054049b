"""The quality gate: `python -m worker.starter.clips.evaluate`, fixed seeds, no second tries.

A judge that reads unseen renders right looks at 100 generated clips. Prints a table, writes JSON, film
strips and the covers of the model page, and ends with status 1 where a limit is missed.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import torch

from worker.inference.clip_files import poster, write_clip
from worker.starter.clips import WEIGHTS
from worker.starter.clips.data import Clips, draw_clips
from worker.starter.clips.judge import ClipClassifier, load_classifier, right_answers
from worker.starter.clips.pipeline import GUIDANCE, STEPS, film_strips, load_pipeline, sample
from worker.starter.clips.scenes import FPS, FRAMES, PIXELS, MovingScene, make_scenes, scene_prompt
from worker.starter.clips.vae import reconstruction_psnr

FOLDER = Path(__file__).parent
JUDGE = FOLDER / "judge.safetensors"
GATE = {"thing": 0.80, "motion": 0.80}
JUDGE_GATE = 0.95
CLIPS = 100
_UNSEEN_RENDERS = 500
_STRIPS = 16

Report = dict[str, Any]


def gate_scenes() -> list[MovingScene]:
    """The scenes of the gate: training did not see them."""
    return make_scenes(CLIPS, seed=100)


def _shares(right: dict[str, torch.Tensor]) -> dict[str, float]:
    return {name: round(float(hits.float().mean()), 4) for name, hits in right.items()}


def evaluate(weights: Path, judge: ClipClassifier) -> tuple[Report, Clips]:
    """The report, and the generated clips."""
    pipeline, scenes = load_pipeline(weights), gate_scenes()
    started = time.perf_counter()
    clips = sample(pipeline, [scene_prompt(scene) for scene in scenes], list(range(len(scenes))))
    seconds = (time.perf_counter() - started) / len(scenes)
    unseen = make_scenes(_UNSEEN_RENDERS, seed=200)
    report: Report = {
        "steps": STEPS,
        "guidance": GUIDANCE,
        "judge on unseen renders": _shares(right_answers(judge, draw_clips(unseen), unseen)),
        "generated": _shares(right_answers(judge, clips, scenes)),
        "vae psnr dB": round(reconstruction_psnr(pipeline.vae, draw_clips(make_scenes(40, seed=3))), 2),
        "seconds per clip in batches of 10": round(seconds, 2),
        "seconds for one clip": round(_seconds_for_one(pipeline), 2),
        "megabytes": round(sum(p.stat().st_size for p in weights.rglob("*") if p.is_file()) / 1e6, 2),
    }
    report["passed"] = _passed(report)
    return report, clips


def _seconds_for_one(pipeline: object) -> float:
    """The median of three warm clips."""
    times = []
    for seed in range(3):
        started = time.perf_counter()
        sample(pipeline, ["red boat, sailing left, beach, day"], [seed])
        times.append(time.perf_counter() - started)
    return sorted(times)[1]


def _passed(report: Report) -> bool:
    judged = report["judge on unseen renders"]
    fair = min(judged[name] for name in GATE) >= JUDGE_GATE
    return fair and all(report["generated"][name] >= limit for name, limit in GATE.items())


def print_table(report: Report) -> None:
    """One row per attribute, then the other figures."""
    print(f"{'attribute':10}{'judge':>8}{'all 100':>9}{'limit':>8}")
    for name, share in report["generated"].items():
        limit = f"{GATE[name]:.0%}" if name in GATE else "-"
        print(f"{name:10}{report['judge on unseen renders'][name]:8.1%}{share:9.1%}{limit:>8}")
    for name, value in report.items():
        if not isinstance(value, dict):
            print(f"{name}: {value}")


def cover_numbers(scenes: list[MovingScene]) -> list[int]:
    """Of each thing the first clip of the gate by day, then the first at night: one try each, all things."""
    by_day: dict[str, int] = {}
    for number, scene in enumerate(scenes):
        if scene.time == "day":
            by_day.setdefault(scene.thing, number)
    return [*by_day.values(), *[number for number, scene in enumerate(scenes) if scene.time == "night"][:1]]


def write_covers(clips: Clips, folder: Path) -> None:
    """As MP4 with posters, and a list of them."""
    folder.mkdir(parents=True, exist_ok=True)
    scenes, listed = gate_scenes(), []
    for number in cover_numbers(scenes):
        clip, name, prompt = clips[number], f"{number:02d}", scene_prompt(scenes[number])
        write_clip(folder / f"{name}.mp4", clip, FPS, "")
        (folder / f"{name}.jpg").write_bytes(poster(clip))
        facts = {"width": PIXELS, "height": PIXELS, "frames": FRAMES, "fps": FPS}
        listed.append({"file": name, "prompt": prompt, "seed": number, **facts})
    (folder / "covers.json").write_text(json.dumps(listed, indent=1) + "\n")


def write_all(report: Report, clips: Clips, folder: Path) -> None:
    """report.json, strips.png and the covers."""
    (folder / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    film_strips(clips[:_STRIPS]).save(folder / "strips.png")
    write_covers(clips, folder / "covers")


def main() -> int:
    """Reads the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="worker.starter.clips.evaluate")
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    parser.add_argument("--judge", type=Path, default=JUDGE)
    parser.add_argument("--out", type=Path, help="folder for report.json, strips.png and covers")
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    report, clips = evaluate(arguments.weights, load_classifier(arguments.judge))
    print_table(report)
    if arguments.out:
        write_all(report, clips, arguments.out)
    return 0 if report["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
