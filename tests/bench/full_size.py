"""`./dev bench full-size [sd1|sdxl|wan]`: checkpoints of true size, with random weights, end to end.

Writes one file with the names and shapes of published ones, recognises it, trains two steps, exports,
draws two steps with the LoRA. Each part runs in a process of its own, so that its peak is its own. On a
CUDA device it runs at the family's own size, with samples a second and the share of the device's peak.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from app.contract.events import Checkpoint, Metric, Picture
from app.contract.jobs import BlobRef, CheckpointRef, GenerateJob, LoraRef, TrainItem, TrainJob
from app.recognition import recognise_file
from tests.bench.report import write_section
from tests.worker.families.single import LISTINGS, empty_models, file_tensors, layout_of, listing_of, plain
from worker import device as devices
from worker.families import catalog
from worker.families.resolve import resolve_params
from worker.inference.generate import run_generate
from worker.inference.pool import PipelinePool
from worker.reporter import NullReporter
from worker.training.recipe import train

LIMIT_GB = 20
SIDE_ON_A_CPU = 256
STEPS = {"cpu": 2, "cuda": 20}
PEAK_FLOPS = {"H100": 989e12, "H200": 989e12, "A100": 312e12, "4090": 165e12, "L40": 181e12}
"""bf16 with dense matrices, from the makers' data sheets."""


def plan(name: str) -> tuple[bytes, dict[str, tuple[int, ...]], int]:
    """The file's start (length and header), shapes by name in the file's order, and bytes of all tensors."""
    layout = layout_of(name)
    models = empty_models(layout)
    if listing_of(layout, models) != LISTINGS[name]:
        sys.exit(f"The names or shapes of {name} are no longer those of published files.")
    shapes = {
        key: tuple(tensor.shape)
        for part in layout.parts
        for key, tensor in file_tensors(part, plain(models[part.name]), models[part.name].state_dict())
    }
    start, end = start_of(shapes)
    return start, shapes, end


def start_of(shapes: Mapping[str, tuple[int, ...]]) -> tuple[bytes, int]:
    """Length and header of a file of fp16 tensors, and the bytes of all tensors."""
    entries, end = {}, 0
    for key, shape in shapes.items():
        begin, end = end, end + 2 * int(np.prod(shape))
        entries[key] = {"dtype": "F16", "shape": shape, "data_offsets": [begin, end]}
    header = json.dumps(entries).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header, end


def write_checkpoint(name: str, path: Path) -> None:
    """Random fp16 weights under published names."""
    start, shapes, _ = plan(name)
    write_random(path, start, shapes)


