"""What differs between the models that draw clips: Wan's and LTX's shapes, texts, inputs and decoders.

Both are asked in the same words by `clip_draw`. Latents are [1, channels, t, h, w] in fp32, scaled as
the model wants them; LTX's are packed into a row of tokens only to be shown to it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from worker.families.clip_latents import tokenize
from worker.inference.prompt import read_prompt

LTX_RATE = 25.0
"""Frames a second where nothing is said."""
DECODE_LEVEL, DECODE_NOISE = 0.05, 0.025
"""Of LTX's decoders that take the last step themselves, as their model card says."""


@dataclass(frozen=True)
class Said:
    """What the model is told, a row for each side: embeddings [B, tokens, C], and which of them count."""

    embeddings: Tensor
    mask: Tensor | None = None


@dataclass(frozen=True)
class Seen:
    """Latents at one moment, the time that the model is told ([1] or [1, tokens]), and the clip's rate."""

    latents: Tensor
    time: Tensor
    fps: float | None = None


@dataclass(frozen=True)
class Sizes:
    """How a model counts. `patch`: latents of a token along time, height and width."""

    channels: int
    scale: int
    """Pixels a latent, along one side."""
    step: int
    """Frames a latent, after the first."""
    patch: tuple[int, int, int]

    @property
    def side(self) -> int:
        """Pixels a token, along one side."""
        return self.scale * self.patch[1]

    def shape(self, frames: int, height: int, width: int) -> tuple[int, int, int, int, int]:
        """Of the latents."""
        return 1, self.channels, (frames - 1) // self.step + 1, height // self.scale, width // self.scale

    def tokens(self, shape: Sequence[int]) -> tuple[int, int, int]:
        """Along time, height and width."""
        t, h, w = (length // patch for length, patch in zip(shape[2:], self.patch, strict=True))
        return t, h, w


class ClipModel(Protocol):
    """One pipeline's ways."""

    sizes: Sizes
    begins: bool
    """Whether a clip can go on from a picture."""

    def encode_texts(self, texts: Sequence[str]) -> Said: ...

    def predict(self, network: Any, seen: Seen, said: Said) -> Tensor:
        """What the network says for each side: [B, C, t, h, w], fp32."""
        ...

    def encode(self, pixels: Tensor) -> Tensor:
        """Pixels [1, 3, frames, H, W] in -1…1 → latents."""
        ...

    def decode(self, latents: Tensor, generator: torch.Generator, /) -> Tensor:
        """Latents → pixels [3, frames, H, W] in -1…1, fp32."""
        ...


def clip_model(pipe: Any) -> ClipModel:
    """The ways of this pipeline's model, told by its configuration."""
    return Ltx(pipe) if "caption_channels" in pipe.transformer.config else Wan(pipe)


def plain_text(prompt: str) -> str:
    """A prompt as the text encoder reads it: without names of LoRAs."""
    return read_prompt(prompt).text


class Wan:
    """Wan 2.1 and 2.2: a causal autoencoder, tokens of 2 × 2 latents, UMT5 for texts."""

    MOST_TOKENS = 512

    def __init__(self, pipe: Any) -> None:
        self.pipe, self.vae = pipe, pipe.vae
        config, factors = pipe.transformer.config, pipe.vae.config
        self.sizes = Sizes(
            channels=config.in_channels,
            scale=factors.scale_factor_spatial,
            step=factors.scale_factor_temporal,
            patch=tuple(config.patch_size),
        )
        self.begins = bool(getattr(pipe.config, "expand_timesteps", False))

    def encode_texts(self, texts: Sequence[str]) -> Said:
        """What stands after a text's end is zero, whatever the encoder says of it."""
        encoder = self.pipe.text_encoder
        ids, mask = (
            tensor.to(encoder.device) for tensor in tokenize(self.pipe.tokenizer, texts, self.MOST_TOKENS)
        )
        found = encoder(ids, attention_mask=mask).last_hidden_state
        return Said(found * mask[:, :, None].to(found.dtype))

    def predict(self, network: Any, seen: Seen, said: Said) -> Tensor:
        rows = len(said.embeddings)
        found: Tensor = network(
            hidden_states=seen.latents.to(network.dtype).expand(rows, -1, -1, -1, -1),
            timestep=seen.time.expand(rows, *seen.time.shape[1:]),
            encoder_hidden_states=said.embeddings.to(seen.latents.device, network.dtype),
            return_dict=False,
        )[0]
        return found.float()

    def encode(self, pixels: Tensor) -> Tensor:
        mean, std = self._statistics()
        found = self.vae.encode(pixels.to(self.vae.device, self.vae.dtype)).latent_dist.mode()
        return (found.float() - mean) / std

    def decode(self, latents: Tensor, _generator: torch.Generator, /) -> Tensor:
        mean, std = self._statistics()
        scaled = (latents.to(mean.device) * std + mean).to(self.vae.dtype)
        pixels: Tensor = self.vae.decode(scaled, return_dict=False)[0][0]
        return pixels.float()

    def _statistics(self) -> tuple[Tensor, Tensor]:
        config, device = self.vae.config, self.vae.device
        mean, std = (
            torch.tensor(values, device=device).view(1, -1, 1, 1, 1)
            for values in (config.latents_mean, config.latents_std)
        )
        return mean, std


class Ltx:
    """LTX-Video: latents of 32 × 32 pixels and 8 frames, positions in seconds and pixels, T5 for texts."""

    MOST_TOKENS = 128

    def __init__(self, pipe: Any) -> None:
        self.pipe, self.vae = pipe, pipe.vae
        config = pipe.transformer.config
        self.sizes = Sizes(
            channels=config.in_channels // (config.patch_size_t * config.patch_size**2),
            scale=pipe.vae.spatial_compression_ratio,
            step=pipe.vae.temporal_compression_ratio,
            patch=(config.patch_size_t, config.patch_size, config.patch_size),
        )
        self.begins = True

    def encode_texts(self, texts: Sequence[str]) -> Said:
        """The encoder reads the padding too, as it did when the model was trained; the model does not."""
        encoder = self.pipe.text_encoder
        ids, mask = tokenize(self.pipe.tokenizer, texts, self.MOST_TOKENS)
        return Said(encoder(ids.to(encoder.device)).last_hidden_state, mask.bool())

    def predict(self, network: Any, seen: Seen, said: Said) -> Tensor:
        rows, device = len(said.embeddings), seen.latents.device
        sizes = self.sizes
        t, h, w = sizes.tokens(seen.latents.shape)
        mask = said.mask.to(device) if said.mask is not None else None
        found = network(
            hidden_states=self.packed(seen.latents).to(network.dtype).expand(rows, -1, -1),
            encoder_hidden_states=said.embeddings.to(device, network.dtype),
            timestep=seen.time.expand(rows, *seen.time.shape[1:]),
            encoder_attention_mask=mask,
            num_frames=t,
            height=h,
            width=w,
            rope_interpolation_scale=(sizes.step / (seen.fps or LTX_RATE), sizes.scale, sizes.scale),
            return_dict=False,
        )[0]
        return self.unpacked(found.float(), (t, h, w))

    def packed(self, latents: Tensor) -> Tensor:
        """[B, C, t, h, w] → [B, tokens, C · patch]."""
        p_t, p_h, p_w = self.sizes.patch
        rows, channels, t, h, w = latents.shape
        parts = latents.reshape(rows, channels, t // p_t, p_t, h // p_h, p_h, w // p_w, p_w)
        return parts.permute(0, 2, 4, 6, 1, 3, 5, 7).flatten(4, 7).flatten(1, 3)

    def unpacked(self, tokens: Tensor, counts: tuple[int, int, int]) -> Tensor:
        """The way back."""
        p_t, p_h, p_w = self.sizes.patch
        parts = tokens.reshape(len(tokens), *counts, -1, p_t, p_h, p_w)
        return parts.permute(0, 4, 1, 5, 2, 6, 3, 7).flatten(6, 7).flatten(4, 5).flatten(2, 3)

    def encode(self, pixels: Tensor) -> Tensor:
        mean, std = self._statistics()
        found = self.vae.encode(pixels.to(self.vae.device, self.vae.dtype)).latent_dist.mode()
        return (found.float() - mean) * self.vae.config.scaling_factor / std

    def decode(self, latents: Tensor, generator: torch.Generator, /) -> Tensor:
        mean, std = self._statistics()
        scaled = latents.to(mean.device) * std / self.vae.config.scaling_factor + mean
        level = None
        if self.vae.config.timestep_conditioning:
            noise = torch.randn(scaled.shape, generator=generator).to(scaled.device)
            scaled = torch.lerp(scaled, noise, DECODE_NOISE)
            level = torch.tensor([DECODE_LEVEL], device=scaled.device, dtype=self.vae.dtype)
        pixels: Tensor = self.vae.decode(scaled.to(self.vae.dtype), level, return_dict=False)[0][0]
        return pixels.float()

    def _statistics(self) -> tuple[Tensor, Tensor]:
        mean, std = (
            values.to(self.vae.device, torch.float32).view(1, -1, 1, 1, 1)
            for values in (self.vae.latents_mean, self.vae.latents_std)
        )
        return mean, std
