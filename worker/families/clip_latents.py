"""What Wan and LTX-Video do alike: latents over time, T5's tokens, LoRA layers in transformer blocks."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from worker.families.base import CheckpointRefused, Latents
from worker.families.checkpoints import read_config


def encode_clips(vae: Any, pixels: Tensor, mean: Tensor, std: Tensor) -> Latents:
    """Pixels [B, 3, T, H, W] in -1…1 → posterior [B, C, t, H/f, W/f], fp32, of mean 0 and deviation 1.

    `mean` and `std` are those of all latents, by channel.
    """
    posterior = vae.encode(pixels.to(vae.device, vae.dtype)).latent_dist
    shift, scale = (value.to(vae.device).view(1, -1, 1, 1, 1).float() for value in (mean, std))
    return Latents((posterior.mean.float() - shift) / scale, posterior.std.float() / scale)


def tokenize(tokenizer: Any, texts: Sequence[str], most: int) -> tuple[Tensor, Tensor]:
    """Texts → token ids and mask [B, T], padded and cut to `most` or to what the tokenizer says of itself."""
    found = tokenizer(
        [" ".join(text.split()) for text in texts],
        padding="max_length",
        max_length=min(most, tokenizer.model_max_length),
        truncation=True,
        return_attention_mask=True,
        return_tensors="pt",
    )
    return found.input_ids, found.attention_mask


def count_tokens(tokenizer: Any, caption: str) -> int:
    """Without the end, before anything is cut off."""
    return len(tokenizer(caption, add_special_tokens=False, verbose=False)["input_ids"])


def block_targets(model: nn.Module, blocks: str) -> tuple[str, ...]:
    """Every linear layer in the transformer's blocks: attention and feed-forward."""
    return tuple(
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and name.startswith(f"{blocks}.")
    )


def check_channels(folder: Path, title: str, latent: str) -> None:
    """Raise CheckpointRefused where the network reads more than latents: it goes on from a picture.

    `latent` is what the autoencoder's configuration calls its channels.
    """
    config = read_config(folder / "transformer" / "config.json")
    channels, wanted = config.get("in_channels"), read_config(folder / "vae" / "config.json").get(latent)
    if channels != wanted or config.get("image_dim"):
        raise CheckpointRefused(
            f"The transformer of this checkpoint reads {channels} channels instead of {wanted}: it goes on "
            f"from a picture and cannot start from text alone. Use the text-to-video form of {title}."
        )


def check_text(clip_skip: int, *, live: bool) -> None:
    """ValueError for what the forms of these families do not offer."""
    if live or clip_skip != 1:
        raise ValueError("The text encoder of this family is not trained, and none of its layers is skipped.")
