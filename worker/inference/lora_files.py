"""LoRA files on a loaded pipeline: read, attach, detach.

A LoRA is added to the weights themselves (W + strength · alpha/rank · up·down, computed in fp32),
so a picture costs the same with and without it, and the untouched weights are kept: detaching puts
the same bits back. Layers are found by asking the loaded model for its names, not by rewriting
key names with patterns; whatever finds no place is reported by name.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from worker.families.ldm_keys import UNetNames
from worker.inference.errors import LoraError

MIN_STRENGTH, MAX_STRENGTH = -1.0, 2.0

# kohya, PEFT, and the two spellings that older diffusers wrote
_PARTS = re.compile(
    r"^(?P<stem>.+?)(?:"
    r"\.lora_(?P<kohya>down|up)\.weight|\.lora_(?P<peft>A|B)(?:\.default)?\.weight"
    r"|[._]lora(?:_linear_layer)?\.(?P<old>down|up)\.weight|(?:\.lora)?\.(?P<alpha>alpha))$"
)
_UNET_PREFIXES = ("lora_unet_", "unet_")
_TEXT_PREFIXES = {
    "lora_te1_": "text_encoder.",
    "lora_te2_": "text_encoder_2.",
    "lora_te_": "text_encoder.",
    "text_encoder_2_": "text_encoder_2.",
    "text_encoder_": "text_encoder.",
}


@dataclass(frozen=True)
class LoraUse:
    """One LoRA file and how strongly it acts on the U-Net and on the text encoder."""

    path: Path
    sha256: str
    name: str
    unet: float
    text_encoder: float


@dataclass(frozen=True)
class Layer:
    """The low-rank pair of one module: down [rank, in, …], up [out, rank, …], scale = alpha / rank."""

    down: Tensor
    up: Tensor
    scale: float

    def delta(self, weight: Tensor, strength: float) -> Tensor:
        """What to add to `weight`, fp32, on its device and in its shape."""
        up = self.up.to(weight.device, torch.float32).flatten(1)
        down = self.down.to(weight.device, torch.float32).flatten(1)
        return (up @ down).mul_(self.scale * strength).view(weight.shape)

    def fits(self, weight: Tensor) -> bool:
        rank = self.down.shape[0]
        return (
            rank > 0
            and self.up.numel() == self.up.shape[0] * rank
            and self.up.shape[0] == weight.shape[0]
            and self.down[0].numel() == weight[0].numel()
        )


@dataclass(frozen=True)
class LoraFile:
    """Layers by module: `unet.…`, `text_encoder.…` or `text_encoder_2.…` with dots as underscores.

    `unread` are other keys.
    """

    layers: dict[str, Layer]
    unread: list[str]

    def renamed(self, names: Mapping[str, str]) -> "LoraFile":
        """With other names for some modules."""
        return LoraFile({names.get(name, name): layer for name, layer in self.layers.items()}, self.unread)


@dataclass
class LoraSwitch:
    """The LoRAs of one pipeline. Not for several threads."""

    pipe: Any
    _kept: dict[str, Tensor] = field(default_factory=dict)
    _attached: tuple[LoraUse, ...] = ()
    _notes: list[str] = field(default_factory=list)

    def attach(self, uses: Sequence[LoraUse]) -> list[str]:
        """Make exactly these LoRAs act; return notes for the user on layers without a place.

        LoraError where a file is unreadable, fits nothing, is named twice, or its strength is out of range:
        then no LoRA acts.
        """
        if tuple(uses) == self._attached:
            return self._notes
        self.detach()
        _check(uses)
        modules, others = lora_modules(self.pipe), file_names(self.pipe.unet)
        files = [(use, *_place(use, read_lora(use.path, use.name).renamed(others), modules)) for use in uses]
        try:
            for name in dict.fromkeys(name for _, layers, _ in files for name in layers):
                acting = [(use, layers[name]) for use, layers, _ in files if name in layers]
                self._add(name, modules[name], acting)
        except BaseException:
            self.detach()
            raise
        self._attached, self._notes = tuple(uses), [note for _, _, note in files if note]
        return self._notes

    def _add(self, name: str, module: nn.Module, acting: list[tuple[LoraUse, Layer]]) -> None:
        weight = module.get_parameter("weight")
        strengths = [use.unet if name.startswith("unet.") else use.text_encoder for use, _ in acting]
        if not any(strengths):
            return
        total = weight.detach().to(torch.float32, copy=True)
        for (_, layer), strength in zip(acting, strengths, strict=True):
            total += layer.delta(weight, strength)
        self._kept[name] = weight.detach().to("cpu", copy=True)
        with torch.no_grad():
            weight.copy_(total)

    def detach(self) -> None:
        """Put the checkpoint's own weights back, to the bit."""
        modules = lora_modules(self.pipe) if self._kept else {}
        with torch.no_grad():
            for name, weight in self._kept.items():
                modules[name].get_parameter("weight").copy_(weight)
        self._kept, self._attached, self._notes = {}, (), []

    @property
    def kept_bytes(self) -> int:
        return sum(weight.nbytes for weight in self._kept.values())


def _check(uses: Sequence[LoraUse]) -> None:
    seen: set[str] = set()
    for use in uses:
        if use.sha256 in seen:
            raise LoraError(f"The LoRA “{use.name}” is named twice. Remove one of them.")
        seen.add(use.sha256)
        for strength in (use.unet, use.text_encoder):
            if not MIN_STRENGTH <= strength <= MAX_STRENGTH:
                raise LoraError(f"The strength of the LoRA “{use.name}” must be between -1 and 2.")


