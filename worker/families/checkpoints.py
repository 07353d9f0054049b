"""A checkpoint as it lies on disk, opened: a diffusers folder or one .safetensors file.

Both give the same pieces: models by name, tokenizers, the noise schedule. Nothing is looked up
anywhere else: what a single file does not say (configurations, CLIP's vocabulary) the family brings.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import torch
import transformers
from diffusers import DDPMScheduler, FlowMatchEulerDiscreteScheduler
from transformers import AutoTokenizer, CLIPTokenizer

from worker.families.base import NOTHING, CheckpointRefused, Chosen
from worker.families.clip_tokenizer import clip_tokenizer
from worker.families.single_file import Marks, Part, SingleFile, as_it_is

CONTEXTS = {
    768: "Stable Diffusion 1",
    1024: "Stable Diffusion 2",
    1280: "the SDXL refiner",
    2048: "SDXL",
}
"""Numbers that a U-Net reads for each token, by architecture."""
REFINER = 1280
READS_TEXT = "attn2.to_k.weight"
DIFFUSERS_VAE = "decoder.mid_block.resnets.0.conv1.weight"
FLOW_FACTS = (
    "use_dynamic_shifting", "base_shift", "max_shift", "base_image_seq_len", "max_image_seq_len",
    "shift_terminal", "time_shift_type",
)  # fmt: skip
"""What a scheduler's configuration says of the shift, where it depends on the size of a clip."""
TEXT_TOO = "Choose one for it: a zip with the folders text_encoder and tokenizer of a diffusers checkpoint."
LOW_NOISE_TOO = "Choose the other one as well: the file for low noise, of the same version."
STEPS_OFFSET = 1
"""`StableDiffusionPipeline` insists on this value; it warns and sets it otherwise."""


@dataclass(frozen=True)
class Layout:
    """What a family's checkpoints consist of. Without `configs` it has no single files."""

    title: str
    parts: tuple[Part, ...]
    tokenizers: tuple[str, ...] = ("tokenizer",)
    configs: Path | None = None
    check_transformer: Callable[[Path], None] | None = None
    """Of an architecture that predicts a flow with a transformer: refuses folders of its relatives."""
    sizes: Callable[["Layout", str, SingleFile], dict[str, Any]] | None = None
    """Of such an architecture: a part's configuration, from the file with its tensors. Refuses relatives."""

    def part(self, name: str) -> Part:
        return next(part for part in self.parts if part.name == name)

    def config(self, name: str) -> dict[str, Any]:
        if self.configs is None:
            raise CheckpointRefused(
                f"{self.title} has no checkpoints in one file. Bring a diffusers folder (model_index.json)."
            )
        found: dict[str, Any] = json.loads((self.configs / f"{name}.json").read_text())
        return found


class Source(Protocol):
    """An opened checkpoint. All verbs raise CheckpointRefused."""

    def model(self, name: str, dtype: torch.dtype) -> Any:
        """One model on the CPU; the numbers stay in the file until they are touched where it has `dtype`."""
        ...

    def tokenizer(self, name: str) -> Any: ...

    def noise_schedule(self) -> Any:
        """The schedule that the checkpoint was trained with, whatever sampler it names."""
        ...

    def said(self, name: str, default: Any) -> Any:
        """What the checkpoint says of itself as a whole (model_index.json)."""
        ...

    @property
    def notes(self) -> list[str]:
        """What the owner should know, once the models are loaded."""
        ...


def open_checkpoint(base: Path, layout: Layout, chosen: Chosen = NOTHING) -> Source:
    """`chosen` counts before what is inside. Raises CheckpointRefused."""
    if base.is_file():
        layout.config(layout.parts[0].name)  # the starters have none, and no single files
        if layout.check_transformer:
            return _open_pieces(base, layout, chosen)
        if chosen.text_encoder or chosen.low_noise:
            raise CheckpointRefused(
                f"Files of {layout.title} hold all but a VAE; choose nothing else for it."
            )
        file, vae = SingleFile(base), SingleFile(chosen.vae) if chosen.vae else None
        check_file(file, layout)
        return _File(file, layout, vae, file.read_marks())
    if chosen.low_noise:
        raise CheckpointRefused(f"{base.name} holds all its networks; choose no file for low noise.")
    folder = find_folder(base)
    check_folder(folder, layout)
    found = _Folder(folder, layout, SingleFile(chosen.vae) if chosen.vae else None)
    if chosen.text_encoder:
        found.text = find_text(chosen.text_encoder)
    return found


