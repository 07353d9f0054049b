"""`./dev bench full-size wan`: Wan 2.1 1.3B at true size with random weights, in pieces, end to end.

On a CUDA device a clip of 480p and 33 frames is trained on and drawn. Without one nothing of that can be
told: the section says so, and two steps on a small picture show that a model of this size loads, learns
and is exported. UMT5-XXL is replaced by one layer of its width: its texts are encoded once, before the steps.
"""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from PIL import Image
from transformers import T5Tokenizer, UMT5Config, UMT5EncoderModel

from app.contract.events import Checkpoint, Picture
from app.contract.jobs import BlobRef, CheckpointRef, GenerateJob, LoraRef, TrainItem, TrainJob
from app.recognition import recognise_file
from tests.bench import full_size
from tests.bench.clip_memory import build, numbers
from tests.bench.report import write_section
from worker import device as devices
from worker.families import catalog
from worker.families.resolve import resolve_params
from worker.families.single_file import empty_model
from worker.inference.clip_files import write_clip
from worker.inference.generate import run_generate
from worker.inference.pool import PipelinePool
from worker.reporter import NullReporter
from worker.training.recipe import train

WIDTH, HEIGHT, FRAMES, FPS = 832, 480, 33, 16
SMALL = 64
STEPS = {"cpu": 2, "cuda": 20}
KNOWN = {"wan": 1_418_996_800}
"""Numbers in the published transformer."""
FREE = 10 << 30
"""Bytes of memory without which a CPU does not try."""
NOT_RUN = "not run: this machine has no CUDA device"
TEXT_WIDTH = 4096


def shapes_of(name: str, part_name: str) -> dict[str, tuple[int, ...]]:
    """One model's tensors under the names of published files."""
    family: Any = catalog.load(name)
    part, config = family.layout.part(part_name), family.layout.config(part_name)
    weights = empty_model(part.kind, config).state_dict()
    return {part.names(key, config).key: tuple(tensor.shape) for key, tensor in weights.items()}


def write_pieces(name: str, folder: Path) -> None:
    """transformer.safetensors, vae.safetensors and text/, with random weights."""
    for part in ("transformer", "vae"):
        shapes = shapes_of(name, part)
        full_size.write_random(folder / f"{part}.safetensors", full_size.start_of(shapes)[0], shapes)
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    tokenizer = T5Tokenizer(
        vocab=pieces + [(chr(code), -3.0) for code in range(ord("!"), ord("~") + 1)],
        extra_ids=0,
        model_max_length=512,
    )
    config = UMT5Config(
        vocab_size=len(tokenizer), d_model=TEXT_WIDTH, d_kv=64, d_ff=512, num_heads=8, num_layers=1,
        feed_forward_proj="gated-gelu",
    )  # fmt: skip
    UMT5EncoderModel(config).save_pretrained(folder / "text" / "text_encoder")
    tokenizer.save_pretrained(folder / "text" / "tokenizer")


def files_of(folder: Path) -> dict[str, Path]:
    named = {"a": "transformer.safetensors", "b": "vae.safetensors", "c": "text"}
    return {digit * 64: folder / name for digit, name in named.items()}


def checkpoint(name: str, folder: Path) -> CheckpointRef:
    text = BlobRef(sha256="c" * 64, size=0, name="text")
    return CheckpointRef(
        file=full_size.blob(folder / "transformer.safetensors", "a"),
        format="SafeTensor",
        family=name,
        name="random",
        base_model=catalog.specs()[name].base_model,
        vae=full_size.blob(folder / "vae.safetensors", "b"),
        text_encoder=text,
    )


def run_recognise(name: str, folder: Path) -> dict[str, Any]:
    path = folder / "transformer.safetensors"
    with path.open("rb") as file:
        found = recognise_file(file, path.stat().st_size)
    if found.base_model != catalog.specs()[name].base_model:
        sys.exit(f"Recognised as {found.base_model}, not as {name}.")
    return {"words": f"{found.base_model}, {found.precision}"}


def training_item(folder: Path, device: torch.device) -> tuple[TrainItem, Path]:
    """A clip, or without a device a small picture."""
    rng = np.random.default_rng(0)
    if device.type == "cpu":
        path = folder / "picture.png"
        Image.fromarray(rng.integers(0, 256, (SMALL, SMALL, 3), np.uint8)).save(path)
        return TrainItem(file=full_size.blob(path, "d"), width=SMALL, height=SMALL, label="noise"), path
    path = folder / "clip.mp4"
    write_clip(path, rng.integers(0, 256, (FRAMES, HEIGHT, WIDTH, 3), np.uint8), FPS, "")
    item = TrainItem(
        file=full_size.blob(path, "d"), width=WIDTH, height=HEIGHT, label="noise", frames=FRAMES, fps=FPS
    )
    return item, path


def run_train(name: str, folder: Path) -> dict[str, Any]:
    device, spec = devices.choose_device(), catalog.specs()[name]
    item, path = training_item(folder, device)
    settings = {"max_steps": STEPS[device.type], "epochs": 1, "batch_size": 1, "clip_frames": FRAMES}
    params = resolve_params(spec, "style", "normal", 1, settings)
    if device.type == "cpu":
        params = params.model_copy(update={"resolution": SMALL, "gradient_checkpointing": False})
    job = TrainJob(
        name="Full size",
        output_name="full-size",
        type="style",
        base=checkpoint(name, folder),
        items=(item,),
        params=params,
    )
    watch = full_size.Watch()
    files = files_of(folder) | {"d" * 64: path}
    finished = train(job, catalog.load(name), files, folder / "out", watch)
    if finished.outcome != "succeeded":
        sys.exit(f"The training failed: {finished.detail}")
    (exported,) = [event for event in watch.events if isinstance(event, Checkpoint)]
    (folder / "out" / exported.path).rename(folder / "lora.safetensors")
    return {
        "seconds": finished.run_seconds,
        "step": watch.between_steps(),
        "lora": exported.size,
        "peak": devices.peak_memory(device),
        "flops": step_flops(name) if device.type == "cuda" else None,
    }


