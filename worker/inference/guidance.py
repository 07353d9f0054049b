"""What the U-Net is told at each step, and classifier-free guidance in fp32.

Prompts may change from step to step and may be several at once (`AND`). The sides of a picture run as
one batch, the negative one first; pictures never share a batch, so that each is the same alone.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from app.contract.passes import Pass
from worker.inference.conditioning import Prompted, Texts
from worker.inference.prompt import read_prompt
from worker.inference.prompt_steps import split_and, texts_by_step

Said = tuple[tuple[str, ...], str]
"""Prompts and negative prompt of one step."""


class Guide:
    """The guidance of one pass of a picture."""

    def __init__(
        self,
        pipe: Any,
        texts: Texts,
        prompts: tuple[str, str],
        cfg_scale: float,
        place: tuple[Pass, int | None],
    ) -> None:
        """`prompts` as written, positive and negative; `place`: the pass, and the steps of the one before."""
        self._unet, self._cfg_scale, (one, before) = pipe.unet, cfg_scale, place
        self._pass = one
        positive, negative = (read_prompt(text).text for text in prompts)
        wanted = split_and(positive)
        self._weights = [weight for _, weight in wanted]
        sides = [
            texts_by_step(text, one.steps, before=before)
            for text in (*(text for text, _ in wanted), negative)
        ]
        self._said: list[Said] = [(said[:-1], said[-1]) for said in zip(*sides, strict=True)]
        self._inputs = {said: self._told(texts, *said) for said in dict.fromkeys(self._said)}

    @property
    def _plain(self) -> bool:
        """A scale of 1 needs no negative pass."""
        return self._cfg_scale == 1 and self._weights == [1.0]

    def _told(self, texts: Texts, prompts: Sequence[str], negative_prompt: str) -> dict[str, Any]:
        positives, negative = texts.encode(prompts, negative_prompt)
        return unet_inputs(
            positives if self._plain else [negative, *positives], self._pass.width, self._pass.height
        )

    @torch.no_grad()
    def predict(self, latents: Tensor, timestep: Tensor, call: int) -> Tensor:
        """What the model says of `latents` [1, C, h, w] at its call number `call` (from 0), guided."""
        step = min(call * self._pass.steps // self._pass.calls, self._pass.steps - 1)
        inputs, given = self._inputs[self._said[step]], latents.to(self._unet.device, self._unet.dtype)
        if self._plain:
            only: Tensor = self._unet(given, timestep, **inputs).sample
            return only.float()
        rows = torch.cat([given] * (1 + len(self._weights)))
        without, *sides = self._unet(rows, timestep, **inputs).sample.float().chunk(len(rows))
        guided: Tensor = without
        for weight, side in zip(self._weights, sides, strict=True):
            guided = guided + (weight * self._cfg_scale) * (side - without)
        return guided


def unet_inputs(sides: Sequence[Prompted], width: int, height: int) -> dict[str, Any]:
    """What the U-Net is told besides latents and time, one row a side. SDXL hears of the size: uncut."""
    inputs: dict[str, Any] = {"encoder_hidden_states": torch.cat([side.embeddings for side in sides])}
    pooled = [side.pooled for side in sides if side.pooled is not None]
    if pooled:
        size = (height, width)
        frames = torch.tensor([(*size, 0, 0, *size)] * len(sides), device=pooled[0].device)
        inputs["added_cond_kwargs"] = {"text_embeds": torch.cat(pooled), "time_ids": frames.float()}
    return inputs
