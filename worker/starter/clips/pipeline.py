"""Puts the parts together as a WanPipeline, saves and samples it.

Everything outside this package meets the checkpoint as that folder; previews of the training use the
same code, so that they show what will ship.
"""

from pathlib import Path

import numpy as np
import torch
from diffusers import (
    AutoencoderKLWan,
    FlowMatchEulerDiscreteScheduler,
    WanPipeline,
    WanTransformer3DModel,
)
from PIL import Image
from transformers import PreTrainedTokenizerFast, UMT5EncoderModel

from worker.starter.clips.data import Clips
from worker.starter.clips.scenes import FRAMES, PIXELS
from worker.starter.clips.text import MAX_TOKENS
from worker.starter.clips.transformer import SHIFT

STEPS = 20
GUIDANCE = 4.0


def assemble(
    vae: AutoencoderKLWan,
    text_encoder: UMT5EncoderModel,
    tokenizer: PreTrainedTokenizerFast,
    transformer: WanTransformer3DModel,
) -> WanPipeline:
    """The pipeline with Euler steps over shifted noise levels."""
    pipeline = WanPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=SHIFT),
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def load_pipeline(folder: Path) -> WanPipeline:
    """The saved pipeline in float32, ready for sampling on the CPU."""
    pipeline = WanPipeline.from_pretrained(folder, local_files_only=True, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def save_pipeline(pipeline: WanPipeline, folder: Path) -> None:
    """Writes fp16 safetensors; the pipeline is left in float32."""
    pipeline.to(dtype=torch.float16)
    pipeline.save_pretrained(folder, safe_serialization=True)
    pipeline.to(dtype=torch.float32)


@torch.no_grad()
def sample(
    pipeline: WanPipeline,
    prompts: list[str],
    seeds: list[int],
    *,
    steps: int = STEPS,
    guidance: float = GUIDANCE,
    batch: int = 10,
) -> Clips:
    """One clip of 17 frames per (prompt, seed): uint8 (n, 17, 64, 64, 3)."""
    clips = []
    for start in range(0, len(prompts), batch):
        part = slice(start, start + batch)
        frames = pipeline(
            prompts[part],
            negative_prompt=[""] * len(prompts[part]),
            height=PIXELS,
            width=PIXELS,
            num_frames=FRAMES,
            num_inference_steps=steps,
            guidance_scale=guidance,
            max_sequence_length=MAX_TOKENS,
            generator=[torch.Generator().manual_seed(seed) for seed in seeds[part]],
            output_type="np",
        ).frames
        clips.append((np.asarray(frames) * 255).round().astype(np.uint8))
    return np.concatenate(clips)


def film_strips(clips: Clips, frames: int = 6, columns: int = 2) -> Image.Image:
    """Each clip as a strip of evenly spaced frames, strips side by side."""
    chosen = np.linspace(0, clips.shape[1] - 1, frames).round().astype(int)
    strips = [np.concatenate(list(clip[chosen]), axis=1) for clip in clips]
    height, width = strips[0].shape[:2]
    gap = 4
    rows = -(-len(strips) // columns)
    grid = Image.new("RGB", (columns * (width + gap) - gap, rows * (height + gap) - gap), "white")
    for number, strip in enumerate(strips):
        place = (number % columns * (width + gap), number // columns * (height + gap))
        grid.paste(Image.fromarray(strip), place)
    return grid
