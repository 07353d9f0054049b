"""The tiny checkpoints of clips as pipelines, LoRA files for them, and generations of small clips."""

from pathlib import Path
from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, UniPCMultistepScheduler
from torch import Tensor

from app.contract.jobs import BlobRef, CheckpointRef, GenerateJob, LoraRef
from app.recognition.transformer_names import LtxNames, WanNames
from tests.worker.tiny_clips import tiny_clip_pipeline

FAMILIES = ("video_starter", "wan22_a14b", "wan22_5b", "ltx")
SIZES = {"video_starter": (32, 48, 5), "wan22_a14b": (32, 32, 5), "wan22_5b": (64, 32, 5), "ltx": (32, 64, 9)}
"""Height, width, frames."""


def small_clip_pipeline(family: str) -> Any:
    """Ready to draw, with the schedule that the true checkpoints of its kind have."""
    pipe = tiny_clip_pipeline(family)
    pipe.scheduler = (
        FlowMatchEulerDiscreteScheduler(
            use_dynamic_shifting=True,
            base_shift=0.95,
            max_shift=2.05,
            base_image_seq_len=1024,
            max_image_seq_len=4096,
            shift_terminal=0.1,
        )
        if family == "ltx"
        else UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)
    )
    for name in ("transformer", "transformer_2", "text_encoder", "vae"):
        if (model := getattr(pipe, name, None)) is not None:
            model.eval().requires_grad_(False)
    return pipe


WAN_LAYERS = (
    "blocks.0.attn1.to_q", "blocks.0.attn1.to_out.0", "blocks.1.attn2.to_v", "blocks.1.ffn.net.0.proj",
    "blocks.1.ffn.net.2",
)  # fmt: skip
LTX_LAYERS = (
    "transformer_blocks.0.attn1.to_q", "transformer_blocks.0.attn2.to_out.0",
    "transformer_blocks.1.ff.net.0.proj",
)  # fmt: skip
SPELLINGS = ("diffusion_model", "transformer", "musubi", "peft")


def clip_lora(network: Any, spelling: str = "diffusion_model", *, seed: int = 1) -> dict[str, Tensor]:
    """A LoRA of rank 4 and alpha 2 for a few layers in one of SPELLINGS; always the same change."""
    wan = "blocks" in dict(network.named_children())
    names, layers = (WanNames(), WAN_LAYERS) if wan else (LtxNames(), LTX_LAYERS)
    made = torch.Generator().manual_seed(seed)
    found: dict[str, Tensor] = {}
    for layer in layers:
        weight = network.get_submodule(layer).weight
        down = torch.randn((4, weight.shape[1]), generator=made) * 0.2
        up = torch.randn((weight.shape[0], 4), generator=made) * 0.2
        found |= _written(spelling, layer, names.name(layer), (down, up))
    return found


def _written(spelling: str, layer: str, published: str, pair: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
    down, up = pair
    if spelling == "musubi":
        stem = f"lora_unet_{published.replace('.', '_')}"
        return {
            f"{stem}.lora_down.weight": down,
            f"{stem}.lora_up.weight": up,
            f"{stem}.alpha": torch.tensor(2.0),
        }
    stem = {
        "diffusion_model": f"diffusion_model.{published}",
        "transformer": f"transformer.{layer}",
        "peft": f"base_model.model.{layer}",
    }[spelling]
    return {f"{stem}.lora_A.weight": down, f"{stem}.lora_B.weight": up * 0.5}


def blob(digits: str, name: str) -> BlobRef:
    return BlobRef(sha256=digits * 32, size=1, name=name)


def clip_lora_ref(name: str, digits: str, low: str | None = None, strength: float = 0.8) -> LoraRef:
    return LoraRef(
        file=blob(digits, f"{name}.safetensors"),
        low_noise=blob(low, f"{name}-low.safetensors") if low else None,
        name=name,
        strength=strength,
        base_model="Video Starter 1",
        autov3="0123456789ab",
    )


def clip_job(family: str = "video_starter", **changes: Any) -> GenerateJob:
    """A generation of two clips in two steps."""
    height, width, frames = SIZES[family]
    base = CheckpointRef(
        file=blob("ab", "base.zip"), format="Diffusers", family=family, name="Little film", base_model="Any"
    )
    settings: dict[str, Any] = {
        "base": base,
        "prompt": "a red boat",
        "negative_prompt": "fog",
        "sampler": "Euler",
        "steps": 2,
        "cfg_scale": 4,
        "width": width,
        "height": height,
        "frames": frames,
        "seeds": (11, 12),
        "shift": 3.0,
        "threads": 1,
    }
    return GenerateJob(**(settings | changes))


def saved(pipe: Any, folder: Path) -> Path:
    """The pipeline as a diffusers folder."""
    pipe.save_pretrained(folder)
    return folder
