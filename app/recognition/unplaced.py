"""What of a LoRA has no place in its base model, told from the header alone: nothing is dropped in silence.

Names only: that a layer has the right size is seen when the weights are loaded, and told in the job.
"""

from app.recognition.adapters import Module, every_module
from app.recognition.header import Header
from app.recognition.lora_keys import APPLIED, NUMBERED, numbering, split_key
from app.recognition.unet_names import ARCHITECTURES, numbered, places

MOST_NAMES = 50
"""So many names are kept; all are counted."""


def without_place(header: Header, architecture: str | None) -> list[str]:
    """Layers that the base does not have or that cannot be applied, and tensors that are no LoRA's.

    Names stand as in the file. Empty for an architecture whose layers are not known here.
    """
    if architecture not in ARCHITECTURES:
        return []
    known = _Places(architecture, numbering(header.metadata))
    layers = [
        module.stem
        for module in every_module(header)
        if not (module.is_whole and module.kinds <= APPLIED and known.has(module))
    ]
    return layers + [key for key in header.tensors if not split_key(key).kind]


class _Places:
    """Where layers can go in one architecture; `counted` are the classes that numbers count, by part."""

    def __init__(self, architecture: str, counted: dict[str, tuple[str, ...]]) -> None:
        self.named = places(architecture)
        parts = ARCHITECTURES[architecture].parts()
        self.numbers = {p: len(numbered(p, parts[p], classes)) for p, classes in counted.items()}

    def has(self, module: Module) -> bool:
        if NUMBERED.fullmatch(module.stem):
            return int(module.name) < self.numbers[module.part]
        part = "unet" if module.part == "transformer" else module.part
        return module.name in self.named.get(part, {})


def words_for(names: list[str], title: str) -> str:
    """One sentence for the page, with the first names."""
    many = f"{len(names)} entries have" if len(names) > 1 else "1 entry has"
    few = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
    return f"{many} no place in {title} and will do nothing: {few}"
