"""How a picture looks while it is drawn: small, rough and cheap, straight from the latents.

Colours are a linear function of the latents, near enough. For Stable Diffusion 1 and XL its numbers are
well known; for every other VAE they are fitted once, on a picture of coloured patches. Of clips the
middle is shown.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from app.contract.events import Preview
from worker.families.latent_unet import encode_posterior
from worker.inference.clip_models import clip_model

NAME = "preview.jpg"
LONGEST_SIDE = 256
PERIOD = 1.0
"""Seconds from one preview of a picture to the next, and to the first one."""
LARGEST_SHARE = 0.02
"""Of the time, that previews may take."""
KNOWN = {
    0.18215: (
        (0.298, 0.207, 0.208),
        (0.187, 0.286, 0.173),
        (-0.158, 0.189, 0.264),
        (-0.184, -0.271, -0.473),
        (0.0, 0.0, 0.0),
    ),
    0.13025: (
        (0.392, 0.4054, 0.4549),
        (-0.2634, -0.0196, 0.0653),
        (0.0568, 0.1687, -0.0755),
        (-0.3112, -0.2359, -0.2076),
        (0.0, 0.0, 0.0),
    ),
}
"""Red, green and blue (-1…1) of each latent channel, and what is added; by the scale of the latents."""
PATCHES, PATCH = 16, 8
_fitted: WeakKeyDictionary[Any, Tensor] = WeakKeyDictionary()


class Previewer:
    """Leaves previews in `folder` and tells of them: every PERIOD at most, for LARGEST_SHARE of the time."""

    def __init__(
        self,
        pipe: Any,
        folder: Path,
        report: Callable[[Preview], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pipe, self._folder, self._report, self._clock = pipe, folder, report, clock
        self._index: int | None = None
        self._next = 0.0

    def look(self, index: int, meant: Callable[[], Tensor]) -> None:
        """Called after each call of the model; `meant` makes the latents of picture `index` so far."""
        now = self._clock()
        if index != self._index:
            self._index, self._next = index, max(self._next, now + PERIOD)
        if now < self._next:
            return
        colours_of(self._pipe)  # the first time this takes longer, and then never again
        begin = self._clock()
        part = self._folder / f"{NAME}.part"
        rough(self._pipe, meant()).save(part, "JPEG", quality=80)
        part.replace(self._folder / NAME)
        self._report(Preview(index=index, path=NAME))
        end = self._clock()
        self._next = end + max(PERIOD, (end - begin) / LARGEST_SHARE)


@torch.no_grad()
def rough(pipe: Any, latents: Tensor) -> Image.Image:
    """Latents [1, C, h, w] or [1, C, t, h, w] → a small picture, its longer side LONGEST_SIDE pixels or the
    picture's own."""
    colours = colours_of(pipe)
    if latents.dim() == 5:
        latents = latents[:, :, latents.shape[2] // 2]
    own = latents[0].float().cpu()
    pixels = torch.einsum("chw,cr->hwr", own, colours[:-1]) + colours[-1]
    levels = ((pixels.nan_to_num() / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)
    image = Image.fromarray(levels.numpy())
    full = [side * _factor(pipe) for side in image.size]
    scale = min(1.0, LONGEST_SIDE / max(full))
    return image.resize((max(1, round(full[0] * scale)), max(1, round(full[1] * scale))))


def colours_of(pipe: Any) -> Tensor:
    """The linear function from scaled latents to colours in -1…1: [C + 1, 3], the last row is added."""
    vae = pipe.vae
    if vae not in _fitted:
        known = KNOWN.get(vae.config.scaling_factor) if _is_old(vae) else None
        _fitted[vae] = torch.tensor(known) if known else _fit(pipe)
    return _fitted[vae]


def _is_old(vae: Any) -> bool:
    return vae.config.get("latent_channels") == 4


def _draws_clips(pipe: Any) -> bool:
    return getattr(pipe, "transformer", None) is not None


def _factor(pipe: Any) -> int:
    """Pixels a latent, along one side."""
    return int(clip_model(pipe).sizes.scale if _draws_clips(pipe) else pipe.vae_scale_factor)


def _encoded(pipe: Any, pixels: Tensor) -> Tensor:
    """One picture's latents [C, h, w], on the CPU."""
    if _draws_clips(pipe):
        return clip_model(pipe).encode(pixels[:, :, None])[0, :, 0].float().cpu()
    return encode_posterior(pipe.vae, pixels.to(pipe.vae.device)).mean[0].float().cpu()


@torch.no_grad()
def _fit(pipe: Any) -> Tensor:
    """Least squares over patches of random colours, hard ones on smooth ones."""
    drawn = torch.Generator().manual_seed(0)
    smooth = torch.rand((1, 3, 4, 4), generator=drawn)
    hard = torch.rand((1, 3, PATCHES, PATCHES), generator=drawn)
    side = PATCHES * max(PATCH, _factor(pipe))
    picture = F.interpolate(smooth, (side, side), mode="bilinear") * 0.6
    picture = (picture + F.interpolate(hard, (side, side)) * 0.4) * 2 - 1
    latents = _encoded(pipe, picture)
    colours = F.avg_pool2d(picture, side // latents.shape[-1])[0].flatten(1).T
    rows = torch.cat([latents.flatten(1).T, torch.ones(len(colours), 1)], dim=1)
    # a little ridge: channels that patches do not move must not get wild factors
    square = rows.T @ rows + 1e-3 * len(rows) * torch.eye(rows.shape[1])
    return torch.linalg.solve(square, rows.T @ colours)
