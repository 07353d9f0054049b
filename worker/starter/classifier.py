"""The judge: a small CNN that reads a picture's attributes, and whose features compare styles.

It is trained on renders of all six styles, the two unseen ones included, and on scenes
that went through the VAE, so that it judges what a picture shows and not how it was made.
"""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn

from worker.starter.data import Pixels, draw_scenes, make_scenes, to_pixels, to_tensor
from worker.starter.muon import Optimizers, split_parameters
from worker.starter.progress import rate_share
from worker.starter.scenes import (
    COLOURS,
    GROUNDS,
    STYLES,
    THINGS,
    TIMES,
    UNSEEN_STYLES,
    WEATHERS,
    Scene,
)

CHOICES: dict[str, tuple[str | int, ...]] = {
    "thing": THINGS,
    "colour": COLOURS,
    "ground": GROUNDS,
    "time": TIMES,
    "count": (1, 2, 3),
    "weather": WEATHERS,
    "style": (*STYLES, *UNSEEN_STYLES),
}
_BATCH = 48


def _layer(inputs: int, outputs: int, size: int, stride: int) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU())


class SceneClassifier(nn.Module):
    """0.4 M parameters; takes 128 px pictures (n, 3, 128, 128) in -1..1."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _layer(3, 48, 7, 4),
            _layer(48, 64, 3, 2),
            _layer(64, 96, 3, 1),
            _layer(96, 128, 3, 2),
            _layer(128, 128, 3, 1),
        )
        self.heads = nn.ModuleDict({name: nn.Linear(256, len(choices)) for name, choices in CHOICES.items()})

    def features(self, pictures: torch.Tensor) -> torch.Tensor:
        """(n, 256): means and maxima of the last layer over the picture."""
        maps = self.body(pictures.contiguous(memory_format=torch.channels_last)).float()
        return torch.cat([maps.mean(dim=(2, 3)), maps.amax(dim=(2, 3))], dim=1)

    def forward(self, pictures: torch.Tensor) -> dict[str, torch.Tensor]:
        """Logits (n, choices) per attribute."""
        features = self.features(pictures)
        return {name: head(features) for name, head in self.heads.items()}


def attribute_numbers(scenes: list[Scene]) -> dict[str, torch.Tensor]:
    """Class numbers (n,) per attribute."""
    return {
        name: torch.tensor([choices.index(getattr(scene, name)) for scene in scenes])
        for name, choices in CHOICES.items()
    }


def pictures_to_tensor(pictures: list[Image.Image]) -> torch.Tensor:
    """(n, 3, 128, 128) in -1..1; other sizes are squeezed to fit."""
    resized = [picture.convert("RGB").resize((128, 128)) for picture in pictures]
    return to_tensor(np.stack([np.asarray(picture) for picture in resized]))


@torch.no_grad()
def right_answers(
    classifier: SceneClassifier, pictures: torch.Tensor, scenes: list[Scene]
) -> dict[str, torch.Tensor]:
    """Per attribute, which pictures (n,) show what their scene says."""
    logits: dict[str, list[torch.Tensor]] = {name: [] for name in CHOICES}
    for part in pictures.split(100):
        for name, values in classifier(part).items():
            logits[name].append(values.argmax(1))
    numbers = attribute_numbers(scenes)
    return {name: torch.cat(found) == numbers[name] for name, found in logits.items()}


@torch.no_grad()
def style_distance(classifier: SceneClassifier, ours: torch.Tensor, wanted: torch.Tensor) -> float:
    """How far the mean features of two sets of pictures lie apart."""
    difference = classifier.features(ours).mean(0) - classifier.features(wanted).mean(0)
    return float(difference.norm())


def load_classifier(path: Path) -> SceneClassifier:
    """The judge in float32, ready to use."""
    classifier = SceneClassifier()
    classifier.load_state_dict({name: t.float() for name, t in load_file(path).items()}, strict=False)
    return classifier.eval()


@torch.no_grad()
def _through_vae(vae: AutoencoderKL, pixels: Pixels) -> Pixels:
    parts = []
    for start in range(0, len(pixels), 32):
        with torch.autocast("cpu", torch.bfloat16):
            latents = vae.encode(to_tensor(pixels[start : start + 32])).latent_dist.sample()
            parts.append(to_pixels(vae.decode(latents).sample))
    return np.concatenate(parts)


def _training_set(vae: AutoencoderKL, drawn: Pixels, scenes: list[Scene]) -> tuple[Pixels, list[Scene]]:
    """The base's scenes, a few of them once more through the VAE, and the unseen styles."""
    unseen = make_scenes(3000, seed=11, styles=UNSEEN_STYLES)
    held_out = make_scenes(1000, seed=12, held_out=True)
    more = draw_scenes([*unseen, *held_out])
    decoded = _through_vae(vae, np.concatenate([drawn[:400], more[:100], more[3000:3100]]))
    again = [*scenes[:400], *unseen[:100], *held_out[:100]]
    return np.concatenate([drawn, more, decoded]), [*scenes, *unseen, *held_out, *again]


def _disturb(pictures: torch.Tensor) -> torch.Tensor:
    """Noise, brightness and a little blur, so that no answer hangs on single pixels."""
    count = len(pictures)
    blurred = F.avg_pool2d(pictures, 3, 1, 1)
    pictures = torch.lerp(pictures, blurred, torch.rand(count, 1, 1, 1) * (torch.rand(count, 1, 1, 1) < 0.4))
    gain = 1 + 0.08 * torch.randn(count, 1, 1, 1)
    return pictures * gain + torch.randn_like(pictures) * 0.05 * torch.rand(count, 1, 1, 1)


def train_classifier(
    vae: AutoencoderKL, drawn: Pixels, scenes: list[Scene], path: Path, steps: int = 1500
) -> SceneClassifier:
    """Trains the judge and writes its fp16 weights (0.8 MB)."""
    torch.manual_seed(7)
    rng = np.random.default_rng(7)
    pixels, all_scenes = _training_set(vae, drawn, scenes)
    numbers = attribute_numbers(all_scenes)
    classifier = SceneClassifier().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    inner, other = split_parameters(classifier, ("body.0", "heads"))
    optimizers = Optimizers(inner, other, muon=5e-3, adam=2e-3)
    for step in range(steps):
        chosen = rng.integers(0, len(pixels), _BATCH)
        pictures = _disturb(to_tensor(pixels[chosen]))
        with torch.autocast("cpu", torch.bfloat16):
            logits = classifier(pictures)
        losses = [F.cross_entropy(logits[n].float(), t[chosen]) for n, t in numbers.items()]
        loss = torch.stack(losses).sum()
        loss.backward()
        optimizers.step(rate_share(step / steps, step))
        if step % 50 == 0:
            print(f"classifier {step} loss {loss:.3f}", flush=True)
    state = {name: value.half() for name, value in classifier.state_dict().items()}
    save_file({name: value.contiguous() for name, value in state.items()}, path)
    return load_classifier(path)
