"""A random pipeline of Stable Diffusion 1's shape in very small, LoRA files for it, and jobs.

The autoencoder has 6 latent channels: nothing may take 4 for granted.
"""

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDPMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from safetensors.torch import save_file
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from app.contract.jobs import BlobRef, CheckpointRef, GenerateJob, LoraRef

SIZE = 32
BASE_SHA = "ab" * 32


def small_pipeline(seed: int = 0) -> Any:
    torch.manual_seed(seed)
    letters = [chr(code) for code in range(33, 127)]
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    tokenizer = CLIPTokenizer(
        vocab={word: place for place, word in enumerate(words)}, merges=[], model_max_length=77
    )
    pipe: Any = StableDiffusionPipeline(
        vae=_vae(),
        text_encoder=_text_encoder(len(words)),
        tokenizer=tokenizer,
        unet=_unet(),
        scheduler=DDPMScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            steps_offset=1,
            clip_sample=False,
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    for model in (pipe.unet, pipe.text_encoder, pipe.vae):
        model.eval().requires_grad_(False)
    return pipe


def _text_encoder(words: int) -> CLIPTextModel:
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=words,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=3,
            num_attention_heads=2,
            bos_token_id=words - 2,
            eos_token_id=words - 1,
            pad_token_id=words - 1,
        )
    )


def _unet() -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=6,
        out_channels=6,
        block_out_channels=(16, 32),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=32,
        attention_head_dim=4,
        norm_num_groups=8,
    )


def _vae() -> AutoencoderKL:
    return AutoencoderKL(
        latent_channels=6,
        block_out_channels=(16, 16, 16, 16),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        norm_num_groups=8,
        scaling_factor=0.5,
    )


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
TEXT_LAYERS = ("encoder.layers.0.self_attn.q_proj", "encoder.layers.2.mlp.fc1")
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