def step_flops(name: str, width: int = WIDTH, height: int = HEIGHT, frames: int = FRAMES) -> int:
    """Operations of one training step, counted on shapes: forward, and backward through frozen weights."""
    from torch.utils.flop_counter import FlopCounterMode

    network = build(name).network
    shape = (1, network.config.in_channels, (frames - 1) // 4 + 1, height // 8, width // 8)
    latents = torch.zeros(shape, device="meta", requires_grad=True)
    text = torch.zeros(1, 512, network.config.text_dim, device="meta")
    with FlopCounterMode(display=False) as counter:
        network(latents, torch.zeros(1, device="meta"), text).sample.sum().backward()
    return int(counter.get_total_flops())


def run_generate_part(name: str, folder: Path) -> dict[str, Any]:
    device, base_model = devices.choose_device(), catalog.specs()[name].base_model
    lora = folder / "lora.safetensors"
    job = GenerateJob(
        base=checkpoint(name, folder),
        loras=(
            LoraRef(file=full_size.blob(lora, "e"), name="full-size", strength=1.0, base_model=base_model),
        ),
        prompt="a village on a hill, cypress, evening",
        sampler="UniPC",
        steps=STEPS[device.type],
        cfg_scale=5,
        width=WIDTH,
        height=HEIGHT,
        frames=FRAMES,
        shift=5.0,
        seeds=(1,),
    )
    reporter, pool = NullReporter(), PipelinePool(1 << 50, device=device)
    files = files_of(folder) | {"e" * 64: lora}
    finished = run_generate(job, files, folder / "drawn", reporter, pool)
    if finished.outcome != "succeeded":
        sys.exit(f"The drawing failed: {finished.detail}")
    warm = run_generate(job, files, folder / "drawn", reporter, pool)
    return {
        "seconds": finished.run_seconds,
        "warm": warm.run_seconds,
        "peak": devices.peak_memory(device),
        "clips": len([event for event in reporter.events if isinstance(event, Picture)]),
    }


PARTS: dict[str, Callable[[str, Path], dict[str, Any]]] = {
    "recognise": run_recognise,
    "train": run_train,
    "generate": run_generate_part,
}


def counted(name: str) -> list[tuple[str, str]]:
    """What needs no numbers: sizes, and the operations of a step."""
    found = numbers(build(name).network)
    if found != KNOWN[name]:
        sys.exit(f"The transformer of {name} has {found:,} numbers, not {KNOWN[name]:,}.")
    files = [shapes_of(name, part) for part in ("transformer", "vae")]
    gigabytes = sum(full_size.start_of(shapes)[1] for shapes in files) / 1e9
    return [
        ("the transformer", f"{found:,} numbers, as in the published one"),
        ("the files", f"{gigabytes:.2f} GB in {sum(map(len, files))} tensors, fp16, random"),
        (
            f"operations of a step at {WIDTH}×{HEIGHT}, {FRAMES} frames",
            f"{step_flops(name) / 1e12:.1f} TFLOP",
        ),
    ]


def measure(name: str) -> list[tuple[str, str]]:
    """Rows of the table."""
    rows, device = counted(name), devices.choose_device()
    clip = f"{WIDTH}×{HEIGHT}, {FRAMES} frames"
    if device.type == "cpu":
        rows += [(f"training at {clip}", NOT_RUN), (f"drawing {clip}", NOT_RUN)]
        if psutil.virtual_memory().available < FREE:
            return [
                *rows,
                ("two steps on a picture", f"not run: less than {FREE >> 30} GiB of memory are free"),
            ]
    with tempfile.TemporaryDirectory(prefix="bottega-full-size-") as given:
        folder = Path(given)
        write_pieces(name, folder)
        known = full_size.in_a_process("recognise", name, folder)
        trained = full_size.in_a_process("train", name, folder)
        rows += [("recognised from its header", known["words"])]
        what = clip if device.type != "cpu" else f"one picture of {SMALL} px"
        rows += [
            (f"training on {what} in bf16, all of it", full_size.taken(trained)),
            ("one step", full_size.speed(trained)),
            ("the LoRA", f"{trained['lora'] / 1e6:.1f} MB"),
        ]
        if device.type == "cpu":
            return rows
        drawn = full_size.in_a_process("generate", name, folder)
    return [
        *rows,
        (f"drawing {clip} with the LoRA in {STEPS['cuda']} steps, loading included", full_size.taken(drawn)),
        ("the same again, warm", f"{drawn['warm']:.1f} s"),
    ]


def write(name: str) -> None:
    write_section(
        f"full-size-{name}",
        f"Full size: {catalog.specs()[name].title}",
        f"./dev bench full-size {name}",
        measure(name),
        text="Random weights: what is measured is whether all of it runs, and what it takes. The text "
        "encoder has the width of UMT5-XXL and one layer; it is not part of the steps.",
    )
