"""Adapter names as kohya's sd-scripts write them, which all common programs read.

Ours: `model.<module path>` or `text_encoder.<module path>` + `.lora_down.weight`, `.lora_up.weight`,
`.alpha`. Kohya: prefix + path with underscores. transformers 5 dropped `text_model.` from
CLIPTextModel's names, so it is put back where it is absent. SDXL has two text encoders, and its
U-Net's layers are called as in the single file: sd-scripts finds no others.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

from torch import Tensor

from worker.families.ldm_keys import UNetNames

PARTS = ("lora_down.weight", "lora_up.weight", "alpha")
SDXL_UNET = UNetNames(layers=2, plain_ups=frozenset({2}))

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


def from_kohya(
    tensors: Mapping[str, Tensor], modules: Sequence[str], name_of: Name = kohya_name
) -> dict[str, Tensor]:
    """Tensors of a kohya file under our names. ValueError names what fits none of `modules`."""
    ours = {f"{name_of(module)}.{part}": f"{module}.{part}" for module in modules for part in PARTS}
    unknown = sorted(set(tensors) - set(ours))
    missing = sorted(set(ours) - set(tensors))
    if unknown or missing:
        raise ValueError(f"The LoRA has other layers than this training: {_few(unknown or missing)}.")
    return {ours[name]: tensor for name, tensor in tensors.items()}


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
