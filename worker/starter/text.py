"""The text encoder, and its few minutes of schooling before the U-Net sees it.

A fresh encoder says nothing for thousands of U-Net steps. Here it first learns, from
captions alone, to tell the attributes of a scene, which costs a minute on two cores.
"""

from collections.abc import Mapping, Sequence
from random import Random

import torch
import torch.nn.functional as F
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from worker.starter.data import make_scenes
from worker.starter.scenes import (
    COLOURS,
    GROUNDS,
    STYLES,
    THINGS,
    TIMES,
    WEATHERS,
    Scene,
    training_caption,
)
from worker.starter.vocabulary import filler_tags

WIDTH = 128
_CHOICES: dict[str, tuple[str | int, ...]] = {
    "thing": THINGS,
    "colour": COLOURS,
    "count": (1, 2, 3),
    "ground": GROUNDS,
    "time": TIMES,
    "weather": WEATHERS,
    "style": STYLES,
}
UNSAID = -100
_BATCH = 64


def build_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """A fresh CLIPTextModel, 128 wide, 3 layers, 1.2 M parameters."""
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=4 * WIDTH,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=tokenizer.model_max_length,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        projection_dim=WIDTH,
    )
    return CLIPTextModel(config)


def tokenize(tokenizer: CLIPTokenizer, captions: list[str]) -> torch.Tensor:
    """Token ids (n, 77), padded with the end token as the pipeline pads them."""
    batch = tokenizer(captions, padding="max_length", truncation=True, return_tensors="pt")
    return batch.input_ids


def _targets(scenes: list[Scene], captions: list[str]) -> dict[str, torch.Tensor]:
    """Class numbers per attribute; what a caption leaves unsaid does not count."""
    targets = {}
    for name, choices in _CHOICES.items():
        numbers = []
        for scene, caption in zip(scenes, captions, strict=True):
            value = getattr(scene, name)
            said = name in ("thing", "colour", "count") or value in caption.split(", ")
            numbers.append(choices.index(value) if said else UNSAID)
        targets[name] = torch.tensor(numbers)
    return targets


class AttributeHead(nn.Module):
    """Reads each attribute of `choices` with one learned query over the token states."""

    def __init__(self, choices: Mapping[str, Sequence[str | int]]) -> None:
        super().__init__()
        self.names = tuple(choices)
        self.query = nn.Linear(WIDTH, len(choices))
        self.read = nn.ModuleList(nn.Linear(WIDTH, len(values)) for values in choices.values())

    def forward(self, states: torch.Tensor) -> dict[str, torch.Tensor]:
        """States (n, tokens, width) to logits (n, choices) per attribute."""
        weights = self.query(states).softmax(dim=1)
        pooled = torch.einsum("nta,ntw->anw", weights, states)
        return {name: read(part) for name, read, part in zip(self.names, self.read, pooled, strict=True)}


def school_text_encoder(encoder: CLIPTextModel, tokenizer: CLIPTokenizer, steps: int = 350) -> float:
    """Trains the encoder on captions alone; returns the last share of right answers."""
    torch.manual_seed(1)
    head, rng, fillers = AttributeHead(_CHOICES), Random(1), filler_tags()
    optimizer = torch.optim.AdamW([*encoder.parameters(), *head.parameters()], lr=1e-3)
    scenes = make_scenes(8000, seed=2)
    right = 0.0
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * min(1.0, (step + 1) / 50) * (1 - step / steps)
        batch = rng.sample(scenes, _BATCH)
        captions = [training_caption(scene, rng, fillers) for scene in batch]
        logits = head(encoder(tokenize(tokenizer, captions)).last_hidden_state)
        targets = _targets(batch, captions)
        losses = [
            F.cross_entropy(logits[name], target, ignore_index=UNSAID) for name, target in targets.items()
        ]
        torch.stack(losses).sum().backward()
        torch.nn.utils.clip_grad_norm_(encoder.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if step % 50 == 49:
            right = share_right(logits, targets)
            print(f"text {step + 1} right {right:.3f}", flush=True)
    return right


def share_right(logits: dict[str, torch.Tensor], targets: dict[str, torch.Tensor]) -> float:
    """Of all that captions said, how much was read right."""
    hits = [logits[n].argmax(1)[t != UNSAID] == t[t != UNSAID] for n, t in targets.items()]
    return float(torch.cat(hits).float().mean())


def caption_of(scene: Scene, rng: Random, fillers: tuple[str, ...]) -> str:
    """A training caption, empty one time in ten so that guidance has its other half."""
    return "" if rng.random() < 0.1 else training_caption(scene, rng, fillers)
