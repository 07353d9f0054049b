"""What trainings on clips take, counted from the shapes of Wan's and LTX-Video's models at true size.

Part of `./dev bench memory FAMILY --computed`. Nothing is loaded and nothing is computed: the sizes are
those of the published configurations, and a step runs on tensors without numbers.
"""

from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from diffusers import (
    AutoencoderKLLTXVideo,
    AutoencoderKLWan,
    LTXVideoTransformer3DModel,
    WanTransformer3DModel,
)
from torch import nn
from transformers import T5Config, T5EncoderModel, UMT5Config, UMT5EncoderModel

from app.contract.family import DeviceMemory
from tests.bench.meter import peak_of
from worker.draws import Draws
from worker.families import catalog
from worker.families.base import LoraTargets, Parts
from worker.families.clip_latents import block_targets
from worker.families.memory import latent_frames
from worker.families.resolve import resolve_params
from worker.families.streaming import take_turns
from worker.training.lora import inject

META = torch.device("meta")
XXL = {"d_model": 4096, "d_kv": 64, "d_ff": 10240, "num_layers": 24, "num_heads": 64}
WAN: dict[str, dict[str, Any]] = {
    "wan": {"num_attention_heads": 12, "ffn_dim": 8960, "num_layers": 30},
    "wan_14b": {},
    "wan22_a14b": {},
    "wan22_5b": {
        "num_attention_heads": 24, "ffn_dim": 14336, "num_layers": 30, "in_channels": 48, "out_channels": 48,
    },
}  # fmt: skip
"""What differs from diffusers' defaults, which are Wan 2.1 14B's."""
LARGE_VAE = {
    "base_dim": 160, "decoder_base_dim": 256, "z_dim": 48, "is_residual": True, "in_channels": 12,
    "out_channels": 12, "patch_size": 2, "scale_factor_spatial": 16,
}  # fmt: skip
TOKENS = {"wan": 512, "ltx": 128, "video_starter": 64}
FRAMES = 9
"""Latent frames that a step is counted with."""


class Models(NamedTuple):
    """One of each kind, without numbers."""

    network: Any
    vae: Any
    text: Any


def build(name: str) -> Models:
    with META:
        if name == "video_starter":
            return _starter()
        if name == "ltx":
            text = T5EncoderModel(T5Config(vocab_size=32128, feed_forward_proj="gated-gelu", **XXL))
            models = Models(LTXVideoTransformer3DModel(), AutoencoderKLLTXVideo(), text)
        else:
            network = WanTransformer3DModel(**({"text_dim": 4096} | WAN[name]))
            vae = AutoencoderKLWan(**(LARGE_VAE if name == "wan22_5b" else {}))
            text = UMT5EncoderModel(UMT5Config(vocab_size=256384, feed_forward_proj="gated-gelu", **XXL))
            models = Models(network, vae, text)
    for model in models:
        model.requires_grad_(False).eval()
    return models


def _starter() -> Models:
    from worker.starter.clips.transformer import build_transformer
    from worker.starter.clips.vae import build_vae
    from worker.starter.text import WIDTH

    sizes = {"d_model": WIDTH, "d_kv": 32, "d_ff": 256, "num_layers": 2, "num_heads": 4}
    text = UMT5EncoderModel(UMT5Config(vocab_size=2500, feed_forward_proj="gated-gelu", **sizes))
    models = Models(build_transformer(), build_vae(), text)
    for model in models:
        model.requires_grad_(False).eval()
    return models


def numbers(model: Any) -> int:
    return sum(tensor.numel() for tensor in model.parameters())


def adapt(name: str, network: Any, **changes: Any) -> list[Any]:
    """Put an adapter into the network; gives its tensors."""
    params = resolve_params(catalog.specs()[name], "style", "normal", 4, changes)
    targets = block_targets(network, "transformer_blocks" if name == "ltx" else "blocks")
    with META:
        adapter = inject(
            Parts(Path(), META, network, None, None), LoraTargets(targets, (), ()), params, Draws(0)
        )
    return adapter.parameters("model")


def clip_counts(name: str) -> dict[str, Any]:
    """The numbers of `TrainMemory`; of two experts both."""
    models, clips = build(name), catalog.specs()[name].clips
    assert clips
    times = 2 if clips.experts else 1
    width = _text_width(name, models.network)
    tokens = TOKENS.get(name, TOKENS["wan"])
    blocks = [] if name == "video_starter" else block_numbers(models.network)
    rank = sum(tensor.numel() for tensor in adapt(name, build(name).network, network_dim=1, network_alpha=1))
    return {
        "model": times * numbers(models.network),
        "blocks": times * sum(blocks),
        "block": max(blocks, default=0),
        "text": numbers(models.text),
        "vae": numbers(models.vae),
        "rank": times * rank,
        "rank_convolutions": 0,
        "rank_text": 0,
        "latent": 2 * 4 * channels(models.vae) / factor(models.vae) ** 2,
        "caption": 4 * tokens * width,
        "text_step": 1,
    }


