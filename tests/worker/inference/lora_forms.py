"""LoRAs as other programs write them, for the tiny models of Stable Diffusion 1 and SDXL.

Everything here is written from what those programs do, not with the reader's functions: names by
tables, so that the test would notice a wrong table there.
"""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from tests.worker.tiny import tiny_models, tiny_tokenizer

Tensors = dict[str, Tensor]
RANK, ALPHA = 4, 2.0

SINGLE_FILE = {
    "sd1": {
        "conv_in": "input_blocks.0.0", "conv_out": "out.2", "time_embedding.linear_1": "time_embed.0",
        "time_embedding.linear_2": "time_embed.2", "down_blocks.0.resnets.0": "input_blocks.1.0",
        "down_blocks.0.attentions.0": "input_blocks.1.1",
        "down_blocks.0.downsamplers.0.conv": "input_blocks.2.0.op",
        "down_blocks.1.resnets.0": "input_blocks.3.0", "mid_block.resnets.0": "middle_block.0",
        "mid_block.attentions.0": "middle_block.1", "mid_block.resnets.1": "middle_block.2",
        "up_blocks.0.resnets.0": "output_blocks.0.0", "up_blocks.0.resnets.1": "output_blocks.1.0",
        "up_blocks.0.upsamplers.0.conv": "output_blocks.1.1.conv",
        "up_blocks.1.resnets.0": "output_blocks.2.0", "up_blocks.1.attentions.0": "output_blocks.2.1",
        "up_blocks.1.resnets.1": "output_blocks.3.0", "up_blocks.1.attentions.1": "output_blocks.3.1",
    },
    "sdxl": {
        "conv_in": "input_blocks.0.0", "conv_out": "out.2", "time_embedding.linear_1": "time_embed.0",
        "time_embedding.linear_2": "time_embed.2", "add_embedding.linear_1": "label_emb.0.0",
        "add_embedding.linear_2": "label_emb.0.2",
        "down_blocks.0.resnets.0": "input_blocks.1.0", "down_blocks.0.resnets.1": "input_blocks.2.0",
        "down_blocks.0.downsamplers.0.conv": "input_blocks.3.0.op",
        "down_blocks.1.resnets.0": "input_blocks.4.0", "down_blocks.1.attentions.0": "input_blocks.4.1",
        "down_blocks.1.resnets.1": "input_blocks.5.0", "down_blocks.1.attentions.1": "input_blocks.5.1",
        "down_blocks.1.downsamplers.0.conv": "input_blocks.6.0.op",
        "down_blocks.2.resnets.0": "input_blocks.7.0", "down_blocks.2.attentions.0": "input_blocks.7.1",
        "down_blocks.2.resnets.1": "input_blocks.8.0", "down_blocks.2.attentions.1": "input_blocks.8.1",
        "mid_block.resnets.0": "middle_block.0", "mid_block.attentions.0": "middle_block.1",
        "mid_block.resnets.1": "middle_block.2",
        "up_blocks.0.resnets.0": "output_blocks.0.0", "up_blocks.0.attentions.0": "output_blocks.0.1",
        "up_blocks.0.resnets.1": "output_blocks.1.0", "up_blocks.0.attentions.1": "output_blocks.1.1",
        "up_blocks.0.resnets.2": "output_blocks.2.0", "up_blocks.0.attentions.2": "output_blocks.2.1",
        "up_blocks.0.upsamplers.0.conv": "output_blocks.2.2.conv",
        "up_blocks.1.resnets.0": "output_blocks.3.0", "up_blocks.1.attentions.0": "output_blocks.3.1",
        "up_blocks.1.resnets.1": "output_blocks.4.0", "up_blocks.1.attentions.1": "output_blocks.4.1",
        "up_blocks.1.resnets.2": "output_blocks.5.0", "up_blocks.1.attentions.2": "output_blocks.5.1",
        "up_blocks.1.upsamplers.0.conv": "output_blocks.5.2.conv",
        "up_blocks.2.resnets.0": "output_blocks.6.0", "up_blocks.2.resnets.1": "output_blocks.7.0",
        "up_blocks.2.resnets.2": "output_blocks.8.0",
    },
}  # fmt: skip
"""Block of the tiny U-Net in diffusers' words → in LDM's and SGM's."""
RESNET = {
    "conv1": "in_layers.2", "conv2": "out_layers.3", "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}  # fmt: skip
ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")


def models(family: str) -> Any:
    """U-Net and text encoders of the tiny checkpoint, as a pipeline has them."""
    found = tiny_models(family, tiny_tokenizer())
    for model in found.values():
        model.eval().requires_grad_(False)
    return SimpleNamespace(**found)


@dataclass(frozen=True)
class Layer:
    """One layer: `part` is the pipeline's attribute, `path` has no `text_model.`."""

    part: str
    path: str
    module: Any

    @property
    def key(self) -> str:
        return f"{self.part}.{self.path}"

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.module.weight.shape)


