"""LoRA and its relatives: which kind, how its names are written, its ranks, and the base it was made for.

The base is told by shapes: a layer that reads the text has the width of that base's text encoder. Where only
the metadata knows, it is believed; where both are silent, the base stays unknown.
"""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from app.recognition.bases import MODELSPEC, SS_VERSIONS
from app.recognition.header import Header
from app.recognition.lora_keys import NUMBERED, locate, split_key
from app.recognition.result import AdapterFacts, Algorithm, Naming

_ALGORITHMS: tuple[tuple[str, Algorithm], ...] = (
    ("dora", "DoRA"), ("lokr", "LoKr"), ("loha", "LoHa"), ("glora", "GLoRA"), ("oft", "OFT"), ("ia3", "IA3"),
)  # fmt: skip


@dataclass
class Module:
    """One adapted layer: `name` has underscores and no prefix, `stem` is as it stands in the file."""

    part: str
    name: str
    stem: str
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    kinds: set[str] = field(default_factory=set)

    @property
    def rank(self) -> int | None:
        """Rank of the pair; of LoKr that of its second factor, None where it is whole."""
        shape = next((self.shapes[p] for p in ("down", "w2_b", "w1_b", "a2") if self.shapes.get(p)), None)
        return None if shape is None else shape[0]

    @property
    def width(self) -> int:
        """Numbers that the layer takes in; 0 where the shapes do not say."""
        if "lokr" in self.kinds:
            return self._side("w1", "w1_b") * self._side("w2", "w2_b")
        return self._side("down", "w1_b", "diff")

    def _side(self, *parts: str) -> int:
        shape = next((self.shapes[part] for part in parts if part in self.shapes), ())
        return shape[1] if len(shape) > 1 else 0

    @property
    def is_whole(self) -> bool:
        """Something to add: an `alpha` alone is a name that other models use too."""
        wanted = {"a1", "a2", "b1", "b2"} if self.kinds == {"glora"} else {"down", "up"}
        names = set(self.shapes)
        if self.kinds <= {"lora", "glora", "dora"}:
            return wanted <= names
        return bool(names & {"w1", "w1_a", "w1_b", "diff", "blocks", "input", "norm", "bias"})

    @property
    def is_convolution(self) -> bool:
        """A kernel larger than one pixel."""
        shape = self.shapes.get("mid") or self.shapes.get("down") or ()
        return "t1" in self.shapes or "t2" in self.shapes or (len(shape) > 2 and max(shape[2:]) > 1)


def read_modules(header: Header) -> list[Module]:
    """The adapted layers in the order of the file; empty for what is no adapter."""
    found = [module for module in every_module(header) if module.is_whole]
    if any(module.part == "unet" for module in found):
        for module in found:
            module.part = "unet" if module.part == "transformer" else module.part
    return found


def every_module(header: Header) -> list[Module]:
    """All layers of which the file has any tensor, complete or not."""
    modules: dict[str, Module] = {}
    for key, info in header.tensors.items():
        stem, kind, part = split_key(key)
        if kind:
            if stem not in modules:
                modules[stem] = Module(*locate(stem), stem)
            modules[stem].shapes[part] = info.shape
            modules[stem].kinds.add(kind)
    return list(modules.values())


def naming_of(header: Header) -> Naming:
    """Who writes such names."""
    keys = header.tensors
    if any(NUMBERED.fullmatch(key) for key in keys):
        return "cloneofsimo"
    if any(key.startswith("base_model.model.") for key in keys):
        return "peft"
    if any(key.startswith("lycoris_") for key in keys):
        return "lycoris"
    own = ("lora_transformer_", "lora_unet.", "lora_te.", "lora_te1.", "clip_l.", "unet.input_blocks.")
    if any(key.startswith(own) for key in keys) or "ot_branch" in header.metadata:
        return "onetrainer"
    if any(key.startswith("lora_") for key in keys):
        return _kohya_naming(keys)
    if any(key.startswith(("diffusion_model.", "model.diffusion_model.")) for key in keys):
        return "original"
    if any(".lora_A." in key for key in keys):
        return "diffusers"
    if any(key.endswith(("lora.down.weight", ".lora_linear_layer.down.weight")) for key in keys):
        return "diffusers-old"
    return "unknown"


def _kohya_naming(keys: Iterable[str]) -> Naming:
    ours = [key for key in keys if key.startswith("lora_")]
    if any(key.startswith("lora_unet_unet_") or "." not in key.removesuffix(".weight") for key in ours):
        return "unknown"
    single_file = ("lora_unet_input_blocks_", "lora_unet_output_blocks_", "lora_unet_middle_block_")
    return "kohya-sgm" if any(key.startswith(single_file) for key in ours) else "kohya"


def adapter_facts(header: Header, modules: list[Module]) -> AdapterFacts:
    """Kind, naming, ranks and alpha; `modules` are those of `read_modules`, at least one."""
    ranks = Counter(m.rank for m in modules if m.rank and not m.is_convolution)
    convolutions = Counter(m.rank for m in modules if m.rank and m.is_convolution)
    commonest = (ranks or convolutions).most_common(1)
    return AdapterFacts(
        algorithm=_algorithm(modules),
        naming=naming_of(header),
        rank=commonest[0][0] if commonest else None,
        ranks=tuple(sorted({rank for rank in (*ranks, *convolutions) if rank})[:64]),
        conv_rank=convolutions.most_common(1)[0][0] if convolutions else None,
        alpha=_alpha(header),
        modules=len(modules),
        acts_on=tuple(sorted({m.part for m in modules})),
    )


def _algorithm(modules: list[Module]) -> Algorithm:
    kinds = set().union(*(m.kinds for m in modules))
    special = next((words for kind, words in _ALGORITHMS if kind in kinds), None)
    if special is not None:
        return special
    if "lora" not in kinds:
        return "full difference"
    return "LoCon" if any(m.is_convolution for m in modules if "lora" in m.kinds) else "LoRA"


def _alpha(header: Header) -> float | None:
    """Kohya's `ss_network_alpha`, or what diffusers keeps of PEFT's configuration."""
    metadata = header.metadata
    try:
        if "ss_network_alpha" in metadata:
            return _number(float(metadata["ss_network_alpha"]))
        config = json.loads(metadata.get("lora_adapter_metadata", "{}"))
        found = next((value for name, value in config.items() if name.endswith("lora_alpha")), None)
        return None if found is None else _number(float(found))
    except (ValueError, TypeError, AttributeError, RecursionError):
        return None


def _number(value: float) -> float | None:
    return value if 0 <= value < 1e6 else None


def said_base(header: Header) -> str | None:
    """The architecture that the metadata names, or None."""
    version = header.metadata.get("ss_base_model_version", "").lower()
    found = next((key for start, key in SS_VERSIONS if version.startswith(start)), None)
    if found is None:
        said = header.metadata.get("modelspec.architecture", "").lower()
        found = next((key for start, key in MODELSPEC if said.startswith(start)), None)
    if found is None and header.metadata.get("ss_v2") == "True":
        return "sd2"
    return found
