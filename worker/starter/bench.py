"""What a LoRA of the example set must do: 64 fixed (prompt, seed) pairs, with and without.

    python -m worker.starter.bench --lora TUSCAN.safetensors [--other OTHER.safetensors]

With the LoRA the pictures must come 30 % nearer to fifteen unseen scenes of the style,
show what the prompts say nearly as often, and a LoRA of another style must not be nearer.
"""

import argparse
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

import torch
from diffusers import StableDiffusionPipeline
from PIL import Image

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
from worker.starter.pipeline import load_pipeline, picture_grid, sample
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


@dataclass(frozen=True)
class Measured:
    """Pictures of one pipeline, their distance to the style, their share of right attributes."""

    distance: float
    accuracy: float
    pictures: list[Image.Image]


def measure(pipeline: StableDiffusionPipeline, judge: SceneClassifier, trigger: str) -> Measured:
    """Draws the 64 pictures and compares them with unseen scenes of the style."""
    scenes = bench_scenes()
    prompts = [bench_prompt(scene, trigger) for scene in scenes]
    pictures = sample(pipeline, prompts, [scene.seed for scene in scenes])
    pixels = pictures_to_tensor(pictures)
    wanted = to_tensor(draw_scenes(unseen_style_scenes()))
    right = right_answers(judge, pixels, scenes)
    accuracy = torch.stack([right[name].float().mean() for name in _ACCURACY_OF]).mean()
    return Measured(style_distance(judge, pixels, wanted), float(accuracy), pictures)


@dataclass(frozen=True)
class Comparison:
    """The same prompts and seeds without a LoRA, with it, and with one of another style."""

    without: Measured
    ours: Measured
    other: Measured | None

    @property
    def nearer(self) -> float:
        """Part of the distance that the LoRA takes away; below 0 it is farther."""
        return 1 - self.ours.distance / self.without.distance

    @property
    def lost(self) -> float:
        """Accuracy lost, 0-1."""
        return self.without.accuracy - self.ours.accuracy

    @property
    def passed(self) -> bool:
        """Whether the LoRA does what the bench asks for."""
        other_is_farther = self.other is None or self.other.distance >= self.ours.distance
        return self.nearer >= NEARER and self.lost <= LOST_POINTS and other_is_farther

    def grid(self, columns: int = 8) -> Image.Image:
        """One row a pipeline, the first prompts of the bench in columns."""
        rows = [self.without, self.ours, *([self.other] if self.other else [])]
        return picture_grid([picture for row in rows for picture in row.pictures[:columns]], columns=columns)


def compare(lora: Path, other: Path | None, *, trigger: str, weights: Path = WEIGHTS) -> Comparison:
    """Runs the bench on one adapter, and on a second one of another style."""
    judge = load_classifier(JUDGE)

    def with_lora(file: Path) -> Measured:
        pipeline = load_pipeline(weights)
        pipeline.load_lora_weights(file)
        return measure(pipeline, judge, trigger)

    without = measure(load_pipeline(weights), judge, trigger)
    return Comparison(without, with_lora(lora), with_lora(other) if other else None)


def main() -> int:
    """Reads the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="worker.starter.bench")
    parser.add_argument("--lora", type=Path, required=True)
    parser.add_argument("--other", type=Path)
    parser.add_argument("--trigger", default="tuscafternoon")
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    found = compare(arguments.lora, arguments.other, trigger=arguments.trigger, weights=arguments.weights)
    print(f"nearer by {found.nearer:.1%}, accuracy lost {found.lost:.1%}, passed: {found.passed}")
    return 0 if found.passed else 1


if __name__ == "__main__":
    sys.exit(main())