def lora_modules(pipe: Any) -> dict[str, nn.Module]:
    """Linear and convolution modules of U-Net and text encoder by the names that `LoraFile` uses."""
    found: dict[str, nn.Module] = {}
    for part in ("unet", "text_encoder", "text_encoder_2"):
        model = getattr(pipe, part, None)
        for name, module in model.named_modules() if model is not None else ():
            if isinstance(module, nn.Linear | nn.Conv2d):
                flat = name if part == "unet" else name.removeprefix("text_model.")
                found[f"{part}.{flat.replace('.', '_')}"] = module
    return found


def file_names(unet: Any) -> dict[str, str]:
    """The U-Net's modules as checkpoints in one file call them, which SDXL's LoRAs do too → our names."""
    names = UNetNames.of(unet.config)
    return {
        f"unet.{names.name(name).replace('.', '_')}": f"unet.{name.replace('.', '_')}"
        for name, module in unet.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d)
    }


def _place(
    use: LoraUse, file: LoraFile, modules: dict[str, nn.Module]
) -> tuple[dict[str, Layer], str | None]:
    """The layers that fit, and a note on everything that does not."""
    fitting = {
        name: layer
        for name, layer in file.layers.items()
        if name in modules and layer.fits(modules[name].get_parameter("weight"))
    }
    left_out = [name for name in file.layers if name not in fitting] + file.unread
    if not fitting:
        raise LoraError(
            f"The LoRA “{use.name}” fits no layer of this checkpoint: it needs another base model."
        )
    if not left_out:
        return fitting, None
    names = ", ".join(left_out[:5]) + (", …" if len(left_out) > 5 else "")
    return fitting, f"LoRA “{use.name}”: {len(left_out)} entries have no place here and do nothing: {names}"


def read_lora(path: Path, name: str) -> LoraFile:
    """Read a .safetensors LoRA in kohya's, PEFT's or diffusers' spelling. LoraError if it is none."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise LoraError(f"The file of the LoRA “{name}” cannot be read.") from error
    return parse_lora(tensors, metadata)


def parse_lora(tensors: dict[str, Tensor], metadata: dict[str, str]) -> LoraFile:
    """Sort the tensors of a file into layers.

    A module with a part that this reader does not know (DoRA, LoHa, …) is left out whole.
    """
    groups: dict[str, dict[str, Tensor]] = {}
    keys: dict[str, list[str]] = {}
    unread: list[str] = []
    for key, tensor in tensors.items():
        match = _PARTS.match(key)
        if match is None:
            unread.append(key)
            continue
        part = match["kohya"] or match["old"] or {"A": "down", "B": "up"}.get(match["peft"] or "", "alpha")
        module = module_name(match["stem"])
        groups.setdefault(module, {})[part] = tensor
        keys.setdefault(module, []).append(key)
    foreign = {module_name(key.rsplit(".", 1)[0]) for key in unread}
    foreign |= {module_name(key.split(".", 1)[0]) for key in unread}
    layers: dict[str, Layer] = {}
    for module, parts in groups.items():
        if "down" in parts and "up" in parts and module not in foreign:
            layers[module] = _layer(module, parts, metadata)
        else:
            unread += keys[module]
    return LoraFile(layers, unread)


def _layer(module: str, parts: dict[str, Tensor], metadata: dict[str, str]) -> Layer:
    rank = parts["down"].shape[0]
    alpha = float(parts["alpha"]) if "alpha" in parts else _peft_alpha(module, metadata)
    return Layer(parts["down"], parts["up"], (alpha or rank) / rank if rank else 0.0)


def _peft_alpha(module: str, metadata: dict[str, str]) -> float | None:
    """diffusers writes alpha into the header: `lora_adapter_metadata` = PEFT's LoraConfig as JSON."""
    try:
        config = json.loads(metadata.get("lora_adapter_metadata", "{}"))
    except json.JSONDecodeError:
        return None
    part, _, flat = module.partition(".")
    patterns = config.get(f"{part}.alpha_pattern") or {}
    special = (alpha for name, alpha in patterns.items() if flat.endswith(name.replace(".", "_")))
    alpha = next(special, config.get(f"{part}.lora_alpha"))
    return float(alpha) if alpha is not None else None


def module_name(stem: str) -> str:
    """A key without its ending → the module's name as in `lora_modules` or `file_names`."""
    flat = stem.removeprefix("base_model.model.").replace(".", "_").replace("_processor_to_", "_to_")
    for prefix, part in _TEXT_PREFIXES.items():
        if flat.startswith(prefix):
            inner = flat.removeprefix(prefix).removeprefix("text_model_")
            return part + re.sub(r"self_attn_to_(q|k|v|out)$", r"self_attn_\1_proj", inner)
    for prefix in _UNET_PREFIXES:
        flat = flat.removeprefix(prefix)
    return "unet." + re.sub(r"_to_out$", "_to_out_0", flat)


def autov3(path: Path) -> str:
    """First 12 hex digits of the sha256 of everything after the header, as Civitai and A1111 count it."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        file.seek(8 + int.from_bytes(file.read(8), "little"))
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()[:12]
