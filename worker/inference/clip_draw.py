"""Drawing clips: the denoising loop of models that predict a flow, for generations and samples alike.

Clip i depends on `seeds[i]` alone. Noise comes from a CPU generator of its own, and every clip is
denoised by itself (its negative and positive pass as one batch of two). With two experts the first one
draws while there is much noise, the second one the rest.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from worker.inference.clip_files import Frames
from worker.inference.clip_models import ClipModel, Said, Seen, clip_model, plain_text
from worker.inference.errors import NotFiniteError, SettingsError
from worker.inference.flow_samplers import LEVELS, check_flow_sampler, create_flow_scheduler
from worker.inference.pictures import fitted

Look = Callable[[int, Callable[[], Tensor]], None]
"""Takes a clip's index and a function that makes the latents that the model has in mind so far."""


@dataclass(frozen=True)
class ClipRequest:
    """What to draw. Sides are pixels; `shift` None takes the checkpoint's. With `first_frame` a clip goes on
    from that picture, scaled and cut to its size. `fps` is what LTX is told of."""

    prompt: str
    negative_prompt: str
    steps: int
    cfg_scale: float
    width: int
    height: int
    frames: int
    seeds: tuple[int, ...]
    shift: float | None = None
    sampler: str = "Euler"
    first_frame: Image.Image | None = None
    fps: float | None = None
    schedule: str = "Automatic"


After = Callable[[int, Callable[[], Tensor]], None]
"""Called after each call of the model: how many of this clip are done, and what makes the latents meant."""


class _Stopped(Exception):
    """`should_stop` said so."""


