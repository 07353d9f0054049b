"""Wan's architecture: UMT5 reads the text, a transformer over space and time, a causal autoencoder.

Shared by the families that have it; sizes and factors are read from the checkpoint's own configuration.
Wan 2.2 A14B has the transformer twice: `model` for noise levels from `boundary` on, `model_2` below.
Steps train them in turns, each on its own levels.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLWan, WanPipeline, WanTransformer3DModel
from torch import Tensor
from transformers import UMT5EncoderModel

from app.contract.family import FamilySpec
from app.recognition.transformer_names import WanNames
from worker.draws import Draws
from worker.families.base import NOTHING, Batch, CheckpointRefused, Chosen, Cond, Latents, LoraTargets, Parts
from worker.families.checkpoints import Layout, Source, open_checkpoint, read_config
from worker.families.clip_latents import (
    block_targets,
    check_channels,
    check_text,
    count_tokens,
    encode_clips,
    tokenize,
)
from worker.families.clip_names import wan_place, wan_vae_place
from worker.families.diffusion_model_keys import from_diffusion_model, to_diffusion_model
from worker.families.epsilon import Predict
from worker.families.flow import LEVELS, flow_loss
from worker.families.latent_unet import frozen
from worker.families.single_file import Part, SingleFile, as_it_is

MOST_TOKENS = 512
"""Of a text. Padding counts: the transformer looks at it, so that training and drawing pad alike."""
BOUNDARY = 0.875
"""Of Wan 2.2 A14B, where the checkpoint does not say it."""
NAMES = WanNames()
KNOWN = {
    (1536, 16): "Wan 2.1 1.3B",
    (5120, 16): "Wan 14B (2.1, or one of the two networks of 2.2)",
    (5120, 36): "a Wan 14B that goes on from a picture",
    (3072, 48): "Wan 2.2 5B",
}
"""By the transformer's width and the channels that it reads."""
VAE = Part(
    "vae",
    AutoencoderKLWan,
    ("", "vae."),
    wan_vae_place,
    lacking=(
        "holds no VAE of Wan. Choose one for it: a .safetensors file of the type VAE, with Wan's names or "
        "those of diffusers."
    ),
    our_mark="encoder.conv_in.weight",
)


@dataclass(frozen=True)
class Variant:
    """What tells a member of this architecture from the others."""

    latent_channels: int = 16
    experts: bool = False
    each_token_timed: bool = False
    """Noise levels are told for each token while drawing, so that a first frame can be kept."""


def layout(title: str, variant: Variant, configs: Path | None = None) -> Layout:
    """How checkpoints of this architecture lie on disk; in single files only with `configs`."""
    networks = ("transformer", "transformer_2") if variant.experts else ("transformer",)
    parts = (
        *(_network(name, title) for name in networks),
        VAE,
        Part("text_encoder", UMT5EncoderModel, ("",), as_it_is),
    )
    return Layout(title, parts, configs=configs, check_transformer=_check(title, variant), sizes=_sizes)


def _network(name: str, title: str) -> Part:
    return Part(
        name,
        WanTransformer3DModel,
        ("", "model.diffusion_model.", "diffusion_model."),
        wan_place,
        lacking=f"holds no transformer of {title}.",
        complete=_turn,
        our_mark="condition_embedder.time_proj.weight",
    )


def _turn(model: Any) -> None:
    """The angles that tell places apart are no weights."""
    config = model.config
    model.rope = type(model.rope)(config.attention_head_dim, config.patch_size, config.rope_max_seq_len)


def _sizes(layout: Layout, name: str, file: SingleFile) -> dict[str, Any]:
    config = layout.config(name.removesuffix("_2"))
    part = layout.part(name)
    if name == "vae":
        found = file.shape(part, ("quant_conv.weight", "conv1.weight"))
        if found and found[0] != 2 * config["z_dim"]:
            raise CheckpointRefused(
                f"{file.path.name} is a VAE of {found[0] // 2} channels, where {layout.title} has "
                f"{config['z_dim']}. Choose the VAE of {layout.title}."
            )
        return config
    found = file.shape(part, ("patch_embedding.weight",))
    width = config["num_attention_heads"] * config["attention_head_dim"]
    if found and tuple(found[:2]) != (width, config["in_channels"]):
        known = KNOWN.get((found[0], found[1]), f"a transformer of {found[0]} × {found[1]} channels")
        raise CheckpointRefused(
            f"{file.path.name} is {known}, not {layout.title}. Choose its base model anew."
        )
    return config


def _check(title: str, variant: Variant) -> Callable[[Path], None]:
    def check(folder: Path) -> None:
        check_channels(folder, title, "z_dim")
        found = read_config(folder / "vae" / "config.json").get("z_dim")
        two = (folder / "transformer_2").is_dir()
        if (found, two) != (variant.latent_channels, variant.experts):
            known = "Wan 2.2 A14B" if two else "Wan 2.2 5B" if found == 48 else "Wan 2.1"
            raise CheckpointRefused(
                f"This is a checkpoint of {known}, not of {title}. Choose its base model anew."
            )

    return check


