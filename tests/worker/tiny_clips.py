"""Random checkpoints of Wan's and LTX-Video's architectures, and clips, small enough to train in moments.

Factors and channels differ from the true ones where the families let them.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import (
    AutoencoderKLLTXVideo,
    AutoencoderKLWan,
    FlowMatchEulerDiscreteScheduler,
    LTXPipeline,
    LTXVideoTransformer3DModel,
    WanPipeline,
    WanTransformer3DModel,
)
from numpy.typing import NDArray
from transformers import T5Config, T5EncoderModel, T5Tokenizer, UMT5Config, UMT5EncoderModel

from app.contract.jobs import SamplePrompt, TrainItem, TrainJob
from tests.worker.tiny import CAPTIONS, blob, tiny_job
from worker.families import catalog
from worker.inference.clip_files import write_clip

CLIP_FAMILIES = tuple(name for name, spec in catalog.specs().items() if spec.clips)
SIDE = 32
WIDTH = 16
"""Of everything that reads or is read as text."""


def tiny_clip_pipeline(family: str) -> Any:
    """The checkpoint as diffusers has it; always the same weights."""
    tokenizer = tiny_t5_tokenizer()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
        if family == "ltx":
            return LTXPipeline(
                scheduler=scheduler,
                vae=tiny_ltx_vae(),
                text_encoder=T5EncoderModel(T5Config(**_text_sizes(tokenizer))),
                tokenizer=tokenizer,
                transformer=tiny_ltx_transformer(),
            )
        large, two = family == "wan22_5b", family == "wan22_a14b"
        return WanPipeline(
            scheduler=scheduler,
            vae=tiny_large_wan_vae() if large else tiny_wan_vae(),
            text_encoder=UMT5EncoderModel(UMT5Config(**_text_sizes(tokenizer))),
            tokenizer=tokenizer,
            transformer=tiny_wan_transformer(48 if large else 16),
            transformer_2=tiny_wan_transformer(16) if two else None,
            boundary_ratio=0.875 if two else None,
            expand_timesteps=large,
        )


def tiny_wan_transformer(channels: int) -> Any:
    return WanTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=channels,
        out_channels=channels,
        text_dim=WIDTH,
        freq_dim=16,
        ffn_dim=32,
        num_layers=2,
    )


def tiny_wan_vae() -> Any:
    """Four pixels and four frames a latent."""
    return AutoencoderKLWan(
        base_dim=4,
        z_dim=16,
        dim_mult=[1, 1, 1],
        num_res_blocks=1,
        temperal_downsample=[True, True],
        scale_factor_spatial=4,
        latents_mean=[0.1] * 16,
        latents_std=[0.5] * 16,
    )


def tiny_large_wan_vae() -> Any:
    """As Wan 2.2 5B has it: patches first, then levels with residuals."""
    return AutoencoderKLWan(
        base_dim=4,
        decoder_base_dim=4,
        z_dim=48,
        dim_mult=[1, 1, 1],
        num_res_blocks=1,
        temperal_downsample=[True, True],
        is_residual=True,
        in_channels=12,
        out_channels=12,
        patch_size=2,
        scale_factor_spatial=8,
        latents_mean=[0.1] * 48,
        latents_std=[0.5] * 48,
    )


def tiny_ltx_transformer() -> Any:
    return LTXVideoTransformer3DModel(
        in_channels=8,
        out_channels=8,
        num_attention_heads=2,
        attention_head_dim=12,
        cross_attention_dim=24,
        num_layers=2,
        caption_channels=WIDTH,
    )


def tiny_ltx_vae() -> Any:
    """Eight pixels and eight frames a latent."""
    return AutoencoderKLLTXVideo(
        latent_channels=8,
        block_out_channels=(8, 8, 8, 8),
        decoder_block_out_channels=(8, 8, 8, 8),
        layers_per_block=(1, 1, 1, 1, 1),
        decoder_layers_per_block=(1, 1, 1, 1, 1),
        spatio_temporal_scaling=(True, True, True, False),
        decoder_spatio_temporal_scaling=(True, True, True, False),
        decoder_inject_noise=(False,) * 5,
        upsample_residual=(False,) * 4,
        upsample_factor=(1,) * 4,
        patch_size=1,
    )


def tiny_t5_tokenizer() -> Any:
    """Letters, digits and a few pieces of words."""
    pieces = [chr(code) for code in range(ord("!"), ord("~") + 1)] + ["ouse", "ed", "▁gr"]
    vocabulary = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    vocabulary += [(piece, -3.0) for piece in pieces]
    return T5Tokenizer(vocab=vocabulary, extra_ids=0, model_max_length=48)


def _text_sizes(tokenizer: Any) -> dict[str, Any]:
    return {
        "vocab_size": len(tokenizer),
        "d_model": WIDTH,
        "d_kv": 8,
        "d_ff": 32,
        "num_layers": 2,
        "num_heads": 2,
        "feed_forward_proj": "gated-gelu",
    }


def tiny_clips(folder: Path, count: int = 2, frames: Sequence[int] = (12,), fps: float = 16) -> list[Path]:
    """Clips of a bright square that moves over a coloured ground; `frames` in turn."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number in range(count):
        path = folder / f"{number:03}.mp4"
        write_clip(path, moving_square(frames[number % len(frames)], number), fps, "")
        paths.append(path)
    return paths


def moving_square(frames: int, number: int = 0) -> NDArray[np.uint8]:
    """[frames, SIDE, SIDE, 3]."""
    drawn = np.empty((frames, SIDE, SIDE, 3), np.uint8)
    drawn[:] = (40 * number % 256, 90, 160)
    for at in range(frames):
        left = (3 * number + 2 * at) % (SIDE - 8)
        drawn[at, 8:16, left : left + 8] = (250, 220, 60)
    return drawn


def clip_job(
    family: str, clips: Sequence[Path], pictures: Sequence[Path] = (), *,
    frames: Sequence[int] = (12,), fps: float = 16, prompts: int = 0, **changes: Any,
) -> TrainJob:  # fmt: skip
    """A job over these clips, made by `tiny_clips` with the same figures, and pictures."""
    spec = catalog.specs()[family]
    assert spec.clips
    short = spec.clips.rule.step + 1
    items = [
        TrainItem(
            file=blob(path), width=SIDE, height=SIDE, label=CAPTIONS[number % 4],
            frames=frames[number % len(frames)], fps=fps,
        )
        for number, path in enumerate(clips)
    ]  # fmt: skip
    stills = tiny_job(pictures).items if pictures else ()
    usual: dict[str, Any] = {
        "resolution": SIDE, "clip_frames": short, "clip_count": 2, "flow_shift": 3.0, "min_snr_gamma": 0.0,
    }  # fmt: skip
    return tiny_job(
        (),
        items=(*items, *stills),
        sample_prompts=tuple(
            SamplePrompt(prompt=CAPTIONS[n], seed=n + 1, width=SIDE, height=SIDE, frames=short)
            for n in range(prompts)
        ),
        **(usual | changes),
    )