def _open_pieces(base: Path, layout: Layout, chosen: Chosen) -> "_Pieces":
    file = SingleFile(base)
    files = {"transformer": file, "vae": SingleFile(chosen.vae) if chosen.vae else file}
    if any(part.name == "transformer_2" for part in layout.parts):
        if chosen.low_noise is None:
            raise CheckpointRefused(
                f"{layout.title} has two networks, and {base.name} is one of them. {LOW_NOISE_TOO}"
            )
        files["transformer_2"] = SingleFile(chosen.low_noise)
    if chosen.text_encoder is None:
        raise CheckpointRefused(f"{base.name} holds no text encoder. {TEXT_TOO}")
    return _Pieces(files, find_text(chosen.text_encoder), layout)


@dataclass
class _Folder:
    folder: Path
    layout: Layout
    vae: SingleFile | None
    text: Path | None = None
    """The folder of another text encoder and its tokenizer."""
    notes: list[str] = field(default_factory=list)

    def model(self, name: str, dtype: torch.dtype) -> Any:
        path = self.folder / name
        if name == "vae" and self.vae:
            return load_vae(self.vae, read_config(path / "config.json"), self.layout, dtype)
        if name == "text_encoder" and self.text:
            path = self.text / name
        return _pretrained(path, self.layout.part(name), dtype)

    def tokenizer(self, name: str) -> Any:
        folder = self.text if self.text and name == "tokenizer" else self.folder
        return _tokenizer(folder / name, AutoTokenizer if self.layout.check_transformer else CLIPTokenizer)

    def said(self, name: str, default: Any) -> Any:
        return read_config(self.folder / "model_index.json").get(name, default)

    def noise_schedule(self) -> Any:
        if self.layout.check_transformer:
            return flow_schedule(read_config(self.folder / "scheduler" / "scheduler_config.json"))
        schedule: DDPMScheduler = DDPMScheduler.from_pretrained(
            self.folder / "scheduler", clip_sample=False, steps_offset=STEPS_OFFSET, local_files_only=True
        )
        return schedule


def _pretrained(path: Path, part: Part, dtype: torch.dtype) -> Any:
    transformers.utils.logging.disable_progress_bar()
    try:
        return part.kind.from_pretrained(
            path, dtype=dtype, local_files_only=True, use_safetensors=True, variant=_variant(path)
        )
    except (OSError, ValueError) as error:
        raise CheckpointRefused(
            f"The part {part.name} of the checkpoint cannot be read. It must be .safetensors with its "
            "config.json beside it."
        ) from error