def write_random(path: Path, start: bytes, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """One tensor after the other."""
    noise = np.random.default_rng(1).standard_normal(1 << 22, np.float32)
    with path.open("wb") as file:
        file.write(start)
        for key, shape in shapes.items():
            file.write(weights(key, shape, noise).tobytes())


def weights(key: str, shape: tuple[int, ...], noise: np.ndarray) -> np.ndarray:
    """Numbers that keep a signal finite: ones for norms, zeros for biases, 1/√(inputs) for the rest."""
    count = int(np.prod(shape))
    if key.endswith("bias") or len(shape) < 2:
        return np.full(count, 0.0 if key.endswith("bias") else 1.0, np.float16)
    scale = 0.02 if "embedding" in key else float(np.prod(shape[1:])) ** -0.5
    return (np.resize(noise, count) * scale).astype(np.float16)


class Watch(NullReporter):
    """Also keeps when each event came."""

    def __init__(self) -> None:
        super().__init__()
        self.times: list[float] = []

    def report(self, event: Any) -> None:
        super().report(event)
        self.times.append(time.monotonic())

    def between_steps(self) -> float:
        """Mean seconds from one finished step to the next, the first left out."""
        steps = [at for at, event in zip(self.times, self.events, strict=True) if isinstance(event, Metric)]
        return (steps[-1] - steps[0]) / (len(steps) - 1)


def blob(path: Path, digit: str) -> BlobRef:
    """Its hash is only a key here."""
    return BlobRef(sha256=digit * 64, size=path.stat().st_size, name=path.name)


def checkpoint(name: str, folder: Path) -> CheckpointRef:
    spec = catalog.specs()[name]
    file = blob(folder / "checkpoint.safetensors", "a")
    return CheckpointRef(
        file=file, format="SafeTensor", family=name, name="random", base_model=spec.base_model
    )


def side(name: str, device: torch.device) -> int:
    return SIDE_ON_A_CPU if device.type == "cpu" else catalog.specs()[name].resolution


def run_recognise(name: str, folder: Path) -> dict[str, Any]:
    path = folder / "checkpoint.safetensors"
    began = time.monotonic()
    with path.open("rb") as file:
        found = recognise_file(file, path.stat().st_size)
    seconds = time.monotonic() - began
    if (found.family, found.kind) != (name, "checkpoint"):
        sys.exit(f"Recognised as {found.kind} of {found.family}, not as a checkpoint of {name}.")
    return {"seconds": seconds, "words": f"{found.base_model}, {found.precision}"}


def run_train(name: str, folder: Path) -> dict[str, Any]:
    device = devices.choose_device()
    spec, size = catalog.specs()[name], side(name, device)
    picture = folder / "picture.png"
    noise = np.random.default_rng(0).integers(0, 256, (size, size, 3), np.uint8)
    Image.fromarray(noise).save(picture)
    settings = {"max_steps": STEPS[device.type], "epochs": 1, "batch_size": 1, "resolution": size}
    job = TrainJob(
        name="Full size",
        output_name="full-size",
        type="style",
        base=checkpoint(name, folder),
        items=(TrainItem(file=blob(picture, "b"), width=size, height=size, label="noise"),),
        params=resolve_params(spec, "style", "normal", 1, settings),
    )
    files = {"a" * 64: folder / "checkpoint.safetensors", "b" * 64: picture}
    watch = Watch()
    finished = train(job, catalog.load(name), files, folder / "out", watch)
    if finished.outcome != "succeeded":
        sys.exit(f"The training failed: {finished.detail}")
    (exported,) = [event for event in watch.events if isinstance(event, Checkpoint)]
    (folder / "out" / exported.path).rename(folder / "lora.safetensors")
    return {
        "seconds": finished.run_seconds,
        "step": watch.between_steps(),
        "lora": exported.size,
        "side": size,
        "peak": devices.peak_memory(device),
        "flops": step_flops(name, size) if device.type == "cuda" else None,
    }


def step_flops(name: str, size: int) -> int:
    """Operations of one training step, counted on shapes: once forward, and backward as autograd does it."""
    from torch.utils.flop_counter import FlopCounterMode

    unet = empty_models(layout_of(name))["unet"].requires_grad_(False)
    config = unet.config
    latents = torch.zeros(1, config.in_channels, size // 8, size // 8, device="meta", requires_grad=True)
    text = torch.zeros(1, 77, config.cross_attention_dim, device="meta")
    options: dict[str, Any] = {}
    if name == "sdxl":
        told = {
            "text_embeds": torch.zeros(1, 1280, device="meta"),
            "time_ids": torch.zeros(1, 6, device="meta"),
        }
        options["added_cond_kwargs"] = told
    with FlopCounterMode(display=False) as counter:
        unet(latents, torch.zeros(1, device="meta"), text, **options).sample.sum().backward()
    return int(counter.get_total_flops())


def run_generate_part(name: str, folder: Path) -> dict[str, Any]:
    device = devices.choose_device()
    size, lora = side(name, device), folder / "lora.safetensors"
    job = GenerateJob(
        base=checkpoint(name, folder),
        loras=(
            LoraRef(
                file=blob(lora, "c"),
                name="full-size",
                strength=1.0,
                base_model=catalog.specs()[name].base_model,
            ),
        ),
        prompt="a village on a hill, cypress, evening",
        sampler="Euler a",
        steps=STEPS[device.type],
        cfg_scale=7,
        width=size,
        height=size,
        seeds=(1,),
    )
    files = {"a" * 64: folder / "checkpoint.safetensors", "c" * 64: lora}
    reporter = NullReporter()
    pool = PipelinePool(1 << 50, device=device)
    finished = run_generate(job, files, folder / "drawn", reporter, pool)
    if finished.outcome != "succeeded":
        sys.exit(f"The drawing failed: {finished.detail}")
    warm = run_generate(job, files, folder / "drawn", reporter, pool)
    pictures = [event for event in reporter.events if isinstance(event, Picture)]
    return {
        "seconds": finished.run_seconds,
        "warm": warm.run_seconds,
        "peak": devices.peak_memory(device),
        "pictures": len(pictures),
        "side": size,
    }


PARTS: dict[str, Callable[[str, Path], dict[str, Any]]] = {
    "recognise": run_recognise,
    "train": run_train,
    "generate": run_generate_part,
}
CLIPS = ("wan",)
"""Measured by `full_size_clips`, in pieces."""


def in_a_process(part: str, name: str, folder: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.bench.full_size", name, "--part", part, "--folder", str(folder)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(f"{part} of {name} failed.\n{done.stdout}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(name: str) -> list[tuple[str, str]]:
    """Rows of the table."""
    with tempfile.TemporaryDirectory(prefix="bottega-full-size-") as given:
        folder = Path(given)
        path = folder / "checkpoint.safetensors"
        began = time.monotonic()
        write_checkpoint(name, path)
        written = time.monotonic() - began
        size, count = path.stat().st_size / 1e9, LISTINGS[name][0]
        known = in_a_process("recognise", name, folder)
        trained = in_a_process("train", name, folder)
        drawn = in_a_process("generate", name, folder)
    side_of, peak = trained["side"], max(trained["peak"], drawn["peak"]) / 1e9
    return [
        ("the file", f"{size:.2f} GB in {count} tensors, fp16, random; written in {written:.0f} s"),
        ("recognised from its header", f"{known['words']}; {known['seconds'] * 1000:.0f} ms"),
        (f"training at {side_of} px in bf16, all of it", taken(trained)),
        ("one step", speed(trained)),
        ("the LoRA", f"{trained['lora'] / 1e6:.1f} MB"),
        (f"drawing at {side_of} px with the LoRA, loading included", taken(drawn)),
        ("the same again, warm", f"{drawn['warm']:.1f} s"),
        (f"largest peak (target {LIMIT_GB} GB)", f"{peak:.1f} GB{'' if peak <= LIMIT_GB else ': too much'}"),
    ]


def taken(part: dict[str, Any]) -> str:
    return f"{part['seconds']:.0f} s, peak {part['peak'] / 1e9:.1f} GB"


def speed(trained: dict[str, Any]) -> str:
    seconds = trained["step"]
    text = f"{seconds:.2f} s, {1 / seconds:.2f} samples/s"
    if not trained["flops"]:
        return text
    name = torch.cuda.get_device_name()
    peak = next((flops for key, flops in PEAK_FLOPS.items() if key in name), None)
    share = f", {trained['flops'] / seconds / peak:.0%} of the device's peak" if peak else ""
    return f"{text}, {trained['flops'] / seconds / 1e12:.1f} TFLOP/s{share}"


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="./dev bench full-size")
    parser.add_argument("families", nargs="*", help=f"some of {', '.join([*LISTINGS, *CLIPS])}; default: all")
    parser.add_argument("--part", choices=list(PARTS), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if unknown := set(options.families) - {*LISTINGS, *CLIPS}:
        parser.error(f"there is no listing of {', '.join(sorted(unknown))}")
    from tests.bench import full_size_clips  # which takes what is here

    if options.part:
        if options.families[0] in CLIPS:
            print(json.dumps(full_size_clips.PARTS[options.part](options.families[0], options.folder)))
            return
        print(json.dumps(PARTS[options.part](options.families[0], options.folder)))
        return
    for name in options.families or [*LISTINGS, *CLIPS]:
        if name in CLIPS:
            full_size_clips.write(name)
            continue
        write_section(
            f"full-size-{name}",
            f"Full size: {catalog.specs()[name].title}",
            f"./dev bench full-size {name}",
            measure(name),
            text="Random weights: what is measured is whether all of it runs, and what it takes.",
        )


if __name__ == "__main__":
    main(sys.argv[1:])
