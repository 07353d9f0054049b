"""What happens before the first step, apart from the order of it, which is the recipe's."""

import re
from collections.abc import Sequence
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from worker.families.base import Parts
from worker.training.checkpoint import Resume, restore_optimizer
from worker.training.dataset import Example
from worker.training.errors import Stopped, TrainingError
from worker.training.frozen_weights import words
from worker.training.latents import Cache, build_cache, cache_key, load_cache, restored, save_cache
from worker.training.run import Run, Task


def tell_about(task: Task, parts: Parts, examples: Sequence[Example]) -> None:
    """What a person should know of the set before it is trained on."""

    def names(chosen: Sequence[Example]) -> str:
        return ", ".join(dict.fromkeys(example.item.file.name for example in chosen))

    for note in parts.notes:
        task.monitor.log(note, warning=True)
    for line in words(task.job):
        task.monitor.log(line)
    held = [example for example in examples if example.held_out]
    if held:
        task.monitor.log(f"Kept out of training to measure over-fitting: {names(held)}.")
    enlarged = [example for example in examples if example.placement.enlarged]
    if enlarged:
        task.monitor.log(f"Smaller than the training size, so enlarged: {names(enlarged)}.", warning=True)
    limit = task.family.spec.token_limit
    long = [example for example in examples if task.family.count_tokens(parts, example.caption) > limit]
    if long:
        message = f"Labels longer than {limit} tokens, the end is cut off: {names(long)}."
        task.monitor.log(message, warning=True)


def unit_of(task: Task) -> str:
    """What samples and examples are called in progress."""
    return "clip" if task.family.spec.clips else "picture"


def obtain_cache(task: Task, parts: Parts, examples: Sequence[Example], saved: Resume | None) -> Cache:
    """Caches of the interrupted run, of this work folder, or made now."""
    key = cache_key(task.job, examples)
    path = task.out / "cache" / "cache.safetensors"
    if saved and saved.cache and saved.cache[0] == key:
        return restored(saved.cache[1], saved.cache[2], parts.device)
    if found := load_cache(path, key, parts.device):
        return found

    def on_picture(done: int) -> None:
        task.monitor.count(done, len(examples), unit_of(task))
        if task.monitor.listen() is not None:
            raise Stopped

    cache = build_cache(task.family, parts, task.job, examples, on_picture)
    save_cache(cache, key, path)
    return cache


def go_on(run: Run, saved: Resume | None) -> None:
    """Take over where the interrupted run stopped, or the LoRA that is to be trained further."""
    if saved:
        run.state = saved.state
        run.adapter.load(saved.adapter)
        restore_optimizer(run.optimizer, *saved.optimizer)
        run.monitor.log(f"Goes on from step {run.state.step}.")
    elif run.job.continue_from:
        low = run.job.continue_low_noise or run.job.continue_from
        files = {"model": run.job.continue_from, "model_2": low}
        state: dict[str, Tensor] = {}
        for part in run.parts.networks:
            state |= _earlier(run, part, run.files[files[part].sha256])
        run.adapter.load(state)


def _earlier(run: Run, part: str, path: Path) -> dict[str, Tensor]:
    """What a LoRA file holds for one network, and for the text encoders where the network is the first."""
    others = set(run.parts.networks) - {part}
    mine = [name for name in run.adapter.layers if name.partition(".")[0] not in others]
    modules = [re.sub(f"^{part}\\.", "model.", name) for name in mine]
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        found = run.family.import_keys(load_file(path), modules, metadata)
    except ValueError as error:
        raise TrainingError("lora-base-mismatch", str(error)) from error
    return {re.sub(r"^model\.", f"{part}.", name): tensor for name, tensor in found.items()}
