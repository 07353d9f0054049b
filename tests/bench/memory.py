"""`./dev bench memory FAMILY … [--computed]`: what trainings take, for the estimate before the start.

Every phase is measured in fresh processes over a few settings, with random weights at true size where no
checkpoint is at hand. `--computed` counts from the shapes of the models instead, without any weights.
Both write `worker/families/FAMILY/memory.json`.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from app.contract.family import DeviceMemory, TrainMemory
from app.contract.jobs import SamplePrompt, TrainParams
from tests.bench.clip_memory import clip_computed, clip_counts
from tests.bench.full_size import write_checkpoint
from tests.bench.meter import peak_of
from tests.bench.report import machine, write_section
from worker import device as devices
from worker.draws import Draws
from worker.families import catalog
from worker.families.base import LoraTargets, Parts
from worker.families.latent_unet import text_targets, unet_targets
from worker.families.memory import BYTES, Figures, adapter_bytes, needs
from worker.families.resolve import resolve_params
from worker.families.single_file import empty_model
from worker.reporter import NullReporter
from worker.starter import WEIGHTS
from worker.training.calibrate import noise_job
from worker.training.dataset import Stream
from worker.training.lora import inject
from worker.training.monitor import Monitor
from worker.training.preview import Occasion, draw_samples
from worker.training.recipe import prepare
from worker.training.run import Task
from worker.training.step import train_step

FAMILIES = Path(catalog.__file__).parent
CPU, META = torch.device("cpu"), torch.device("meta")
MARGIN = 1.1
"""On what was computed: operators' scratch memory is not in it."""
OVERHEAD = {"cpu": 900_000_000, "cuda": 300_000_000}
"""Where nothing was measured: libraries in memory; scratch memory of cuBLAS and cuDNN."""
SETTINGS: tuple[dict[str, Any], ...] = (
    {"batch_size": 1, "precision": "fp32"},
    {"batch_size": 4, "precision": "fp32"},
    {"batch_size": 4, "precision": "fp32", "larger": True},
    {"batch_size": 4, "precision": "fp32", "gradient_checkpointing": True},
    {"batch_size": 4, "precision": "fp32", "gradient_checkpointing": True, "larger": True},
    {"batch_size": 4, "precision": "bf16"},
    {"batch_size": 4, "precision": "bf16", "larger": True},
    {"batch_size": 4, "precision": "bf16", "gradient_checkpointing": True, "larger": True},
)
LARGE_SETTINGS: tuple[dict[str, Any], ...] = (
    {"batch_size": 1, "precision": "bf16", "gradient_checkpointing": False},
    {"batch_size": 2, "precision": "bf16", "gradient_checkpointing": False},
    {"batch_size": 1, "precision": "bf16", "gradient_checkpointing": True},
    {"batch_size": 2, "precision": "bf16", "gradient_checkpointing": True, "larger": True},
)
"""For families of some gigabytes. What is not measured with them stays as it was computed."""
STEPS = 3
SIDE_ON_A_CPU = 256


# --- from shapes -----------------------------------------------------------------------------------------


def models_of(name: str) -> dict[str, Any]:
    """The family's models without weights, at true size."""
    family: Any = catalog.load(name)
    if family.layout.configs is None:
        parts = family.load(WEIGHTS, CPU, torch.float32)
        return {"unet": parts.model.to(META), "vae": parts.vae.to(META), "text_encoder": parts.text_encoder}
    made = {
        part.name: empty_model(part.kind, family.layout.config(part.name)) for part in family.layout.parts
    }
    return {part: model.requires_grad_(False).eval() for part, model in made.items()}


def adapted(name: str, unet: Any, **changes: Any) -> list[Any]:
    """Put an adapter into the U-Net; gives its tensors."""
    params = resolve_params(catalog.specs()[name], "style", "normal", 4, changes)
    parts = Parts(Path(), META, unet, None, None)
    with META:
        adapter = inject(parts, LoraTargets(*unet_targets(unet), ()), params, Draws(0))
    return adapter.parameters("model")


def count(model: Any) -> int:
    return sum(tensor.numel() for tensor in model.parameters())


