"""The layers of Stable Diffusion's U-Nets and text encoders by name, in both spellings.

diffusers and single files (LDM, SGM) number the same blocks differently. Here are the way from one to
the other, and the complete lists of the architectures whose LoRAs are read here, so that a LoRA's key
that belongs nowhere is known from the file's header, without a model.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_OUTER = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
    "mid_block.attentions.0": "middle_block.1",
    "mid_block.resnets.0": "middle_block.0",
    "mid_block.resnets.1": "middle_block.2",
}
_OUTER_NAMES = re.compile(f"(?:{'|'.join(re.escape(name) for name in _OUTER)})(?=\\.|$)")
_BLOCK = re.compile(r"(down|up)_blocks\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)")


class Names(Protocol):
    """The way from diffusers' names of a network to those of single files."""

    def name(self, path: str) -> str:
        """ValueError for a layer that single files do not have."""
        ...


@dataclass(frozen=True)
class UNetNames:
    """The numbering of a U-Net's blocks, which depends on how many layers they have."""

    layers: int
    plain_ups: frozenset[int]
    """Upward blocks without attention: their upsampler has another number."""

    @staticmethod
    def of(config: Mapping[str, Any]) -> "UNetNames":
        kinds = config["up_block_types"]
        plain = frozenset(i for i, kind in enumerate(kinds) if not kind.startswith("CrossAttn"))
        return UNetNames(config["layers_per_block"], plain)

    def name(self, path: str) -> str:
        """`down_blocks.1.attentions.0.proj_in` → `input_blocks.4.1.proj_in`; modules and tensors alike."""
        if outer := _OUTER_NAMES.match(path):
            block, rest = _OUTER[outer[0]], path[outer.end() :]
        elif inner := _BLOCK.match(path):
            block, rest = self._block(inner), path[inner.end() :]
        else:
            raise ValueError(f"Not a name of this U-Net: {path}")
        if ".resnets." in path:
            part = rest[1:].partition(".")[0]
            rest = rest.replace(part, _RESNET[part], 1)
        return _sampler(block, rest)

    def _block(self, match: re.Match[str]) -> str:
        side, outer, kind, inner = match[1], int(match[2]), match[3], int(match[4])
        step = self.layers + 1
        if kind == "downsamplers":
            return f"input_blocks.{step * (outer + 1)}.0"
        if kind == "upsamplers":
            return f"output_blocks.{step * outer + self.layers}.{1 if outer in self.plain_ups else 2}"
        number = step * outer + inner + (1 if side == "down" else 0)
        blocks = "input_blocks" if side == "down" else "output_blocks"
        return f"{blocks}.{number}.{0 if kind == 'resnets' else 1}"


def _sampler(block: str, rest: str) -> str:
    """Downsampling convolutions are called `op` in the file."""
    if block.startswith("input_blocks.") and rest.startswith(".conv") and not block.endswith(".0.0"):
        return f"{block}.op{rest.removeprefix('.conv')}"
    return block + rest


_ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
_TEXT_LAYER = (
    *(f"self_attn.{side}_proj" for side in ("k", "v", "q", "out")),
    "mlp.fc1", "mlp.fc2", "layer_norm1", "layer_norm2",
)  # fmt: skip


@dataclass(frozen=True)
class UNetLayers:
    """A U-Net by its shape: `depths` has the transformer blocks of each level downwards, 0 = no attention.

    `narrow` are the levels whose width is that of the level before.
    """

    depths: tuple[int, ...]
    middle: int
    narrow: frozenset[int]
    layers: int = 2
    micro_conditioned: bool = False

    @property
    def names(self) -> UNetNames:
        upwards = self.depths[::-1]
        return UNetNames(self.layers, frozenset(i for i, depth in enumerate(upwards) if not depth))

    def modules(self) -> Iterator[str]:
        """Everything that has weights, norms too, as diffusers calls it."""
        yield from ("conv_in", "time_embedding.linear_1", "time_embedding.linear_2")
        yield from ("conv_norm_out", "conv_out")
        if self.micro_conditioned:
            yield from ("add_embedding.linear_1", "add_embedding.linear_2")
        last = len(self.depths) - 1
        for level, depth in enumerate(self.depths):
            for layer in range(self.layers):
                widens = layer == 0 and level not in self.narrow
                yield from _layer(f"down_blocks.{level}", layer, depth, shortcut=widens)
            if level < last:
                yield f"down_blocks.{level}.downsamplers.0.conv"
        yield from _layer("mid_block", 0, self.middle, shortcut=False)
        yield from _resnet("mid_block.resnets.1", shortcut=False)
        for level, depth in enumerate(self.depths[::-1]):
            for layer in range(self.layers + 1):
                yield from _layer(f"up_blocks.{level}", layer, depth, shortcut=True)
            if level < last:
                yield f"up_blocks.{level}.upsamplers.0.conv"


