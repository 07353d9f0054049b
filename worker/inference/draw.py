"""Drawing pictures: the denoising loop that generations and the trainer's samples share.

Picture i depends on `seeds[i]` alone. Noise comes from a CPU generator of its own, and every
picture is denoised by itself (its positive and negative pass as one batch of two): matrix products
of another batch size may differ in the last bit, and then in the picture.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from app.contract.jobs import UPSCALERS, GenerateJob, Hires
from app.contract.passes import Pass, passes
from worker.inference.conditioning import Texts
from worker.inference.embeddings import Embedding
from worker.inference.errors import SettingsError
from worker.inference.guidance import Guide
from worker.inference.levels import Levels
from worker.inference.pictures import decode, upscale
from worker.inference.samplers import check_sampler, create_scheduler, last_steps, step_options
from worker.inference.start import Canvas, Start

Look = Callable[[int, Callable[[], Tensor]], None]
"""Takes a picture's index and a function that makes the latents that the model has in mind so far."""


@dataclass(frozen=True)
class Request:
    """What to draw. Sides are pixels before `hires`; `clip_skip` counts as A1111 does: 1 = the last layer."""

    prompt: str
    negative_prompt: str
    sampler: str
    steps: int
    cfg_scale: float
    width: int
    height: int
    seeds: tuple[int, ...]
    clip_skip: int = 1
    schedule: str = "Automatic"
    start: Start | None = None
    hires: Hires | None = None
    embeddings: tuple[Embedding, ...] = ()


def request_of(
    job: GenerateJob, start: Start | None = None, embeddings: tuple[Embedding, ...] = ()
) -> Request:
    """The request of a job without grid; `start` and `embeddings` are its files, opened."""
    return Request(
        prompt=job.prompt,
        negative_prompt=job.negative_prompt,
        sampler=job.sampler,
        steps=job.steps,
        cfg_scale=job.cfg_scale,
        width=job.width,
        height=job.height,
        seeds=job.seeds,
        clip_skip=job.clip_skip,
        schedule=job.schedule,
        start=start,
        hires=job.hires,
        embeddings=embeddings,
    )


class _Stopped(Exception):
    """`should_stop` said so."""


