"""Adapter names as kohya's sd-scripts write them, which all common programs read, and the way back.

Ours: `model.<module path>` or `text_encoder.<module path>` + `.lora_down.weight`, `.lora_up.weight`,
`.alpha`. Kohya: prefix + path with underscores. transformers 5 dropped `text_model.` from
CLIPTextModel's names, so it is put back where it is absent. SDXL has two text encoders, and its
U-Net's layers are called as in the single file: sd-scripts finds no others. Back comes any spelling
that `app.recognition.lora_keys` knows.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor

from app.recognition.lora_keys import Scale, locate, said_scales, split_key
from app.recognition.unet_names import ARCHITECTURES, Names, spellings

PARTS = ("lora_down.weight", "lora_up.weight", "alpha")
_OURS = {"down": PARTS[0], "up": PARTS[1], "alpha": PARTS[2]}
_TOLD = {"model": "unet", "text_encoder": "text-encoder", "text_encoder_2": "text-encoder-2"}
"""Our word for a part of the model → recognition's."""
SD1_UNET = ARCHITECTURES["sd1"].unet.names
SDXL_UNET = ARCHITECTURES["sdxl"].unet.names

Name = Callable[[str], str]
"""Our name of a module → its name in the file."""


def kohya_name(module: str) -> str:
    """`model.mid_block.attentions.0.proj_in` → `lora_unet_mid_block_attentions_0_proj_in`."""
    part, _, path = module.partition(".")
    if part == "model":
        return "lora_unet_" + path.replace(".", "_")
    return "lora_te_" + _text_path(path)


def sdxl_name(module: str) -> str:
    """`model.mid_block.attentions.0.proj_in` → `lora_unet_middle_block_1_proj_in`."""
    part, _, path = module.partition(".")
    if part == "model":
        return "lora_unet_" + SDXL_UNET.name(path).replace(".", "_")
    return ("lora_te2_" if part == "text_encoder_2" else "lora_te1_") + _text_path(path)


def _text_path(path: str) -> str:
    return f"text_model.{path.removeprefix('text_model.')}".replace(".", "_")


def to_kohya(state: Mapping[str, Tensor], name_of: Name = kohya_name) -> dict[str, Tensor]:
    """All tensors of an adapter under kohya's names. Contiguous, on the CPU, one dtype."""
    renamed: dict[str, Tensor] = {}
    for name, tensor in state.items():
        module, part = split_name(name)
        renamed[f"{name_of(module)}.{part}"] = tensor.detach().cpu().contiguous()
    return renamed


def from_any(
    tensors: Mapping[str, Tensor], modules: Sequence[str], names: Names, metadata: Mapping[str, str]
) -> dict[str, Tensor]:
    """Tensors of a LoRA file in any spelling under our names, each module with its alpha.

    `names` are the network's in single files. ValueError names what fits none of `modules` or is missing.
    """
    table = _table(modules, names)
    found: dict[str, Tensor] = {}
    unknown = []
    for key, tensor in tensors.items():
        stem, kind, part = split_key(key)
        module = table.get(_place(stem)) if kind == "lora" and part in _OURS else None
        name = f"{module}.{_OURS[part]}" if module else ""
        if not module or name in found:
            unknown.append(key)
        else:
            found[name] = tensor
    missing = [
        f"{module}.{part}" for module in modules for part in PARTS[:2] if f"{module}.{part}" not in found
    ]
    if unknown or missing:
        raise ValueError(f"The LoRA has other layers than this training: {_few(sorted(unknown) or missing)}.")
    scale = said_scales(metadata)
    for module in modules:
        found.setdefault(f"{module}.alpha", _alpha(module, found[f"{module}.{PARTS[0]}"], scale))
    return found


def _table(modules: Sequence[str], names: Names) -> dict[tuple[str, str], str]:
    """(part, spelling) → our module."""
    table: dict[tuple[str, str], str] = {}
    for part, told in _TOLD.items():
        paths = [module.removeprefix(f"{part}.") for module in modules if module.startswith(f"{part}.")]
        table |= {(told, flat): f"{part}.{path}" for flat, path in spellings(told, paths, names).items()}
    return table


def _place(stem: str) -> tuple[str, str]:
    part, name = locate(stem)
    return ("unet" if part == "transformer" else part), name


def _alpha(module: str, down: Tensor, scale: Scale) -> Tensor:
    """What stands for the alpha that PEFT's files keep elsewhere or have multiplied in."""
    part, _, path = module.partition(".")
    rank = down.shape[0]
    name = path.removeprefix("text_model.").replace(".", "_")
    return torch.tensor(rank * scale(_TOLD[part], name, rank))


def split_name(name: str) -> tuple[str, str]:
    """`model.x.lora_up.weight` → (`model.x`, `lora_up.weight`)."""
    for part in PARTS:
        if name.endswith(f".{part}"):
            return name.removesuffix(f".{part}"), part
    raise ValueError(f"Not a name of an adapter tensor: {name}")


def _few(names: Iterable[str]) -> str:
    listed = list(names)
    more = f" and {len(listed) - 3} more" if len(listed) > 3 else ""
    return ", ".join(listed[:3]) + more
