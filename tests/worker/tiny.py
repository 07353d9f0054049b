"""Random checkpoints of Stable Diffusion 1's and SDXL's architecture, small enough to train in moments.

Its sizes differ from Stable Diffusion's on purpose: other latent channels, another factor.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DPMSolverMultistepScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from PIL import Image, ImageDraw
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from app.contract.jobs import BlobRef, CheckpointRef, SamplePrompt, TrainItem, TrainJob, TrainParams
from worker.families import catalog

START, END = "<|startoftext|>", "<|endoftext|>"
CAPTIONS = (
    "red house, green hills, day",
    "two towers, snow, night",
    "blue boat, sea, sunset",
    "cypress, golden fields, day",
)


def tiny_base(folder: Path, family: str = "starter") -> Path:
    """Write the checkpoint into `folder`, a diffusers layout; always the same weights."""
    if (folder / "model_index.json").exists():
        return folder
    if catalog.specs()[family].clips:
        from tests.worker.tiny_clips import tiny_clip_pipeline

        tiny_clip_pipeline(family).save_pretrained(folder)
        return folder
    pieces = tiny_models(family, tiny_tokenizer()) | {
        "tokenizer": tiny_tokenizer(),
        "scheduler": tiny_scheduler(),
    }
    pipeline: Any
    if "text_encoder_2" in pieces:
        pipeline = StableDiffusionXLPipeline(**pieces, tokenizer_2=tiny_tokenizer(pad_token="!"))
    else:
        pipeline = StableDiffusionPipeline(
            **pieces, safety_checker=None, feature_extractor=None, requires_safety_checker=False
        )
    pipeline.save_pretrained(folder)
    return folder


def tiny_models(family: str, tokenizer: Any) -> dict[str, Any]:
    """The models of a family's tiny checkpoint by name; those of SDXL for `sdxl`, else of SD1."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        if family == "sdxl":
            return {
                "vae": tiny_vae(force_upcast=True),
                "text_encoder": tiny_text_encoder(tokenizer, num_hidden_layers=3),
                "text_encoder_2": tiny_text_encoder_2(tokenizer),
                "unet": tiny_sdxl_unet(),
            }
        return {
            "vae": tiny_vae(),
            "text_encoder": tiny_text_encoder(tokenizer),
            "unet": tiny_unet(),
        }


def tiny_unet() -> Any:
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=6,
        out_channels=6,
        block_out_channels=(16, 32),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=32,
        attention_head_dim=2,
        norm_num_groups=8,
    )


def tiny_sdxl_unet() -> Any:
    """SDXL's topology: three levels, the first without attention, two layers each."""
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=6,
        out_channels=6,
        block_out_channels=(16, 32, 32),
        layers_per_block=2,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=32 + 24,
        attention_head_dim=(2, 4, 4),
        transformer_layers_per_block=(1, 1, 2),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=20 + 6 * 8,
        norm_num_groups=8,
    )


def tiny_vae(**options: Any) -> Any:
    return AutoencoderKL(
        **options,
        block_out_channels=(8, 16, 16),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        latent_channels=6,
        norm_num_groups=8,
        layers_per_block=1,
        sample_size=64,
        scaling_factor=0.5,
    )


def tiny_text_encoder(tokenizer: Any = None, **options: Any) -> Any:
    return CLIPTextModel(_text_config(tokenizer or tiny_tokenizer(), options))


def tiny_text_encoder_2(tokenizer: Any) -> Any:
    """Another width, and a projection of another width again."""
    options = {"hidden_size": 24, "intermediate_size": 48, "num_hidden_layers": 3, "projection_dim": 20}
    return CLIPTextModelWithProjection(_text_config(tokenizer, options | {"hidden_act": "gelu"}))


def _text_config(tokenizer: Any, options: dict[str, Any]) -> CLIPTextConfig:
    usual = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 77,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    return CLIPTextConfig(**(usual | options))


def tiny_scheduler() -> Any:
    """A sampler's configuration, as the starter has it, not the one that trained it."""
    return DPMSolverMultistepScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        use_karras_sigmas=True,
        steps_offset=1,
    )


def tiny_tokenizer(**options: Any) -> Any:
    """Letters and digits, alone and at the end of a word, and a few merges."""
    letters = [chr(code) for code in range(ord("!"), ord("~") + 1)]
    merges = ["h o", "t o", "s e</w>", "e d</w>", "n i"]
    words = letters + [f"{letter}</w>" for letter in letters]
    words += [merge.replace(" ", "") for merge in merges] + [START, END]
    vocabulary = {word: number for number, word in enumerate(words)}
    pairs: Any = [tuple(merge.split()) for merge in merges]
    return CLIPTokenizer(vocab=vocabulary, merges=pairs, model_max_length=77, **options)


def tiny_pictures(folder: Path, count: int = 4, sizes: Sequence[tuple[int, int]] = ((64, 64),)) -> list[Path]:
    """Pictures of coloured shapes, all different, sizes in turn."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number in range(count):
        width, height = sizes[number % len(sizes)]
        picture = Image.new("RGB", (width, height), (40 * number % 256, 200, 255 - 30 * number % 256))
        corner = 4 + 3 * number % 20
        ImageDraw.Draw(picture).ellipse((corner, 6, corner + 24, 40), fill=(230, 20 * number % 256, 60))
        path = folder / f"{number:03}.png"
        picture.save(path)
        paths.append(path)
    return paths


def blob(path: Path) -> BlobRef:
    content = path.read_bytes()
    return BlobRef(sha256=hashlib.sha256(content).hexdigest(), size=len(content), name=path.name)


PARAMS = TrainParams(
    resolution=64,
    epochs=2,
    repeats=1,
    batch_size=2,
    unet_lr=1e-3,
    network_dim=4,
    network_alpha=2.0,
)
BASE = BlobRef(sha256="b" * 64, size=1, name="tiny")


def tiny_job(pictures: Sequence[Path], *, prompts: int = 0, **changes: Any) -> TrainJob:
    """A job over these pictures. `changes` are fields of the job or, first, of its parameters."""
    params = {name: changes.pop(name) for name in list(changes) if name in TrainParams.model_fields}
    items = []
    for number, path in enumerate(pictures):
        with Image.open(path) as opened:
            width, height = opened.size
        label = CAPTIONS[number % len(CAPTIONS)]
        items.append(TrainItem(file=blob(path), width=width, height=height, label=label))
    values: dict[str, Any] = {
        "name": "Tiny",
        "output_name": "tiny",
        "type": "style",
        "base": CheckpointRef(
            file=BASE, format="Diffusers", family="starter", name="tiny", base_model="Starter 1"
        ),
        "items": tuple(items),
        "params": PARAMS.model_copy(update=params),
        "sample_prompts": tuple(
            SamplePrompt(prompt=CAPTIONS[number], seed=number + 1, width=64, height=64)
            for number in range(prompts)
        ),
        "threads": 1,
    }
    return TrainJob(**(values | changes))


def tiny_files(base: Path, pictures: Sequence[Path]) -> dict[str, Path]:
    """`files` of `recipe.train` for `tiny_job` of the same pictures."""
    return {BASE.sha256: base} | {blob(path).sha256: path for path in pictures}