def counts(name: str) -> dict[str, Any]:
    """The numbers of `TrainMemory`."""
    if catalog.specs()[name].clips:
        return clip_counts(name)
    models = models_of(name)
    texts = [model for part, model in models.items() if part.startswith("text")]
    found = {"model": count(models["unet"]), "text": sum(map(count, texts)), "vae": count(models["vae"])}
    linear = sum(t.numel() for t in adapted(name, models["unet"], network_dim=1, network_alpha=1))
    both = {"network_dim": 1, "network_alpha": 1, "conv_dim": 1, "conv_alpha": 1}
    whole = sum(t.numel() for t in adapted(name, models_of(name)["unet"], **both))
    layers = [text.get_submodule(layer) for text in texts for layer in text_targets(text)]
    sides = sum(layer.in_features + layer.out_features for layer in layers)
    cached = {"latent": latent_bytes(models), "caption": caption_bytes(models["unet"])}
    steps = round(MARGIN * sum(map(text_peak, texts)))
    return found | cached | {
        "rank": linear, "rank_convolutions": whole - linear, "rank_text": sides, "text_step": steps
    }  # fmt: skip


def latent_bytes(models: dict[str, Any]) -> float:
    """Of one pixel: mean and deviation, fp32."""
    return 2 * 4 * models["vae"].config.latent_channels / factor(models) ** 2


def caption_bytes(unet: Any) -> int:
    """Embeddings of 77 tokens, and SDXL's pooled ones, fp32."""
    return 4 * (77 * unet.config.cross_attention_dim + pooled_width(unet))


def pooled_width(unet: Any) -> int:
    config = unet.config
    if config.addition_embed_type != "text_time":
        return 0
    return int(config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim)


def text_peak(encoder: Any) -> int:
    """One caption, forwards and backwards, as if its first layer were trained."""
    encoder.to(META)
    for tensor in encoder.get_submodule(text_targets(encoder)[0]).parameters():
        tensor.requires_grad_(True)
    tokens = min(77, encoder.config.max_position_embeddings)
    return peak_of(encoder, lambda: encoder(torch.zeros(1, tokens, dtype=torch.long)).last_hidden_state)


