"""The file that lets a run go on to the same bits: adapter, optimizer, position, history. No pickle.

Random numbers need no saving: they depend on (seed, purpose, step) alone. A file appears whole or
not at all (temporary name, fsync, read back, rename); the two newest are kept, so that one which
is being copied away is never overwritten.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from worker.training.errors import TrainingError

FOLDER = "resume"
SPARE_BYTES = 64 * 2**20
_KEPT = 2


@dataclass
class EpochRecord:
    """What is known of a finished epoch. Losses are means; None where nothing was kept out."""

    epoch: int
    step: int
    loss: float | None
    validation_loss: float | None
    saved: bool


@dataclass
class RunState:
    """Where a run stands, apart from its tensors."""

    step: int = 0
    started_at: float = 0.0
    """Unix seconds of the first start."""
    run_seconds: float = 0.0
    """Time spent up to the last resume point, over all attempts."""
    baseline_drawn: bool = False
    loss_sum: float = 0.0
    loss_count: int = 0
    """Of the epoch that is running."""
    history: list[EpochRecord] = field(default_factory=list)
    lowered: dict[str, Any] = field(default_factory=dict)
    """Settings that are not as the job asked, because memory had run out."""


def ensure_space(folder: Path, needed: int) -> None:
    """Raise TrainingError unless `needed` bytes fit, with something to spare."""
    free = shutil.disk_usage(folder).free
    if free < needed + SPARE_BYTES:
        detail = (
            f"The disk is full: {needed / 2**20:.0f} MB are needed, {free / 2**20:.0f} MB are free. "
            "Free some space, then start again."
        )
        raise TrainingError("disk-full", detail)


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
    """Write a safetensors file so that it is whole or absent."""
    path.parent.mkdir(parents=True, exist_ok=True)
    ensure_space(path.parent, sum(tensor.nbytes for tensor in tensors.values()))
    temporary = path.with_suffix(".tmp")
    save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, temporary, metadata)
    finish_file(temporary, path, expected=len(tensors))


def finish_file(temporary: Path, path: Path, *, expected: int) -> None:
    """fsync, read back, rename, fsync the folder."""
    with temporary.open("rb+") as written:
        os.fsync(written.fileno())
    with safe_open(temporary, framework="pt") as opened:
        if len(list(opened.keys())) != expected:
            raise TrainingError("disk-full", f"{path.name} could not be written whole. Check the disk.")
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)


def file_sha256(path: Path) -> str:
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def save_resume(
    out: Path,
    state: RunState,
    adapter: Mapping[str, Tensor],
    optimizer: torch.optim.Optimizer,
    *,
    cache: tuple[str, Mapping[str, Tensor], str] | None,
    job_key: str,
) -> Path:
    """Write the resume point of `state.step` and drop all but the two newest. Returns its path.

    `cache` = (key, tensors, rows as JSON) to carry along, or None.
    """
    tensors = {f"adapter/{name}": tensor for name, tensor in adapter.items()}
    optimizer_tensors, optimizer_values = flatten_optimizer(optimizer)
    tensors |= optimizer_tensors
    metadata = {"state": json.dumps(asdict(state)), "optimizer": json.dumps(optimizer_values), "job": job_key}
    if cache:
        metadata |= {"key": cache[0], "rows": cache[2]}
        tensors |= {f"cache/{name}": tensor for name, tensor in cache[1].items()}
    path = out / FOLDER / f"step-{state.step:08d}.safetensors"
    write_tensors(path, tensors, metadata)
    for old in sorted(path.parent.glob("step-*.safetensors"))[:-_KEPT]:
        old.unlink()
    return path


@dataclass(frozen=True)
class Resume:
    """A resume point that was read. `cache` = (key, tensors, rows as JSON)."""

    state: RunState
    adapter: dict[str, Tensor]
    optimizer: tuple[dict[str, Tensor], Any]
    cache: tuple[str, dict[str, Tensor], str] | None


def find_resume(out: Path) -> list[Path]:
    """Resume points in a work folder, newest first."""
    return sorted((out / FOLDER).glob("step-*.safetensors"), reverse=True)


def read_resume(path: Path, job_key: str) -> Resume | None:
    """The resume point in this file; None where it is damaged or belongs to another job."""
    try:
        with safe_open(path, framework="pt") as opened:
            metadata = opened.metadata() or {}
            names = opened.keys()
            tensors = {name: opened.get_tensor(name) for name in names}
    except (OSError, SafetensorError):
        return None
    if metadata.get("job") != job_key:
        return None
    values = json.loads(metadata["state"])
    values["history"] = [EpochRecord(**record) for record in values["history"]]
    cached = _group(tensors, "cache/")
    return Resume(
        state=RunState(**values),
        adapter=_group(tensors, "adapter/"),
        optimizer=(_group(tensors, "optimizer/"), json.loads(metadata["optimizer"])),
        cache=(metadata["key"], cached, metadata["rows"]) if cached else None,
    )


def _group(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def flatten_optimizer(optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], Any]:
    """An optimizer's state as named tensors and plain values that survive JSON to the bit."""
    saved = optimizer.state_dict()
    tensors: dict[str, Tensor] = {}
    values: dict[str, dict[str, Any]] = {}
    for index, state in saved["state"].items():
        for key, value in state.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer/{index}/{key}"] = value
            else:
                values.setdefault(str(index), {})[key] = value
    return tensors, {"values": values, "groups": saved["param_groups"]}


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], plain: Any) -> None:
    """The way back from `flatten_optimizer`; names of tensors come without `optimizer/`."""
    state: dict[int, dict[str, Any]] = {int(index): dict(values) for index, values in plain["values"].items()}
    for name, tensor in tensors.items():
        index, _, key = name.partition("/")
        state.setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": plain["groups"]})
