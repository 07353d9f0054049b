"""The tiny checkpoint as a pipeline, LoRA files for it, and generations of two small pictures."""

from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import save_file
from torch import Tensor

from app.contract.jobs import BlobRef, CheckpointRef, GenerateJob, LoraRef
from tests.worker.tiny import tiny_scheduler, tiny_text_encoder, tiny_tokenizer, tiny_unet, tiny_vae
from worker.inference.conditioning import encode_pair

SIZE = 16
FACTOR = 4
"""Pixels a latent."""


def small_pipeline(seed: int = 0) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        pipe: Any = StableDiffusionPipeline(
            vae=tiny_vae(),
            text_encoder=tiny_text_encoder(),
            tokenizer=tiny_tokenizer(),
            unet=tiny_unet(),
            scheduler=tiny_scheduler(),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
    for model in (pipe.unet, pipe.text_encoder, pipe.vae):
        model.eval().requires_grad_(False)
    return pipe


ATTENTION = "down_blocks.0.attentions.0"
UNET_LAYERS = (
    f"{ATTENTION}.proj_in",
    f"{ATTENTION}.transformer_blocks.0.attn1.to_q",
    f"{ATTENTION}.transformer_blocks.0.attn2.to_out.0",
    f"{ATTENTION}.transformer_blocks.0.ff.net.0.proj",
    "down_blocks.0.resnets.0.conv1",
    "down_blocks.0.resnets.0.time_emb_proj",
    "down_blocks.0.downsamplers.0.conv",
    "up_blocks.0.resnets.0.conv_shortcut",
)
TEXT_LAYERS = ("encoder.layers.0.self_attn.q_proj", "encoder.layers.1.mlp.fc1")
"""Module paths as transformers 5 has them: kohya's names carry `text_model.` before."""


def kohya_lora(pipe: Any, *, rank: int = 4, alpha: float = 2.0, seed: int = 1) -> dict[str, Tensor]:
    """Tensors of a LoRA on `UNET_LAYERS` and `TEXT_LAYERS`; alpha differs from the rank."""
    made = torch.Generator().manual_seed(seed)
    tensors: dict[str, Tensor] = {}
    for prefix, model, layers in (
        ("lora_unet_", pipe.unet, UNET_LAYERS),
        ("lora_te_text_model_", pipe.text_encoder, TEXT_LAYERS),
    ):
        for layer in layers:
            weight = model.get_submodule(layer).weight
            name = prefix + layer.replace(".", "_")
            ones = [1] * (weight.dim() - 2)
            tensors[f"{name}.lora_down.weight"] = torch.randn((rank, *weight.shape[1:]), generator=made) * 0.2
            tensors[f"{name}.lora_up.weight"] = (
                torch.randn((weight.shape[0], rank, *ones), generator=made) * 0.2
            )
            tensors[f"{name}.alpha"] = torch.tensor(alpha)
    return tensors


def embeddings_of(pipe: Any, *words: Any) -> tuple[Tensor, Tensor]:
    """Embeddings of a prompt and a negative prompt; the arguments are `encode_pair`'s."""
    positive, negative = encode_pair(pipe, *words)
    return positive.embeddings, negative.embeddings


def save_lora(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> Path:
    save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, path, metadata)
    return path


def blob(digits: str, name: str) -> BlobRef:
    return BlobRef(sha256=digits * 32, size=1, name=name)


def checkpoint(digits: str = "ab", name: str = "Little base") -> CheckpointRef:
    return CheckpointRef(
        file=blob(digits, "base.zip"), format="Diffusers", family="sd1", name=name, base_model="SD 1.5"
    )


def lora_ref(name: str, digits: str, strength: float = 0.8, autov3: str = "0123456789ab") -> LoraRef:
    return LoraRef(
        file=blob(digits, f"{name}.safetensors"),
        name=name,
        strength=strength,
        base_model="SD 1.5",
        autov3=autov3,
    )


def job(**changes: Any) -> GenerateJob:
    """A generation of two pictures in two steps."""
    settings: dict[str, Any] = {
        "base": checkpoint(),
        "prompt": "a red house",
        "sampler": "DPM++ 2M Karras",
        "steps": 2,
        "cfg_scale": 7,
        "width": SIZE,
        "height": SIZE,
        "seeds": (11, 12),
        "threads": 1,
    }
    return GenerateJob(**(settings | changes))