def _layer(block: str, layer: int, depth: int, *, shortcut: bool) -> Iterator[str]:
    yield from _resnet(f"{block}.resnets.{layer}", shortcut=shortcut)
    if not depth:
        return
    attention = f"{block}.attentions.{layer}"
    yield from (f"{attention}.norm", f"{attention}.proj_in", f"{attention}.proj_out")
    for number in range(depth):
        inner = f"{attention}.transformer_blocks.{number}"
        yield from (f"{inner}.norm{n}" for n in (1, 2, 3))
        yield from (f"{inner}.attn{n}.{side}" for n in (1, 2) for side in _ATTENTION)
        yield from (f"{inner}.ff.net.0.proj", f"{inner}.ff.net.2")


def _resnet(name: str, *, shortcut: bool) -> Iterator[str]:
    yield from (f"{name}.{part}" for part in _RESNET if shortcut or part != "conv_shortcut")


def text_modules(layers: int, *, projection: bool = False) -> Iterator[str]:
    """Everything that has weights in a CLIP text encoder, as transformers 5 calls it."""
    yield from ("embeddings.token_embedding", "embeddings.position_embedding", "final_layer_norm")
    yield from (f"encoder.layers.{n}.{part}" for n in range(layers) for part in _TEXT_LAYER)
    if projection:
        yield "text_projection"


@dataclass(frozen=True)
class Architecture:
    unet: UNetLayers
    text_encoder: int
    """How many layers it has."""
    text_encoder_2: int = 0

    def parts(self) -> dict[str, list[str]]:
        """Names of all modules by what they belong to."""
        found = {"unet": list(self.unet.modules()), "text-encoder": list(text_modules(self.text_encoder))}
        if self.text_encoder_2:
            found["text-encoder-2"] = list(text_modules(self.text_encoder_2, projection=True))
        return found


_SD = UNetLayers((1, 1, 1, 0), 1, frozenset({0, 3}))
ARCHITECTURES = {
    "starter": Architecture(UNetLayers((0, 1, 1), 1, frozenset({0}), layers=1), 3),
    "sd1": Architecture(_SD, 12),
    "sd2": Architecture(_SD, 23),
    "sdxl": Architecture(UNetLayers((0, 2, 10), 10, frozenset({0}), micro_conditioned=True), 12, 32),
}
"""Those whose every layer is known here, by their names in `bases.BASES`."""


def flat(name: str) -> str:
    """As files with underscores have it."""
    return name.replace(".", "_")


def spellings(part: str, modules: Iterable[str], names: Names) -> dict[str, str]:
    """Every flat name by which LoRAs call these modules → the module's name. Networks have two."""
    found = {flat(_plain_text(module) if part != "unet" else module): module for module in modules}
    if part == "unet":
        for module in list(found.values()):
            try:
                found[flat(names.name(module))] = module
            except ValueError:  # a layer that single files do not have
                continue
    return found


def _plain_text(module: str) -> str:
    return module.removeprefix("text_model.")


@cache
def places(architecture: str) -> Mapping[str, Mapping[str, str]]:
    """By part of the model: every spelling of a module's name → the module. KeyError: not listed here."""
    known = ARCHITECTURES[architecture]
    return {part: spellings(part, found, known.unet.names) for part, found in known.parts().items()}


_NUMBERED = ("attn1.to_q", "attn1.to_k", "attn1.to_v", "attn1.to_out.0", "ff.net.0.proj",
             "attn2.to_q", "attn2.to_k", "attn2.to_v", "attn2.to_out.0")  # fmt: skip
_NUMBERED_TEXT = tuple(f"self_attn.{side}_proj" for side in ("k", "v", "q", "out"))
_NUMBERED_RESNET = ("conv1", "time_emb_proj", "conv2", "conv_shortcut")
_SIDES = {"down": 0, "up": 1, "mid": 2}


def numbered(part: str, modules: Iterable[str], targets: Iterable[str] = ()) -> list[str]:
    """The modules in the order in which cloneofsimo's lora_diffusion (2022-2023) counted them.

    `targets` are the classes that its metadata names. Its order is that of diffusers then: down, up,
    middle; within a block attentions before resnets; within a transformer block attn1, ff, attn2.
    """
    resnets = "ResnetBlock2D" in set(targets)
    ranked = ((_rank(part, module, resnets=resnets), module) for module in modules)
    return [module for rank, module in sorted((r, m) for r, m in ranked if r is not None)]


def _rank(part: str, module: str, *, resnets: bool) -> tuple[int, ...] | None:
    """Where a module stands in that order; None: it is not counted."""
    numbers = tuple(int(number) for number in re.findall(r"\.(\d+)\.", module.replace(".", "..")))
    if part != "unet":
        ending = next((n for n, end in enumerate(_NUMBERED_TEXT) if module.endswith(end)), None)
        return None if ending is None else (*numbers[:1], ending)
    side = _SIDES.get(module.partition("_")[0])
    if side is None:
        return None
    # the middle block has no number of its own
    outer, rest = (numbers[0], numbers[1:]) if side < 2 else (0, numbers)
    if ".transformer_blocks." in module:
        ending = next((n for n, end in enumerate(_NUMBERED) if module.endswith(end)), None)
        return None if ending is None else (side, outer, 0, rest[0], rest[1], ending)
    if resnets and ".resnets." in module:
        ending = next((n for n, end in enumerate(_NUMBERED_RESNET) if module.endswith(end)), None)
        return None if ending is None else (side, outer, 1, rest[0], 0, ending)
    return None