def draw_clips(
    pipe: Any,
    request: ClipRequest,
    *,
    on_step: Callable[[int, int], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
    on_look: Look | None = None,
) -> Iterator[tuple[int, Frames]]:
    """Draw `len(seeds)` clips with a pipeline of Wan or LTX; yield (index, frames [frames, H, W, 3]).

    `on_step(done, total)` is called after each call of the model and counts them over all clips.
    `should_stop` is asked before each; True ends the iteration early. `pipe.scheduler` is read and
    never changed. SettingsError for settings that cannot be drawn, NotFiniteError for broken numbers.
    """
    model = clip_model(pipe)
    check_clip(model, request)
    artist = _Artist(pipe, model, request)
    for index, seed in enumerate(request.seeds):

        def before_call() -> None:
            if should_stop and should_stop():
                raise _Stopped

        def after_call(call: int, meant: Callable[[], Tensor], index: int = index) -> None:
            if on_step:
                on_step(index * request.steps + call, request.steps * len(request.seeds))
            if on_look:
                on_look(index, meant)

        try:
            frames = artist.clip(seed, before_call, after_call)
        except _Stopped:
            return
        yield index, frames


def check_clip(model: ClipModel, request: ClipRequest) -> None:
    """SettingsError for what cannot be drawn, before anything is computed."""
    check_flow_sampler(request.sampler, request.schedule)
    if request.steps < 1:
        raise SettingsError("Steps must be 1 or more.")
    side, step = model.sizes.side, model.sizes.step
    if min(request.width, request.height) < 1 or request.width % side or request.height % side:
        raise SettingsError(f"Width and height must be multiples of {side}.")
    if request.frames < 1 or (request.frames - 1) % step:
        raise SettingsError(f"A clip of this model has {step} · n + 1 frames: 1, {step + 1}, …")
    if request.first_frame is None:
        return
    if not model.begins:
        raise SettingsError("This model cannot go on from a picture. Take the picture out, or another model.")
    if request.frames == 1:
        raise SettingsError("A clip of one frame cannot go on from a picture. Ask for more frames.")


class _Artist:
    """Draws the clips of one request, with what they share."""

    def __init__(self, pipe: Any, model: ClipModel, request: ClipRequest) -> None:
        self.pipe, self.model, self.request = pipe, model, request
        self.device = pipe.transformer.device
        self.shape = model.sizes.shape(request.frames, request.height, request.width)
        t, h, w = model.sizes.tokens(self.shape)
        self.scheduler = partial(
            create_flow_scheduler,
            request.sampler,
            pipe.scheduler.config,
            request.steps,
            shift=request.shift,
            tokens=t * h * w,
        )
        self.scheduler()  # says what is wrong before texts are encoded
        self.said = self._said()
        self.first = self._first_latents() if request.first_frame else None

    @torch.no_grad()
    def _said(self) -> Said:
        texts = [plain_text(text) for text in (self.request.negative_prompt, self.request.prompt)]
        return self.model.encode_texts(texts if self.request.cfg_scale != 1 else texts[1:])

    @torch.no_grad()
    def _first_latents(self) -> Tensor:
        """Of the picture alone, in the clip's shape; behind the first they count for nothing."""
        assert self.request.first_frame is not None
        picture = fitted(self.request.first_frame.convert("RGB"), (self.request.width, self.request.height))
        pixels = torch.from_numpy(np.array(picture, dtype=np.float32)).permute(2, 0, 1)[None, :, None]
        first = self.model.encode(pixels / 127.5 - 1).to(self.device)
        if not bool(torch.isfinite(first).all()):
            raise NotFiniteError("The autoencoder cannot take this picture.")
        return first.expand(self.shape)

    @torch.no_grad()
    def clip(
        self,
        seed: int,
        before_call: Callable[[], None],
        after_call: Callable[[int, Callable[[], Tensor]], None],
    ) -> Frames:
        scheduler = self.scheduler()
        generator = torch.Generator().manual_seed(seed)
        latents = torch.randn(self.shape, generator=generator).to(self.device)
        for call, (timestep, level) in enumerate(zip(scheduler.timesteps, scheduler.sigmas, strict=False)):
            before_call()
            given = self._held(latents)
            predicted = self._predict(given, timestep)
            latents = scheduler.step(predicted, timestep, latents, return_dict=False)[0]
            after_call(call + 1, partial(_meant, given, predicted, float(level)))
        return self._decoded(self._held(latents), generator)

    def _held(self, latents: Tensor) -> Tensor:
        """Latents whose beginning is the picture's."""
        if self.first is None:
            return latents
        return torch.cat([self.first[:, :, :1], latents[:, :, 1:]], dim=2)

    def _predict(self, latents: Tensor, timestep: Tensor) -> Tensor:
        """The guided prediction [1, C, t, h, w], in fp32."""
        seen = Seen(latents, self._time(timestep), self.request.fps)
        sides = self.model.predict(self._network(timestep), seen, self.said)
        if len(sides) == 1:
            return sides
        without, wanted = sides.chunk(2)
        return without + self.request.cfg_scale * (wanted - without)

    def _time(self, timestep: Tensor) -> Tensor:
        """One time for all, or one for each token where the first ones are finished."""
        time = timestep.to(self.device)
        if self.first is None:
            return time[None]
        t, h, w = self.model.sizes.tokens(self.shape)
        moving = torch.ones(t, h * w, device=self.device)
        moving[0] = 0
        return (moving * time).view(1, -1)

    def _network(self, timestep: Tensor) -> Any:
        """The expert for this much noise."""
        second, boundary = getattr(self.pipe, "transformer_2", None), boundary_of(self.pipe)
        if second is None or boundary is None or float(timestep) >= boundary * LEVELS:
            return self.pipe.transformer
        return second

    def _decoded(self, latents: Tensor, generator: torch.Generator) -> Frames:
        pixels = self.model.decode(latents, generator)
        if not bool(torch.isfinite(pixels).all()) or not bool(torch.isfinite(latents).all()):
            raise NotFiniteError("The model's numbers left the range that can be drawn.")
        levels = ((pixels / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)
        frames: Frames = levels.permute(1, 2, 3, 0).cpu().numpy()
        return frames


def boundary_of(pipe: Any) -> float | None:
    """The noise level, 0-1, below which the second expert draws."""
    told = getattr(pipe, "boundary", None)
    return told if told is not None else getattr(pipe.config, "boundary_ratio", None)


def _meant(latents: Tensor, predicted: Tensor, level: float) -> Tensor:
    """The latents without noise that a prediction means."""
    return latents - level * predicted