def unet_peak(name: str, side: int, *, precision: str, checkpointed: bool, cuda: bool) -> int:
    """One picture of `side` pixels, forwards and backwards."""
    models = models_of(name)
    unet = models["unet"]
    adapted(name, unet)
    if checkpointed:
        unet.enable_gradient_checkpointing()
        unet.train()
    bf16 = precision == "bf16"
    if bf16:
        for tensor in unet.parameters():
            if not tensor.requires_grad:
                tensor.data = tensor.data.to(torch.bfloat16)
    return peak_of(unet, lambda: predicted(unet, side // factor(models), 1), bf16=bf16, cuda=cuda)


def factor(models: dict[str, Any]) -> int:
    return int(2 ** (len(models["vae"].config.block_out_channels) - 1))


def predicted(unet: Any, side: int, rows: int) -> torch.Tensor:
    """The U-Net on noise of `side` latents."""
    config = unet.config
    inputs: dict[str, Any] = {"encoder_hidden_states": torch.empty(rows, 77, config.cross_attention_dim)}
    if config.addition_embed_type == "text_time":
        width = pooled_width(unet)
        inputs["added_cond_kwargs"] = {
            "text_embeds": torch.empty(rows, width),
            "time_ids": torch.zeros(rows, 6),
        }
    noise = torch.empty(rows, config.in_channels, side, side)
    return unet(noise, torch.ones(rows, dtype=torch.long), return_dict=False, **inputs)[0]


def vae_peak(name: str, side: int, *, decode: bool) -> int:
    models = models_of(name)
    vae, small = models["vae"], side // factor(models)

    @torch.no_grad()
    def work() -> torch.Tensor:
        if decode:
            return vae.decode(torch.empty(1, vae.config.latent_channels, small, small)).sample
        return vae.encode(torch.empty(1, 3, side, side)).latent_dist.mean

    return peak_of(vae, work)


def slope(name: str, peak: Callable[[int], int]) -> float:
    """Bytes a pixel, with the margin, from two sizes: what does not grow is counted elsewhere."""
    large = catalog.specs()[name].resolution
    small = large // 2
    return round(MARGIN * (peak(large) - peak(small)) / (large**2 - small**2), 1)


def computed(name: str, device: str) -> DeviceMemory:
    if catalog.specs()[name].clips:
        return clip_computed(name, device, OVERHEAD[device], MARGIN)

    def step(checkpointed: bool) -> dict[str, float]:
        def of(precision: str) -> Callable[[int], int]:
            on = {"precision": precision, "checkpointed": checkpointed, "cuda": device == "cuda"}
            return lambda side: unet_peak(name, side, **on)

        return {precision: slope(name, of(precision)) for precision in ("fp32", "bf16")}

    return DeviceMemory(
        overhead=OVERHEAD[device],
        step=step(False),
        step_checkpointed=step(True),
        encode=slope(name, lambda side: vae_peak(name, side, decode=False)),
        draw=slope(name, lambda side: vae_peak(name, side, decode=True)),
    )


# --- from runs -------------------------------------------------------------------------------------------


def settings_of(name: str, chosen: dict[str, Any], device: str) -> TrainParams:
    spec = catalog.specs()[name]
    side = spec.resolution if device == "cuda" else min(spec.resolution, SIDE_ON_A_CPU)
    values = {key: value for key, value in chosen.items() if key != "larger"}
    values["resolution"] = side * 3 // 2 if chosen.get("larger") else side
    return resolve_params(spec, "style", "normal", 4, values)


def hurried(family: Any) -> Any:
    """The family, whose samples are drawn in two steps: a peak needs no more."""
    spec = family.spec
    quick = spec.generation.model_copy(update={"steps": 2})
    return replace(family, spec=spec.model_copy(update={"generation": quick}))


def run_phases(family: Any, base: Path, params: TrainParams) -> dict[str, int]:
    """Peaks of a short run, in this process: caching, training, sampling."""
    device = devices.choose_device()
    devices.prepare(device, 2)
    side = params.resolution
    with tempfile.TemporaryDirectory() as folder:
        job, files = noise_job(family, base, params, Path(folder))
        prompt = SamplePrompt(prompt="a house", width=side, height=side)
        job = job.model_copy(update={"sample_prompts": (prompt,)})
        monitor = Monitor(NullReporter(), STEPS, 1)
        run = prepare(Task(job, hurried(family), files, Path(folder) / "out", monitor, device, Draws(0)))
        found = {"caching": devices.peak_memory(device)}
        devices.reset_peak(device)
        stream = Stream(run.trained, params.batch_size, params.batch_size, run.rng)
        for step in range(STEPS):
            train_step(run, stream.take(step * params.batch_size, params.batch_size), 1.0)
        found["training"] = devices.peak_memory(device)
        devices.reset_peak(device)
        draw_samples(run, Occasion(epoch=0, step=0, name="baseline", baseline=True))
        return found | {"sampling": devices.peak_memory(device)}


def in_a_process(name: str, base: Path, params: TrainParams) -> dict[str, int]:
    command = [sys.executable, "-m", "tests.bench.memory", name, "--base", str(base)]
    command += ["--part", params.model_dump_json()]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    return found


def fitted(facts: TrainMemory, runs: list[tuple[TrainParams, dict[str, int]]], device: str) -> DeviceMemory:
    """Overhead and bytes a pixel that explain the peaks, by least squares; none is above the estimate.

    What no run tells of stays as `facts` have it.
    """
    names = ["overhead", "step fp32", "step bf16", "step_checkpointed fp32", "step_checkpointed bf16"]
    names += ["encode", "draw"]
    rows, values = [], []
    for p, peaks in runs:
        model, encoders = facts.model * BYTES[p.precision], 4 * (facts.text + facts.vae)
        step = f"step{'_checkpointed' if p.gradient_checkpointing else ''} {p.precision}"
        held = model + adapter_bytes(facts, p)
        pixels = p.resolution**2
        for phase, name, times, known in (
            ("training", step, p.batch_size, held),
            ("caching", "encode", 1, encoders + (model if device == "cpu" else 0)),
            ("sampling", "draw", 1, held + encoders),
        ):
            rows.append([1.0 if n == "overhead" else times * pixels * float(n == name) for n in names])
            values.append(float(peaks[phase] - known))
    matrix, wanted = np.array(rows), np.array(values)
    scale = matrix.max(axis=0).clip(min=1)
    found = np.linalg.lstsq(matrix / scale, wanted, rcond=None)[0] / scale
    found = found.clip(min=0)
    found[0] += max(0.0, float((wanted - matrix @ found).max()))
    seen = matrix.any(axis=0)
    by_name = {n: value for n, value, told in zip(names, found.round(1).tolist(), seen, strict=True) if told}
    by_name = known_before(facts, device) | by_name
    return DeviceMemory(
        measured_on=machine(),
        overhead=round(by_name["overhead"]),
        step=_by_precision(by_name, "step"),
        step_checkpointed=_by_precision(by_name, "step_checkpointed"),
        encode=by_name["encode"],
        draw=by_name["draw"],
    )


def _by_precision(by_name: dict[str, float], prefix: str) -> dict[str, float]:
    return {p: by_name[f"{prefix} {p}"] for p in BYTES if f"{prefix} {p}" in by_name}


def known_before(facts: TrainMemory, device: str) -> dict[str, float]:
    on = facts.devices.get(device)
    if on is None:
        return {}
    plain = {f"step {p}": value for p, value in on.step.items()}
    return plain | {f"step_checkpointed {p}": value for p, value in on.step_checkpointed.items()}


# --- both ------------------------------------------------------------------------------------------------


def path_of(name: str) -> Path:
    return FAMILIES / name / "memory.json"


def facts_of(name: str) -> TrainMemory:
    """Counted now; what is known of devices is as it was."""
    path = path_of(name)
    before = TrainMemory.model_validate_json(path.read_text()).devices if path.exists() else {}
    return TrainMemory(**counts(name), devices=before)


def write_facts(name: str, found: dict[str, DeviceMemory]) -> TrainMemory:
    """Replace what is known for these kinds of device."""
    facts = facts_of(name)
    facts = facts.model_copy(update={"devices": facts.devices | found})
    path_of(name).write_text(facts.model_dump_json(indent=2) + "\n")
    return facts


def measure(name: str) -> list[tuple[str, str]]:
    device = devices.choose_device().type
    large = name != "starter"
    planned = [settings_of(name, chosen, device) for chosen in (LARGE_SETTINGS if large else SETTINGS)]
    with tempfile.TemporaryDirectory(prefix="bottega-memory-") as folder:
        base = Path(folder) / "checkpoint.safetensors" if large else WEIGHTS
        if large:
            write_checkpoint(name, base)
        runs = [(params, in_a_process(name, base, params)) for params in planned]
    facts = write_facts(name, {device: fitted(facts_of(name), runs, device)})
    spec = catalog.specs()[name].model_copy(update={"memory": facts})
    return [(words_of(p), compared(spec, p, peaks, device)) for p, peaks in runs]


def words_of(p: TrainParams) -> str:
    checkpointed = ", checkpointed" if p.gradient_checkpointing else ""
    return f"{p.precision}, {p.resolution} px, batch {p.batch_size}{checkpointed}"


def compared(spec: Any, p: TrainParams, peaks: dict[str, int], device: str) -> str:
    prompt = SamplePrompt(prompt="", width=p.resolution, height=p.resolution)
    said = needs(spec, Figures(p, (prompt,)), device)
    assert said is not None
    parts = (
        f"{phase} {peak / 1e9:.2f} (estimate {getattr(said, phase) / 1e9:.2f})"
        for phase, peak in peaks.items()
    )
    return ", ".join(parts) + " GB"


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="./dev bench memory")
    parser.add_argument("families", nargs="+", choices=list(catalog.specs()))
    parser.add_argument("--computed", nargs="*", choices=["cpu", "cuda"], help="count from shapes, for these")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    parser.add_argument("--base", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.part:
        params = TrainParams.model_validate_json(options.part)
        print(json.dumps(run_phases(catalog.load(options.families[0]), options.base, params)))
        return
    for name in options.families:
        if options.computed is not None:
            kinds = options.computed or ("cpu", "cuda")
            print(
                name,
                write_facts(name, {kind: computed(name, kind) for kind in kinds}).model_dump_json(indent=2),
            )
        else:
            title = f"Memory of trainings: {catalog.specs()[name].title}"
            write_section(f"memory-{name}", title, f"./dev bench memory {name}", measure(name))


if __name__ == "__main__":
    main(sys.argv[1:])
