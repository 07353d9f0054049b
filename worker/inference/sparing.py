"""Drawing with little memory: the VAE decodes in tiles, one picture after the other.

Where tiles meet a picture differs a little from one that was decoded whole, so this is only for when
memory has run out, or was planned to be short.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

TILE = 64
"""Latents along one side of a tile: 512 pixels of Stable Diffusion's."""
_SETTINGS = ("use_tiling", "use_slicing", "tile_sample_min_size", "tile_latent_min_size")
_OF_CLIPS = ("use_tiling", "use_framewise_decoding")
"""Of autoencoders of clips, whose tiles have good sizes of their own."""


@contextmanager
def sparing(pipe: Any, *, wanted: bool = True) -> Iterator[None]:
    """Within it, `pipe` decodes in tiles; afterwards its VAE is as it was."""
    vae = pipe.vae
    before = {name: getattr(vae, name) for name in (*_SETTINGS, *_OF_CLIPS) if hasattr(vae, name)}
    if wanted and hasattr(vae, "tile_sample_min_height"):
        for name in before.keys() & set(_OF_CLIPS):
            setattr(vae, name, True)
    elif wanted and before.keys() >= set(_SETTINGS):
        factor = 2 ** (len(vae.config.block_out_channels) - 1)
        vae.use_tiling = vae.use_slicing = True
        vae.tile_latent_min_size = min(TILE, vae.tile_latent_min_size)
        vae.tile_sample_min_size = vae.tile_latent_min_size * factor
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(vae, name, value)