@dataclass(frozen=True)
class Wan:
    """A family of this architecture; everything else is in its spec and its variant."""

    spec: FamilySpec
    variant: Variant
    configs: Path | None = None
    """The folder with the configurations of single files; without it there are none."""

    @property
    def layout(self) -> Layout:
        return layout(self.spec.title, self.variant, self.configs)

    def load(self, base: Path, device: torch.device, dtype: torch.dtype, chosen: Chosen = NOTHING) -> Parts:
        source = open_checkpoint(base, self.layout, chosen)
        parts = self._open(source, base, device, dtype)
        parts.chosen = chosen
        self._encoders(parts, source)
        parts.notes = source.notes
        return parts

    def _open(self, source: Source, base: Path, device: torch.device, dtype: torch.dtype) -> Parts:
        cpu = torch.device("cpu")
        low = source.model("transformer_2", dtype) if self.variant.experts else None
        return Parts(
            base=base,
            device=device,
            model=frozen(source.model("transformer", dtype), cpu),
            model_2=None if low is None else frozen(low, cpu),
            boundary=float(source.said("boundary_ratio", None) or BOUNDARY) if self.variant.experts else 1.0,
            tokenizer=source.tokenizer("tokenizer"),
            scheduler=source.noise_schedule(),
        )

    def load_encoders(self, parts: Parts) -> None:
        if parts.text_encoder is None or parts.vae is None:
            self._encoders(parts, open_checkpoint(parts.base, self.layout, parts.chosen))

    def _encoders(self, parts: Parts, source: Source) -> None:
        """The autoencoder in fp32; the text encoder, which is large, as the transformer."""
        if parts.text_encoder is None:
            parts.text_encoder = frozen(source.model("text_encoder", parts.model.dtype), parts.device)
        if parts.vae is None:
            parts.vae = frozen(source.model("vae", torch.float32), parts.device)

    def latent_factor(self, parts: Parts) -> int:
        return int(parts.vae.config.scale_factor_spatial)

    @torch.inference_mode()
    def encode_images(self, parts: Parts, pixels: Tensor) -> Latents:
        config = parts.vae.config
        mean, std = torch.tensor(config.latents_mean), torch.tensor(config.latents_std)
        return encode_clips(parts.vae, pixels, mean, std)

    def encode_captions(self, parts: Parts, captions: Sequence[str], clip_skip: int, *, live: bool) -> Cond:
        check_text(clip_skip, live=live)
        return {"embeddings": embed(parts.tokenizer, parts.text_encoder, captions)}

    def count_tokens(self, parts: Parts, caption: str) -> int:
        return count_tokens(parts.tokenizer, caption)

    def lora_targets(self, parts: Parts) -> LoraTargets:
        return LoraTargets(block_targets(parts.model, "blocks"), (), ())

    def loss(self, parts: Parts, batch: Batch, rng: Draws) -> Tensor:
        if parts.model_2 is None:
            return flow_loss(batch, rng, _predict(parts.model, batch))
        if batch.timesteps is not None:
            return flow_loss(batch, rng, _by_level(parts, batch))
        if batch.turn % 2:
            return flow_loss(batch, rng, _predict(parts.model, batch), (parts.boundary, 1.0))
        return flow_loss(batch, rng, _predict(parts.model_2, batch), (0.0, parts.boundary))

    def prediction_type(self, parts: Parts) -> str:  # noqa: ARG002
        return "flow"

    def export_keys(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return to_diffusion_model(state, NAMES)

    def import_keys(
        self, tensors: Mapping[str, Tensor], modules: Sequence[str], metadata: Mapping[str, str]
    ) -> dict[str, Tensor]:
        return from_diffusion_model(tensors, modules, NAMES, metadata)

    def assemble(self, parts: Parts) -> WanPipeline:
        return WanPipeline(
            tokenizer=parts.tokenizer,
            text_encoder=parts.text_encoder,
            vae=parts.vae,
            scheduler=parts.scheduler,
            transformer=parts.model,
            transformer_2=parts.model_2,
            boundary_ratio=parts.boundary if parts.model_2 is not None else None,
            expand_timesteps=self.variant.each_token_timed,
        )

    def pipeline(self, base: Path, dtype: torch.dtype, chosen: Chosen = NOTHING) -> WanPipeline:
        source = open_checkpoint(base, self.layout, chosen)
        parts = self._open(source, base, torch.device("cpu"), dtype)
        self._encoders(parts, source)
        return self.assemble(parts)


@torch.inference_mode()
def embed(tokenizer: Any, text_encoder: Any, texts: Sequence[str]) -> Tensor:
    """Texts → embeddings [B, T, D] in the encoder's precision, zeros behind the end of each."""
    ids, mask = tokenize(tokenizer, texts, MOST_TOKENS)
    ids, mask = ids.to(text_encoder.device), mask.to(text_encoder.device)
    states: Tensor = text_encoder(ids, mask).last_hidden_state
    return states * mask[:, :, None].to(states.dtype)


def _predict(model: Any, batch: Batch) -> Predict:
    embeddings = batch.cond["embeddings"].to(model.dtype)

    def predict(noisy: Tensor, timesteps: Tensor) -> Tensor:
        output: Tensor = model(
            noisy.to(model.dtype), timesteps, encoder_hidden_states=embeddings, return_dict=False
        )[0]
        return output

    return predict


def _by_level(parts: Parts, batch: Batch) -> Predict:
    """Each sample is put to the network that its level belongs to."""

    def predict(noisy: Tensor, timesteps: Tensor) -> Tensor:
        output = torch.zeros_like(noisy)
        high = timesteps >= parts.boundary * LEVELS
        for chosen, model in ((high, parts.model), (~high, parts.model_2)):
            if bool(chosen.any()):
                cond = {name: tensor[chosen] for name, tensor in batch.cond.items()}
                told = _predict(model, replace(batch, cond=cond))(noisy[chosen], timesteps[chosen])
                output = output.index_put((chosen,), told.to(output.dtype))
        return output

    return predict
