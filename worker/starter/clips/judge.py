"""The judge: a small 3-D CNN that reads a clip's thing, colour, ground, light and motion.

Trained on clips that the generator's training did not hold, some of them through the autoencoder, so
that it judges what a clip shows and not how it was made.
"""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLWan
from safetensors.torch import load_file, save_file
from torch import nn

from worker.starter.clips.data import Clips, to_frames, to_tensor
from worker.starter.clips.scenes import COLOURS, GROUNDS, MOTIONS, THINGS, TIMES, MovingScene
from worker.starter.muon import Optimizers, split_parameters
from worker.starter.progress import rate_share

CHOICES: dict[str, tuple[str, ...]] = {
    "thing": THINGS,
    "motion": MOTIONS,
    "colour": COLOURS,
    "ground": GROUNDS,
    "time": TIMES,
}
_BATCH = 32
_EVERY = 2
"""Every second frame is looked at."""


def _layer(inputs: int, outputs: int, stride: tuple[int, int, int]) -> nn.Sequential:
    convolution = nn.Conv3d(inputs, outputs, 3, stride, 1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm3d(outputs), nn.ReLU())


class ClipClassifier(nn.Module):
    """0.2 M parameters; takes clips (n, 3, 17, 64, 64) in -1..1."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _layer(12, 32, (1, 2, 2)),
            _layer(32, 48, (1, 2, 2)),
            _layer(48, 64, (2, 1, 1)),
            _layer(64, 64, (1, 2, 2)),
            _layer(64, 64, (2, 1, 1)),
        )
        self.heads = nn.ModuleDict({name: nn.Linear(128, len(choices)) for name, choices in CHOICES.items()})

    def features(self, clips: torch.Tensor) -> torch.Tensor:
        """(n, 128): means and maxima of the last layer over space and time."""
        count, _, frames, height, width = clips[:, :, ::_EVERY].shape
        patches = clips[:, :, ::_EVERY].reshape(count, 3, frames, height // 2, 2, width // 2, 2)
        patches = patches.permute(0, 1, 4, 6, 2, 3, 5).reshape(count, 12, frames, height // 2, width // 2)
        maps = self.body(patches)
        return torch.cat([maps.mean(dim=(2, 3, 4)), maps.amax(dim=(2, 3, 4))], dim=1)

    def forward(self, clips: torch.Tensor) -> dict[str, torch.Tensor]:
        """Logits (n, choices) per attribute."""
        features = self.features(clips)
        return {name: head(features) for name, head in self.heads.items()}


def attribute_numbers(scenes: list[MovingScene]) -> dict[str, torch.Tensor]:
    """Class numbers (n,) per attribute."""
    return {
        name: torch.tensor([choices.index(getattr(scene, name)) for scene in scenes])
        for name, choices in CHOICES.items()
    }


@torch.no_grad()
def right_answers(
    classifier: ClipClassifier, clips: Clips, scenes: list[MovingScene]
) -> dict[str, torch.Tensor]:
    """Per attribute, which clips (n,) show what their scene says."""
    logits: dict[str, list[torch.Tensor]] = {name: [] for name in CHOICES}
    for start in range(0, len(clips), 50):
        for name, values in classifier(to_tensor(clips[start : start + 50])).items():
            logits[name].append(values.argmax(1))
    numbers = attribute_numbers(scenes)
    return {name: torch.cat(found) == numbers[name] for name, found in logits.items()}


def load_classifier(path: Path) -> ClipClassifier:
    """The judge in float32, ready to use."""
    classifier = ClipClassifier()
    classifier.load_state_dict(
        {name: tensor.float() for name, tensor in load_file(path).items()}, strict=False
    )
    return classifier.eval()


@torch.no_grad()
def _through_vae(vae: AutoencoderKLWan, clips: Clips) -> Clips:
    parts = []
    for start in range(0, len(clips), 10):
        latents = vae.encode(to_tensor(clips[start : start + 10])).latent_dist.sample()
        parts.append(to_frames(vae.decode(latents).sample))
    return np.concatenate(parts)


def _disturb(clips: torch.Tensor) -> torch.Tensor:
    """Noise and brightness, so that no answer hangs on single pixels."""
    gain = 1 + 0.08 * torch.randn(len(clips), 1, 1, 1, 1)
    return clips * gain + torch.randn_like(clips) * 0.06 * torch.rand(len(clips), 1, 1, 1, 1)


def train_classifier(
    vae: AutoencoderKLWan, clips: Clips, scenes: list[MovingScene], path: Path, steps: int = 700
) -> ClipClassifier:
    """Trains the judge and writes its fp16 weights (0.7 MB)."""
    torch.manual_seed(7)
    rng = np.random.default_rng(7)
    decoded = _through_vae(vae, clips[:300])
    numbers = attribute_numbers([*scenes, *scenes[:300]])
    classifier = ClipClassifier()
    inner, other = split_parameters(classifier, ("body.0", "heads"))
    optimizers = Optimizers(inner, other, muon=5e-3, adam=2e-3)
    for step in range(steps):
        chosen = rng.integers(0, len(clips) + len(decoded), _BATCH)
        batch = np.stack([clips[i] if i < len(clips) else decoded[i - len(clips)] for i in chosen])
        logits = classifier(_disturb(to_tensor(batch)))
        losses = [F.cross_entropy(logits[name], wanted[chosen]) for name, wanted in numbers.items()]
        loss = torch.stack(losses).sum()
        loss.backward()
        optimizers.step(rate_share(step / steps, step))
        if step % 50 == 0:
            print(f"judge {step} loss {loss:.3f}", flush=True)
    state = {name: value.half().contiguous() for name, value in classifier.state_dict().items()}
    save_file(state, path)
    return load_classifier(path)
