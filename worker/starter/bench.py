"""What a LoRA of the example set must do: 64 fixed (prompt, seed) pairs, with and without.

    python -m worker.starter.bench --lora TUSCAN.safetensors [--other OTHER.safetensors]

With the LoRA the pictures must come 30 % nearer to fifteen unseen scenes of the style,
show what the prompts say nearly as often, and a LoRA of another style must not be nearer.
"""

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from random import Random

import torch
from diffusers import StableDiffusionPipeline

from worker.starter import WEIGHTS
from worker.starter.classifier import (
    SceneClassifier,
    load_classifier,
    pictures_to_tensor,
    right_answers,
    style_distance,
)
from worker.starter.data import draw_scenes, to_tensor
from worker.starter.evaluate import JUDGE
from worker.starter.example_set import example_scenes, unseen_style_scenes
from worker.starter.pipeline import load_pipeline, sample
from worker.starter.scenes import COLOURS, THINGS, Scene, scene_tags

PAIRS = 64
NEARER = 0.30
LOST_POINTS = 0.10
_ACCURACY_OF = ("thing", "colour", "ground", "time")


def bench_scenes() -> list[Scene]:
    """Scenes like the set's, with other things and colours; the seed is the picture's."""
    rng = Random(64)
    return [
        replace(
            rng.choice(example_scenes()),
            thing=rng.choice(THINGS),
            colour=rng.choice(COLOURS),
            count=1,
            seed=1000 + index,
        )
        for index in range(PAIRS)
    ]


def bench_prompt(scene: Scene, trigger: str) -> str:
    """The trigger, then the scene without its style's name."""
    return ", ".join([trigger, *scene_tags(scene)[:-1]] if trigger else scene_tags(scene)[:-1])


def measure(pipeline: StableDiffusionPipeline, judge: SceneClassifier, trigger: str) -> dict[str, float]:
    """Distance to the unseen scenes of the style, and the share of right attributes."""
    scenes = bench_scenes()
    prompts = [bench_prompt(scene, trigger) for scene in scenes]
    pictures = pictures_to_tensor(sample(pipeline, prompts, [scene.seed for scene in scenes]))
    wanted = to_tensor(draw_scenes(unseen_style_scenes()))
    right = right_answers(judge, pictures, scenes)
    accuracy = torch.stack([right[name].float().mean() for name in _ACCURACY_OF]).mean()
    return {"distance": style_distance(judge, pictures, wanted), "accuracy": float(accuracy)}


def verdict(without: dict[str, float], with_lora: dict[str, float], other: dict[str, float] | None) -> bool:
    """Whether the LoRA does what the bench asks for."""
    nearer = with_lora["distance"] <= (1 - NEARER) * without["distance"]
    kept = with_lora["accuracy"] >= without["accuracy"] - LOST_POINTS
    return nearer and kept and (other is None or other["distance"] >= with_lora["distance"])


def _with_lora(file: Path, judge: SceneClassifier, trigger: str, weights: Path) -> dict[str, float]:
    pipeline = load_pipeline(weights)
    pipeline.load_lora_weights(file)
    return measure(pipeline, judge, trigger)


def main() -> int:
    """Reads the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="worker.starter.bench")
    parser.add_argument("--lora", type=Path, required=True)
    parser.add_argument("--other", type=Path)
    parser.add_argument("--trigger", default="tuscan afternoon")
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    judge = load_classifier(JUDGE)
    without = measure(load_pipeline(arguments.weights), judge, arguments.trigger)
    ours = _with_lora(arguments.lora, judge, arguments.trigger, arguments.weights)
    other = None
    if arguments.other:
        other = _with_lora(arguments.other, judge, arguments.trigger, arguments.weights)
    passed = verdict(without, ours, other)
    report = {"without": without, "with": ours, "other": other, "passed": passed}
    print(json.dumps(report, indent=2))
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