def block_numbers(network: Any) -> list[int]:
    """Of each block that can wait outside or be held as int8; the starter is too small to gain by it."""
    lists = [part for part in network.children() if isinstance(part, nn.ModuleList)]
    return [numbers(block) for blocks in lists for block in blocks]


def _text_width(name: str, network: Any) -> int:
    return int(network.config.caption_channels if name == "ltx" else network.config.text_dim)


def channels(vae: Any) -> int:
    return int(vae.config.get("z_dim") or vae.config.latent_channels)


def factor(vae: Any) -> int:
    return int(vae.config.get("scale_factor_spatial") or vae.spatial_compression_ratio)


def network_peak(name: str, side: int, **how: Any) -> int:
    """One window of `side` pixels and FRAMES latent frames, forwards and backwards.

    All blocks are alike, so two and four are counted, and the rest follows.
    """
    depth = build(name).network.config.num_layers
    two, four = (block_peak(name, side, layers, **how) for layers in (2, 4))
    return two + (depth - 2) * (four - two) // 2


def block_peak(
    name: str,
    side: int,
    layers: int,
    *,
    precision: str,
    checkpointed: bool,
    cuda: bool,
    streamed: bool = False,
) -> int:
    """The same with so many blocks; with `streamed`, weights that come for their turn are counted, too."""
    models = build(name)
    network, small = models.network, side // factor(models.vae)
    blocks = network.transformer_blocks if name == "ltx" else network.blocks
    del blocks[layers:]
    adapt(name, network)
    if checkpointed:
        network.enable_gradient_checkpointing()
        network.train()
    for block in blocks if streamed else ():
        take_turns(block, torch.device("cpu"))
    bf16 = precision == "bf16"
    for tensor in network.parameters():
        if bf16 and not tensor.requires_grad:
            tensor.data = tensor.data.to(torch.bfloat16)
    dtype = torch.bfloat16 if bf16 else torch.float32

    def work() -> torch.Tensor:
        words = torch.empty(1, TOKENS.get(name, TOKENS["wan"]), _text_width(name, network), dtype=dtype)
        time = torch.ones(1)
        if name != "ltx":
            noise = torch.empty(1, channels(models.vae), FRAMES, small, small, dtype=dtype)
            return network(noise, time, words, return_dict=False)[0]
        tokens = torch.empty(1, FRAMES * small * small, channels(models.vae), dtype=dtype)
        mask = torch.ones(1, words.shape[1])
        return network(
            tokens, words, time, mask, num_frames=FRAMES, height=small, width=small, return_dict=False
        )[0]

    return peak_of(network, work, bf16=bf16, cuda=cuda)


def vae_peak(name: str, side: int, *, decode: bool) -> int:
    vae = build(name).vae
    small = side // factor(vae)
    clips = catalog.specs()[name].clips
    assert clips
    frames = 1 + (FRAMES - 1) * clips.rule.step
    assert latent_frames(catalog.specs()[name], frames) == FRAMES

    @torch.no_grad()
    def work() -> torch.Tensor:
        if decode:
            return vae.decode(torch.empty(1, channels(vae), FRAMES, small, small)).sample
        return vae.encode(torch.empty(1, 3, frames, side, side)).latent_dist.mean

    return peak_of(vae, work)


@cache
def clip_computed(name: str, device: str, overhead: int, margin: float) -> DeviceMemory:
    """Bytes a pixel of a latent frame, with `margin`. Of two experts one is at work."""
    if name == "wan22_a14b":
        return clip_computed("wan_14b", device, overhead, margin)
    side = catalog.specs()[name].resolution

    def share(peak: int) -> float:
        return round(margin * peak / side**2 / FRAMES, 1)

    def step(checkpointed: bool) -> dict[str, float]:
        on = {"checkpointed": checkpointed, "cuda": device == "cuda"}
        return {p: share(network_peak(name, side, precision=p, **on)) for p in ("fp32", "bf16")}

    return DeviceMemory(
        overhead=overhead,
        step=step(False),
        step_checkpointed=step(True),
        encode=share(vae_peak(name, side, decode=False)),
        draw=share(vae_peak(name, side, decode=True)),
    )