def _tokenizer(path: Path, kind: Any) -> Any:
    try:
        return kind.from_pretrained(path, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointRefused(
            f"The folder {path.name} of the checkpoint holds no tokenizer. Bring a complete checkpoint."
        ) from error


@dataclass
class _Pieces:
    """A transformer in a file of its own, as most people have it, and what it lacks from elsewhere."""

    files: dict[str, SingleFile]
    """Where each part is, by its name."""
    text: Path
    layout: Layout

    def model(self, name: str, dtype: torch.dtype) -> Any:
        part = self.layout.part(name)
        if name not in self.files:
            return _pretrained(self.text / name, part, dtype)
        file, sizes = self.files[name], self.layout.sizes
        config = sizes(self.layout, name, file) if sizes else self.layout.config(name)
        return file.load(part, config, dtype)

    def tokenizer(self, name: str) -> Any:
        return _tokenizer(self.text / name, AutoTokenizer)

    def said(self, name: str, default: Any) -> Any:
        return self.files["transformer"].metadata.get(name, default)

    def noise_schedule(self) -> Any:
        return flow_schedule(self.layout.config("scheduler"))

    @property
    def notes(self) -> list[str]:
        files = {file.path: file for file in self.files.values()}
        return [note for file in files.values() for note in leftovers(file)]


@dataclass
class _File:
    file: SingleFile
    layout: Layout
    vae: SingleFile | None
    marks: Marks

    def model(self, name: str, dtype: torch.dtype) -> Any:
        part, config = self.layout.part(name), self.layout.config(name)
        if name == "vae" and self.vae:
            return load_vae(self.vae, config, self.layout, dtype)
        return self.file.load(part, config, dtype)

    def tokenizer(self, name: str) -> Any:
        return clip_tokenizer(**self.layout.config(name))

    def said(self, name: str, default: Any) -> Any:
        return self.file.metadata.get(name, default)

    def noise_schedule(self) -> Any:
        config = self.layout.config("scheduler") | {"prediction_type": self.marks.prediction_type}
        if self.marks.zero_terminal_snr:
            config |= {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
        return DDPMScheduler(**config)

    @property
    def notes(self) -> list[str]:
        return leftovers(self.file)


def leftovers(file: SingleFile) -> list[str]:
    """A note on what no model took."""
    unplaced = file.unplaced()
    if not unplaced:
        return []
    names = ", ".join(unplaced[:5]) + (", …" if len(unplaced) > 5 else "")
    return [f"{len(unplaced)} entries of the checkpoint have no place here and do nothing: {names}."]


def flow_schedule(config: Mapping[str, Any]) -> FlowMatchEulerDiscreteScheduler:
    """A straight line from clip to noise, with the shift that a sampler's configuration names."""
    said = {name: config[name] for name in FLOW_FACTS if config.get(name) is not None}
    shift = float(config.get("flow_shift") or config.get("shift") or 1.0)
    return FlowMatchEulerDiscreteScheduler(**(said | {"shift": shift}))


def load_vae(file: SingleFile, config: Mapping[str, Any], layout: Layout, dtype: torch.dtype) -> Any:
    """An autoencoder from a file of its own, in either naming, or from another checkpoint."""
    part = layout.part("vae")
    if DIFFUSERS_VAE in file.shapes:
        return file.load(replace(part, prefixes=("",), names=as_it_is), config, dtype)
    return file.load(replace(part, prefixes=("", *part.prefixes)), config, dtype)


def find_folder(base: Path) -> Path:
    """The folder with model_index.json: `base`, or the only folder in it, as many zips have it."""
    if (base / "model_index.json").is_file():
        return base
    inner = [path for path in base.iterdir() if path.is_dir()] if base.is_dir() else []
    return inner[0] if len(inner) == 1 and (inner[0] / "model_index.json").is_file() else base


def find_text(path: Path) -> Path:
    """The folder with text_encoder and tokenizer: `path`, or a folder in it. CheckpointRefused."""
    inner = sorted(each for each in path.iterdir() if each.is_dir()) if path.is_dir() else []
    for folder in (path, *inner):
        if (folder / "text_encoder").is_dir() and (folder / "tokenizer").is_dir():
            return folder
    raise CheckpointRefused(f"{path.name} is no text encoder that can be used here. {TEXT_TOO}")


def check_folder(folder: Path, layout: Layout) -> None:
    """Raise CheckpointRefused unless `folder` has all parts, and they are of this architecture."""
    names = [*(part.name for part in layout.parts), *layout.tokenizers, "scheduler"]
    if not (folder / "model_index.json").is_file():
        raise CheckpointRefused(
            f"{folder.name} is not a diffusers folder. One of {layout.title} (or a zip of it) has "
            f"model_index.json and the folders {', '.join(names)}."
        )
    missing = [name for name in names if not (folder / name).is_dir()]
    if missing:
        raise CheckpointRefused(
            f"The checkpoint {folder.name} lacks {', '.join(missing)}. Bring a complete one."
        )
    if layout.check_transformer:
        layout.check_transformer(folder)
        return
    config = read_config(folder / "unet" / "config.json")
    latent = read_config(folder / "vae" / "config.json").get("latent_channels", 4)
    check_unet(layout, config.get("in_channels", latent), latent, config.get("cross_attention_dim"))


def check_file(file: SingleFile, layout: Layout) -> None:
    """The same for one file, from its header."""
    unet = layout.part("unet").prefixes[0]
    config, vae = layout.config("unet"), layout.config("vae")
    context = next(
        (shape[-1] for key, shape in file.shapes.items() if key.startswith(unet) and READS_TEXT in key), None
    )
    first = file.shapes.get(f"{unet}input_blocks.0.0.weight", (0, config["in_channels"]))
    check_unet(layout, first[1], vae["latent_channels"], context)


def check_unet(layout: Layout, channels: int, latent: int, context: Any) -> None:
    """Raise CheckpointRefused for the relatives that cannot be trained or drawn with."""
    known = CONTEXTS.get(context) if isinstance(context, int) else None
    if known and layout.configs and context != layout.config("unet")["cross_attention_dim"]:
        raise CheckpointRefused(
            f"This is a checkpoint of {known}, not of {layout.title}. Choose its base model anew."
            if context != REFINER
            else "This is the SDXL refiner: it only finishes pictures of the base model and reads one text "
            "encoder. Train and draw with an SDXL base checkpoint."
        )
    if channels != latent:
        raise CheckpointRefused(
            f"The U-Net of this checkpoint reads {channels} channels instead of {latent}: it fills masks "
            "(inpainting) or follows another picture, and cannot start from text alone. Use the base "
            "checkpoint that it was made from."
        )


def _variant(folder: Path) -> str | None:
    """`fp16` where that is all there is."""
    names = [path.name for path in folder.glob("*.safetensors")]
    return "fp16" if names and all(".fp16." in name for name in names) else None


def read_config(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise CheckpointRefused(
            f"{path.parent.name}/{path.name} of the checkpoint cannot be read."
        ) from error
    return found if isinstance(found, dict) else {}
