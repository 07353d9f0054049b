"""Pictures of nothing in particular: clouds of noise, gradients, stripes and blots.

A fifth of the VAE's batches are these, so that it also carries what the renderer never
draws: the photographs and drawings that people train their LoRAs on.
"""

import math

import torch
import torch.nn.functional as F


def random_textures(count: int, pixels: int, rng: torch.Generator) -> torch.Tensor:
    """(count, 3, pixels, pixels) in -1..1, each a random blend of the kinds below."""
    layers = [kind(count, pixels, rng) for kind in (_noise, _noise, _gradient, _stripes, _blots)]
    weights = torch.rand(count, len(layers), 1, 1, 1, generator=rng) ** 3
    stacked = torch.stack(layers, dim=1)
    blend = (stacked * weights).sum(1) / weights.sum(1)
    contrast = 0.5 + 1.5 * torch.rand(count, 1, 1, 1, generator=rng)
    return (blend * contrast).clamp(-1, 1)


def _colours(count: int, rng: torch.Generator) -> torch.Tensor:
    return torch.rand(count, 3, 1, 1, generator=rng) * 2 - 1


def _mask_between(mask: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """Two random colours, mixed by a mask (count, 1, h, w) of 0-1."""
    first, second = _colours(len(mask), rng), _colours(len(mask), rng)
    return first + (second - first) * mask


def _noise(count: int, pixels: int, rng: torch.Generator) -> torch.Tensor:
    """Octaves of noise whose strength falls with frequency, as in photographs."""
    total = torch.zeros(count, 3, pixels, pixels)
    slope = 0.35 + 0.35 * torch.rand(count, 1, 1, 1, generator=rng)
    for octave in range(1, int(math.log2(pixels)) + 1):
        side = 2**octave
        grid = torch.randn(count, 3, side, side, generator=rng)
        grid = 0.6 * grid.mean(1, keepdim=True) * 1.7 + 0.4 * grid
        total += F.interpolate(grid, size=pixels, mode="bilinear") * slope ** (octave - 1)
    return (_colours(count, rng) * 0.5 + 0.6 * total).clamp(-1, 1)


def _coordinates(pixels: int) -> tuple[torch.Tensor, torch.Tensor]:
    line = torch.linspace(-1, 1, pixels)
    return line.view(1, 1, 1, -1), line.view(1, 1, -1, 1)


def _slopes(count: int, pixels: int, rng: torch.Generator) -> torch.Tensor:
    """Distance along a random direction, (count, 1, h, w)."""
    x, y = _coordinates(pixels)
    angle = torch.rand(count, 1, 1, 1, generator=rng) * 2 * math.pi
    return x * angle.cos() + y * angle.sin()


def _gradient(count: int, pixels: int, rng: torch.Generator) -> torch.Tensor:
    return _mask_between((_slopes(count, pixels, rng) * 0.7 + 0.5).clamp(0, 1), rng)


def _stripes(count: int, pixels: int, rng: torch.Generator) -> torch.Tensor:
    frequency = 3 + 40 * torch.rand(count, 1, 1, 1, generator=rng) ** 2
    hardness = 1 + 8 * torch.rand(count, 1, 1, 1, generator=rng)
    waves = (_slopes(count, pixels, rng) * frequency).sin() * hardness
    return _mask_between(waves.clamp(-1, 1) * 0.5 + 0.5, rng)


def _blots(count: int, pixels: int, rng: torch.Generator) -> torch.Tensor:
    """Hard-edged discs and half planes over one another."""
    x, y = _coordinates(pixels)
    picture = _colours(count, rng).expand(-1, -1, pixels, pixels)
    for _ in range(4):
        cx, cy, radius = (torch.rand(count, 1, 1, 1, generator=rng) * 2 - 1 for _ in range(3))
        distance = ((x - cx) ** 2 + (y - cy) ** 2).sqrt()
        mask = ((radius.abs() - distance) * pixels / 3).clamp(0, 1)
        picture = picture + (_colours(count, rng) - picture) * mask
    return picture