def draw(
    pipe: Any,
    request: Request,
    *,
    on_step: Callable[[int, int], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
    on_look: Look | None = None,
) -> Iterator[tuple[int, Image.Image]]:
    """Draw `len(seeds)` pictures with a pipeline of Stable Diffusion 1 or XL; yield (index, picture).

    `on_step(done, total)` is called after each call of the model and counts them over all pictures.
    `should_stop` is asked before each; True ends the iteration early. `pipe.scheduler` is read
    and never changed. SettingsError for settings that cannot be drawn, NotFiniteError for broken numbers.
    """
    check_request(pipe, request)
    artist = _Artist(pipe, request)
    calls = artist.calls
    for index, seed in enumerate(request.seeds):

        def before_call() -> None:
            if should_stop and should_stop():
                raise _Stopped

        def after_call(call: int, meant: Callable[[], Tensor], index: int = index) -> None:
            if on_step:
                on_step(index * calls + call, calls * len(request.seeds))
            if on_look:
                on_look(index, meant)

        try:
            image = artist.picture(seed, (before_call, after_call))
        except _Stopped:
            return
        yield index, image


def check_request(pipe: Any, request: Request) -> None:
    """SettingsError for what cannot be drawn, before anything is computed."""
    check_sampler(request.sampler, request.schedule)
    if request.steps < 1 or (request.hires and request.hires.steps == 0):
        raise SettingsError("Steps must be 1 or more.")
    check_size(pipe, request.width, request.height)
    if request.hires is None:
        return
    if request.hires.upscaler not in UPSCALERS:
        raise SettingsError(f"Unknown upscaler. Use one of: {', '.join(UPSCALERS)}.")
    if request.start and request.start.mask:
        raise SettingsError(
            "A part of a picture cannot be drawn anew with the hires fix. Switch one of them off."
        )
    for one in passes(request):
        check_size(pipe, one.width, one.height)


def check_size(pipe: Any, width: int, height: int) -> None:
    """SettingsError unless both sides are positive multiples of the VAE's factor."""
    factor = pipe.vae_scale_factor
    if width < factor or height < factor or width % factor or height % factor:
        raise SettingsError(f"Width and height must be multiples of {factor}.")


Hooks = tuple[Callable[[], None], Callable[[int, Callable[[], Tensor]], None]]
"""Called before and after each call of the model; the latter with how many of this picture are done."""


class _Artist:
    """Draws the pictures of one request, with what they share."""

    def __init__(self, pipe: Any, request: Request) -> None:
        self.pipe, self.request, self.passes = pipe, request, passes(request)
        self.calls = sum(one.calls for one in self.passes)
        self.levels = Levels(pipe.scheduler)
        texts = Texts(pipe, request.clip_skip, request.embeddings)
        prompts = (request.prompt, request.negative_prompt)
        before = [None, self.passes[0].steps]
        self.guides = [
            Guide(pipe, texts, prompts, request.cfg_scale, (one, steps))
            for one, steps in zip(self.passes, before, strict=False)
        ]
        size = (request.width, request.height)
        self.canvas = Canvas(pipe, request.start, size) if request.start else None

    def picture(self, seed: int, hooks: Hooks) -> Image.Image:
        canvas, hires = self.canvas, self.request.hires
        if canvas and not self.calls and not hires:
            return canvas.picture
        latents = self._walk(0, seed, hooks, canvas.latents if canvas else None)
        if canvas:
            latents = canvas.finish(latents)
        if hires:
            size = (self.passes[1].width, self.passes[1].height)
            latents = self._walk(1, seed, hooks, upscale(self.pipe, latents, size, hires.upscaler))
        image = decode(self.pipe, latents)
        return canvas.paste(image) if canvas else image

    @torch.no_grad()
    def _walk(self, number: int, seed: int, hooks: Hooks, origin: Tensor | None) -> Tensor:
        """One pass: from noise, or from `origin` with as much noise as the pass begins at."""
        one = self.passes[number]
        if origin is not None and not one.calls:
            return origin
        scheduler = self._scheduler(one, seed)
        timesteps = last_steps(scheduler, one.steps)
        generator = torch.Generator().manual_seed(seed)
        noise = self._noise(one, generator)
        if origin is None or self._denoise(number) >= 1:
            latents = noise * scheduler.init_noise_sigma
        else:
            latents = scheduler.add_noise(origin, noise, timesteps[:1])
        before_call, after_call = hooks
        done = sum(earlier.calls for earlier in self.passes[:number])
        for call, timestep in enumerate(timesteps):
            before_call()
            given = scheduler.scale_model_input(latents, timestep)
            predicted = self.guides[number].predict(given, timestep, call)
            if self.canvas and number == 0:
                predicted = self.canvas.hold(self.levels, predicted, given, timestep)
            options = step_options(scheduler, generator, call)
            latents = scheduler.step(predicted, timestep, latents, **options, return_dict=False)[0]
            after_call(done + call + 1, partial(self.levels.origin, predicted, given, timestep))
        return latents

    def _scheduler(self, one: Pass, seed: int) -> Any:
        wanted, config = self.request, self.pipe.scheduler.config
        return create_scheduler(wanted.sampler, config, one.schedule_steps, wanted.schedule, seed=seed)

    def _denoise(self, number: int) -> float:
        """How much of what a pass starts from is drawn anew."""
        begin = self.request.hires if number else self.request.start
        return begin.denoise if begin else 1.0

    def _noise(self, one: Pass, generator: torch.Generator) -> Tensor:
        unet, factor = self.pipe.unet, self.pipe.vae_scale_factor
        shape = (1, unet.config.in_channels, one.height // factor, one.width // factor)
        return torch.randn(shape, generator=generator).to(unet.device)
