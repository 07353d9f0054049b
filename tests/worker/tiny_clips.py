"""Random checkpoints of Wan's and LTX-Video's architecture, small enough to draw and train in moments.

Sizes differ between the models on purpose: channels, factors in space and time, patches.
"""

from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKLLTXVideo,
    AutoencoderKLWan,
    FlowMatchEulerDiscreteScheduler,
    LTXPipeline,
    LTXVideoTransformer3DModel,
    UniPCMultistepScheduler,
    WanPipeline,
    WanTransformer3DModel,
)
from transformers import T5Config, T5EncoderModel, T5Tokenizer, UMT5Config, UMT5EncoderModel

TEXT_WIDTH = 32
TEXT_LENGTH = 24


def tiny_clip_base(folder: Path, family: str = "video_starter") -> Path:
    """Write the checkpoint into `folder`, a diffusers layout; always the same weights."""
    if not (folder / "model_index.json").exists():
        tiny_clip_pipeline(family).save_pretrained(folder)
    return folder


def tiny_clip_pipeline(family: str = "video_starter") -> Any:
    """The pipeline of a family's tiny checkpoint, ready to draw; of Wan but for `ltx`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        pipe = tiny_ltx() if family == "ltx" else tiny_wan(family)
    for name in ("transformer", "transformer_2", "text_encoder", "vae"):
        if (model := getattr(pipe, name, None)) is not None:
            model.eval().requires_grad_(False)
    return pipe


def tiny_wan(family: str = "video_starter") -> Any:
    """One transformer, or two experts for `wan22_a14b`, or an autoencoder of 48 channels for `wan22_5b`."""
    large = family == "wan22_5b"
    second = {"transformer_2": tiny_wan_transformer(16), "boundary_ratio": 0.875}
    pipeline: Any = WanPipeline(
        tokenizer=tiny_t5_tokenizer(),
        text_encoder=UMT5EncoderModel(UMT5Config(**_text_config())),
        vae=tiny_large_wan_vae() if large else tiny_wan_vae(),
        scheduler=UniPCMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
        ),
        transformer=tiny_wan_transformer(48 if large else 16),
        expand_timesteps=large,
        **(second if family == "wan22_a14b" else {}),
    )
    return pipeline


def tiny_wan_transformer(channels: int) -> Any:
    return WanTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=channels,
        out_channels=channels,
        text_dim=TEXT_WIDTH,
        freq_dim=16,
        ffn_dim=48,
        num_layers=2,
        rope_max_seq_len=64,
    )


def tiny_wan_vae() -> Any:
    return AutoencoderKLWan(base_dim=4, z_dim=16, dim_mult=[1, 1, 2, 2], num_res_blocks=1)


def tiny_large_wan_vae() -> Any:
    """As Wan 2.2 5B has it: residual, patches of two pixels, a sixteenth of each side."""
    return AutoencoderKLWan(
        base_dim=4,
        decoder_base_dim=4,
        z_dim=48,
        dim_mult=[1, 1, 2, 2],
        num_res_blocks=1,
        temperal_downsample=[False, True, True],
        is_residual=True,
        in_channels=12,
        out_channels=12,
        patch_size=2,
        scale_factor_spatial=16,
        latents_mean=[0.01 * channel for channel in range(48)],
        latents_std=[1 + 0.01 * channel for channel in range(48)],
    )


def tiny_ltx() -> Any:
    """LTX-Video with a factor of 16 in space and 4 in time: half of the real ones."""
    pipeline: Any = LTXPipeline(
        tokenizer=tiny_t5_tokenizer(),
        text_encoder=T5EncoderModel(T5Config(**_text_config())),
        vae=tiny_ltx_vae(),
        scheduler=FlowMatchEulerDiscreteScheduler(
            use_dynamic_shifting=True,
            base_shift=0.95,
            max_shift=2.05,
            base_image_seq_len=1024,
            max_image_seq_len=4096,
            shift_terminal=0.1,
        ),
        transformer=LTXVideoTransformer3DModel(
            in_channels=8,
            out_channels=8,
            num_attention_heads=2,
            attention_head_dim=16,
            cross_attention_dim=32,
            num_layers=2,
            caption_channels=TEXT_WIDTH,
        ),
    )
    return pipeline


def tiny_ltx_vae() -> Any:
    vae: Any = AutoencoderKLLTXVideo(
        latent_channels=8,
        block_out_channels=(8, 8, 8),
        decoder_block_out_channels=(8, 8, 8),
        layers_per_block=(1, 1, 1, 1),
        decoder_layers_per_block=(1, 1, 1, 1),
        spatio_temporal_scaling=(True, True, False),
        decoder_spatio_temporal_scaling=(True, True, False),
        decoder_inject_noise=(False,) * 4,
        downsample_type=("conv",) * 3,
        upsample_residual=(False,) * 3,
        upsample_factor=(1,) * 3,
        down_block_types=("LTXVideoDownBlock3D",) * 3,
    )
    vae.latents_mean.copy_(torch.linspace(-0.2, 0.3, 8))
    vae.latents_std.copy_(torch.linspace(0.8, 1.4, 8))
    return vae


def _text_config() -> dict[str, Any]:
    return {
        "vocab_size": len(tiny_t5_tokenizer()),
        "d_model": TEXT_WIDTH,
        "d_kv": 8,
        "d_ff": 48,
        "num_layers": 2,
        "num_heads": 4,
        "relative_attention_num_buckets": 8,
    }


def tiny_t5_tokenizer() -> Any:
    """Letters, digits and a few words, as Unigram pieces."""
    letters = [chr(code) for code in range(ord("!"), ord("~") + 1)]
    words = ["▁a", "▁red", "▁boat", "▁sails", "▁left", "▁right", "ing"]
    vocabulary = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    vocabulary += [(word, -3.0) for word in words] + [(letter, -6.0) for letter in letters]
    return T5Tokenizer(vocab=vocabulary, extra_ids=0, model_max_length=TEXT_LENGTH)
