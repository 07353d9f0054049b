"""Starting from a picture instead of noise, and drawing only a part of it anew (inpaint).

Where the mask keeps the picture, what the model means at each step is replaced by the picture itself, so
every sampler serves; at the end the kept pixels are put back, to the bit.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageFilter
from torch import Tensor

from app.contract.jobs import StartPicture
from worker.inference.errors import SettingsError
from worker.inference.levels import Levels
from worker.inference.pictures import Size, encode, fitted

Box = tuple[int, int, int, int]
"""Left, top, right, bottom."""


@dataclass(frozen=True)
class Start:
    """A picture to start from. Bright parts of `mask` (greys, any size) are drawn anew; None = everywhere."""

    picture: Image.Image
    denoise: float = 0.75
    mask: Image.Image | None = None
    mask_blur: int = 4
    mask_padding: int | None = None
    """Draw only what is masked and so many pixels around it, at full size; None = the whole picture."""


def read_start(start: StartPicture, files: Mapping[str, Path]) -> Start:
    """Open the files of a job's start. SettingsError where one is no picture."""
    if not 0 <= start.denoise <= 1:
        raise SettingsError("The denoising strength must be between 0 and 1.")
    mask = _opened(files[start.mask.sha256], "L", "The mask") if start.mask else None
    picture = _opened(files[start.file.sha256], "RGB", "The picture to start from")
    padding = None if start.mask_padding is None else max(0, start.mask_padding)
    return Start(picture, start.denoise, mask, max(0, start.mask_blur), padding)


def _opened(path: Path, mode: str, what: str) -> Image.Image:
    try:
        with Image.open(path) as image:
            return image.convert(mode)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise SettingsError(f"{what} cannot be read. Choose a PNG or JPEG file.") from error


@dataclass(frozen=True)
class Canvas:
    """A start brought to the size of the job, for all its pictures."""

    pipe: Any
    start: Start
    size: Size

    @cached_property
    def picture(self) -> Image.Image:
        return fitted(self.start.picture, self.size)

    @cached_property
    def mask(self) -> Image.Image | None:
        if self.start.mask is None:
            return None
        mask = fitted(self.start.mask, self.size)
        return mask.filter(ImageFilter.GaussianBlur(self.start.mask_blur)) if self.start.mask_blur else mask

    @cached_property
    def region(self) -> Box | None:
        """The part of the picture that is drawn; None where that is all of it."""
        if self.start.mask is None or self.start.mask_padding is None:
            return None
        box = fitted(self.start.mask, self.size).getbbox()
        return grown(box, self.start.mask_padding, self.size) if box else None

    def _enlarged(self, image: Image.Image) -> Image.Image:
        return image.resize(self.size, Image.Resampling.LANCZOS, self.region) if self.region else image

    @cached_property
    def latents(self) -> Tensor:
        """Of what is drawn over: [1, C, h, w]."""
        return encode(self.pipe, self._enlarged(self.picture))

    @cached_property
    def _drawn(self) -> Tensor | None:
        """How much of each latent is drawn anew, 0-1: [1, 1, h, w]."""
        if self.mask is None:
            return None
        shares = torch.from_numpy(np.array(self._enlarged(self.mask), dtype=np.float32))[None, None] / 255
        return F.avg_pool2d(shares, self.pipe.vae_scale_factor).to(self.latents.device)

    def hold(self, levels: Levels, predicted: Tensor, noisy: Tensor, timestep: Tensor) -> Tensor:
        """A prediction that means the picture itself where the mask keeps it."""
        if self._drawn is None:
            return predicted
        meant = torch.lerp(self.latents, levels.origin(predicted, noisy, timestep), self._drawn)
        return torch.where(self._drawn == 1, predicted, levels.prediction(meant, noisy, timestep))

    def finish(self, latents: Tensor) -> Tensor:
        """The latents at the end, the kept ones as they were."""
        if self._drawn is None:
            return latents
        return torch.where(self._drawn == 1, latents, torch.lerp(self.latents, latents, self._drawn))

    def paste(self, image: Image.Image) -> Image.Image:
        """The picture with what was drawn in its place, its own pixels where the mask keeps them."""
        if self.mask is None:
            return image
        if self.region:
            left, top, right, bottom = self.region
            part = image.resize((right - left, bottom - top), Image.Resampling.LANCZOS)
            image = self.picture.copy()
            image.paste(part, (left, top))
        return Image.composite(image, self.picture, self.mask)


def grown(box: Box, padding: int, size: Size) -> Box:
    """`box` with `padding` around it, at least, in the shape of `size`, moved until it lies within it.

    As A1111's "Only masked".
    """
    (left, top, right, bottom), (width, height) = box, size
    share = max((right - left + 2 * padding) / width, (bottom - top + 2 * padding) / height)
    wide, high = (min(side, math.ceil(side * share)) for side in size)
    x = min(max(0, (left + right - wide) // 2), width - wide)
    y = min(max(0, (top + bottom - high) // 2), height - high)
    return x, y, x + wide, y + high