def layers_of(pipe: Any, kinds: tuple[type[nn.Module], ...] = (nn.Linear, nn.Conv2d)) -> list[Layer]:
    return [
        Layer(part, name.removeprefix("text_model."), module)
        for part in ("unet", "text_encoder", "text_encoder_2")
        if hasattr(pipe, part)
        for name, module in getattr(pipe, part).named_modules()
        if isinstance(module, kinds) and name != "text_projection"
    ]


def weights(pipe: Any) -> Tensors:
    """Every parameter by layer and own name, copied."""
    return {
        f"{part}.{name.removeprefix('text_model.')}": tensor.detach().clone()
        for part in ("unet", "text_encoder", "text_encoder_2")
        if hasattr(pipe, part)
        for name, tensor in getattr(pipe, part).named_parameters()
    }


def draw(shape: tuple[int, ...], seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 0.2


@dataclass
class Pair:
    """A plain LoRA's tensors for one layer."""

    layer: Layer
    down: Tensor
    up: Tensor


def pairs(layers: list[Layer], rank: int = RANK) -> list[Pair]:
    found = []
    for number, layer in enumerate(layers):
        out, *rest = layer.shape
        ones = [1] * (len(rest) - 1)
        found.append(Pair(layer, draw((rank, *rest), 2 * number), draw((out, rank, *ones), 2 * number + 1)))
    return found


def single_file_name(family: str, path: str) -> str:
    for ours, theirs in SINGLE_FILE[family].items():
        if path == ours or path.startswith(f"{ours}."):
            rest = path[len(ours) :]
            for part, name in RESNET.items() if ".resnets." in path else ():
                rest = rest.replace(f".{part}", f".{name}")
            return theirs + rest
    raise AssertionError(path)


@dataclass(frozen=True)
class Form:
    """A way to write a LoRA: names of layers, endings of tensors, what becomes of alpha."""

    name: str
    stem: Callable[[str, Layer], str]
    ends: tuple[str, str]
    alpha: str = "folded"
    """`tensor`, `folded` into up, or `metadata`."""
    takes: Callable[[Layer], bool] = field(default=lambda _: True)

    def write(self, family: str, given: list[Pair]) -> tuple[Tensors, dict[str, str]]:
        tensors: Tensors = {}
        for pair in given:
            stem = self.stem(family, pair.layer)
            scale = ALPHA / RANK if self.alpha == "folded" else 1.0
            tensors[stem + self.ends[0]] = pair.down
            tensors[stem + self.ends[1]] = pair.up * scale
            if self.alpha == "tensor":
                tensors[f"{stem}.alpha"] = torch.tensor(ALPHA)
        parts = {pair.layer.part for pair in given}
        config = {
            f"{part}.{name}": value for part in parts for name, value in (("r", RANK), ("lora_alpha", ALPHA))
        }
        return tensors, {"lora_adapter_metadata": json.dumps(config)} if self.alpha == "metadata" else {}


KOHYA = (".lora_down.weight", ".lora_up.weight")
LINEAR = (".lora_linear_layer.down.weight", ".lora_linear_layer.up.weight")
PLAIN = (".down.weight", ".up.weight")
PEFT = (".lora_A.weight", ".lora_B.weight")
NUMBER = {"text_encoder": "1", "text_encoder_2": "2"}


def flat(name: str) -> str:
    return name.replace(".", "_")


def kohya(family: str, layer: Layer) -> str:
    """sd-scripts on SD1, with diffusers' names."""
    if layer.part == "unet":
        return f"lora_unet_{flat(layer.path)}"
    number = NUMBER[layer.part] if family == "sdxl" else ""
    return f"lora_te{number}_text_model_{flat(layer.path)}"


def kohya_sgm(family: str, layer: Layer) -> str:
    """sd-scripts on SDXL; ai-toolkit on both."""
    if layer.part == "unet":
        return f"lora_unet_{flat(single_file_name(family, layer.path))}"
    return kohya(family, layer)


def kohya_numbered(family: str, layer: Layer) -> str:
    return kohya("sdxl", layer)


def peft(family: str, layer: Layer) -> str:
    return f"{layer.part}." + ("" if layer.part == "unet" else "text_model.") + layer.path


def wrapped(family: str, layer: Layer) -> str:
    return f"base_model.model.{peft(family, layer)}"


def compiled(family: str, layer: Layer) -> str:
    return f"unet._orig_mod.{layer.path}"


def bare(family: str, layer: Layer) -> str:
    return f"base_model.model.{layer.path}"


def text_alone(family: str, layer: Layer) -> str:
    return f"base_model.model.text_model.{layer.path}"


def processor(family: str, layer: Layer) -> str:
    """diffusers until 0.20: `attn1.processor.to_q_lora`, and `to_out_lora` without a number."""
    path = layer.path.removesuffix(".0").replace(".to_", ".processor.to_")
    return f"unet.{path}_lora"


def processor_bare(family: str, layer: Layer) -> str:
    return processor(family, layer).removeprefix("unet.")


def old_text(family: str, layer: Layer) -> str:
    inner, _, last = layer.path.rpartition(".")
    return f"{layer.part}.text_model.{inner}.to_{last.removesuffix('_proj')}_lora"


def one_trainer(family: str, layer: Layer) -> str:
    """Its own form: kohya's prefixes, diffusers' names with dots."""
    if layer.part == "unet":
        return f"lora_unet.{layer.path}"
    number = NUMBER[layer.part] if family == "sdxl" else ""
    return f"lora_te{number}.text_model.{layer.path}"


def omi(family: str, layer: Layer) -> str:
    if layer.part == "unet":
        return f"unet.{single_file_name(family, layer.path)}"
    return f"clip_{'l' if layer.part == 'text_encoder' else 'g'}.text_model.{layer.path}"


def comfy(family: str, layer: Layer) -> str:
    if layer.part == "unet":
        return f"diffusion_model.{single_file_name(family, layer.path)}"
    letter = "l" if layer.part == "text_encoder" else "g"
    return f"text_encoders.clip_{letter}.transformer.text_model.{layer.path}"


def lycoris(family: str, layer: Layer) -> str:
    part = "unet" if layer.part == "unet" else layer.part
    inner = "" if layer.part == "unet" else "text_model_"
    return f"lycoris_{part}_{inner}{flat(layer.path)}"


def twice(family: str, layer: Layer) -> str:
    """Seen in a published file whose author renamed diffusers' keys."""
    return f"lora_unet_unet_{flat(layer.path)}"


def is_unet(layer: Layer) -> bool:
    return layer.part == "unet"


def is_attention(layer: Layer) -> bool:
    return layer.part == "unet" and bool(re.search(r"\.attn[12]\.", layer.path))


def is_text_attention(layer: Layer) -> bool:
    return layer.part != "unet" and ".self_attn." in layer.path


FORMS = (
    Form("kohya", kohya, KOHYA, "tensor"),
    Form("kohya, single file's names", kohya_sgm, KOHYA, "tensor"),
    Form("kohya, numbered text encoder", kohya_numbered, KOHYA, "tensor"),
    Form("PEFT by diffusers", peft, PEFT),
    Form("PEFT by diffusers, alpha in the header", peft, PEFT, "metadata"),
    Form("PEFT, adapter named", wrapped, (".lora_A.default.weight", ".lora_B.default.weight")),
    Form("PEFT, U-Net alone", bare, PEFT, takes=is_unet),
    Form("PEFT, text encoder alone", text_alone, PEFT, takes=lambda layer: layer.part == "text_encoder"),
    Form("torch.compile's name left in", compiled, PEFT, takes=is_unet),
    Form("diffusers before PEFT", peft, (".lora.down.weight", ".lora.up.weight")),
    Form("diffusers, linear layers", peft, LINEAR),
    Form("diffusers' processors", processor, PLAIN, takes=is_attention),
    Form("diffusers' processors, no prefix", processor_bare, PLAIN, takes=is_attention),
    Form("diffusers' old text encoder", old_text, PLAIN, takes=is_text_attention),
    Form("OneTrainer", one_trainer, KOHYA, "tensor"),
    Form("OneTrainer, inside", peft, KOHYA, "tensor"),
    Form("OMI", omi, KOHYA, "tensor"),
    Form("ComfyUI", comfy, KOHYA, "tensor"),
    Form("LyCORIS", lycoris, KOHYA, "tensor"),
    Form("renamed by hand", twice, ("_lora_down.weight", "_lora_up.weight"), takes=is_unet),
)  # fmt: skip


def cloneofsimo(pipe: Any, given: list[Pair]) -> tuple[Tensors, dict[str, str]]:
    """lora_diffusion: layers by number, in the order in which the diffusers of its time built the model."""
    by_key = {pair.layer.key: pair for pair in given}
    tensors: Tensors = {}
    metadata = {"unet": '["CrossAttention", "Attention", "GEGLU"]', "text_encoder": '["CLIPAttention"]'}
    for part, order in (("unet", _unet_order(pipe)), ("text_encoder", _text_order(pipe))):
        for number, path in enumerate(order):
            pair = by_key[f"{part}.{path}"]
            tensors[f"{part}:{number}:down"] = pair.down
            tensors[f"{part}:{number}:up"] = pair.up * (ALPHA / RANK)
            metadata[f"{part}:{number}:rank"] = str(RANK)
    return tensors, metadata


def _unet_order(pipe: Any) -> Iterator[str]:
    unet = pipe.unet
    blocks = [
        *((f"down_blocks.{n}", block) for n, block in enumerate(unet.down_blocks)),
        *((f"up_blocks.{n}", block) for n, block in enumerate(unet.up_blocks)),
        ("mid_block", unet.mid_block),
    ]
    for name, block in blocks:
        for outer, attention in enumerate(getattr(block, "attentions", ())):
            for inner in range(len(attention.transformer_blocks)):
                layer = f"{name}.attentions.{outer}.transformer_blocks.{inner}"
                yield from (f"{layer}.attn1.{side}" for side in ATTENTION)
                yield f"{layer}.ff.net.0.proj"
                yield from (f"{layer}.attn2.{side}" for side in ATTENTION)


def _text_order(pipe: Any) -> Iterator[str]:
    for number in range(pipe.text_encoder.config.num_hidden_layers):
        yield from (f"encoder.layers.{number}.self_attn.{side}_proj" for side in ("k", "v", "q", "out"))
