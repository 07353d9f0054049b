"""The adapter as one .safetensors file that other programs load.

Written once: the hash of the whole file changes with any later edit of the metadata, and links by
hash would break. The tensor hash (bytes after the header) does not depend on the metadata.
"""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from app.contract.events import AdapterFile, Checkpoint
from app.contract.jobs import TrainJob
from worker.families.base import Family
from worker.training.checkpoint import ensure_space, finish_file
from worker.training.errors import diverged
from worker.training.metadata import Moment, model_spec, training_metadata
from worker.training.run import Run

FOLDER = "epochs"
SAVED_AS = {"fp32": torch.float32, "bf16": torch.float16}
"""Half a size where training was not exact either; fp16 because every program reads it."""
HEADER_LIMIT = 2**20
_LEGACY_START, _LEGACY_LENGTH = 0x100000, 0x10000


EXPERTS = {"model": "high_noise", "model_2": "low_noise"}
"""Two networks' files, by what their layers' names begin with; programs tell them by these words."""


def export_adapter(run: Run, path: Path, moment: Moment) -> Checkpoint:
    """Write the adapter to `path`; the event's path is relative to the folder above `path`'s.

    Of two networks each has its file, the name ending as `EXPERTS` says. TrainingError for numbers that
    are not finite and for a full disk.
    """
    if not run.adapter.is_finite():
        raise diverged(moment.step)
    if len(run.parts.networks) == 1:
        first, low = write_file(run, "model", path, moment), None
    else:
        first, low = (
            write_file(run, part, path.with_stem(f"{path.stem}_{expert}"), moment)
            for part, expert in EXPERTS.items()
        )
    return Checkpoint(epoch=moment.epoch, step=moment.step, low_noise=low, **first.model_dump())


def write_file(run: Run, part: str, path: Path, moment: Moment) -> AdapterFile:
    """The adapter of one network, with the text encoders' where they have one."""
    family, job = run.family, run.job
    tensors = exported_tensors(run, part)
    facts = training_metadata(family.spec, job, run.examples, moment, short_hashes(job, run.files))
    if len(run.parts.networks) > 1:
        facts["bottega_expert"] = EXPERTS[part]
    content = serialise(tensors, facts, family, job, moment)
    path.parent.mkdir(parents=True, exist_ok=True)
    ensure_space(path.parent, len(content))
    temporary = path.with_suffix(".tmp")
    temporary.write_bytes(content)
    finish_file(temporary, path, expected=len(tensors))
    return AdapterFile(
        path=str(path.relative_to(path.parent.parent)),
        size=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        tensor_sha256=tensor_hash(content),
    )


def exported_tensors(run: Run, part: str = "model") -> dict[str, Tensor]:
    """The adapter of one network as it is now, under the names and in the type that its file has."""
    dtype, others = SAVED_AS[run.job.params.precision], set(run.parts.networks) - {part}
    state = {
        re.sub(f"^{part}\\.", "model.", name): tensor
        for name, tensor in run.adapter.state().items()
        if name.partition(".")[0] not in others
    }
    return {name: tensor.to(dtype) for name, tensor in run.family.export_keys(state).items()}


def serialise(
    tensors: Mapping[str, Tensor], facts: dict[str, str], family: Family, job: TrainJob, moment: Moment
) -> bytes:
    """The file's bytes with all metadata. The hashes are of a first serialisation with `ss_*` only."""
    plain = save(dict(tensors), {name: value for name, value in facts.items() if name.startswith("ss_")})
    digest = tensor_hash(plain)
    facts = facts | {"sshs_model_hash": digest, "sshs_legacy_hash": legacy_hash(plain)}
    facts |= model_spec(family.spec, job, moment, digest)
    for spare in ("", "modelspec.thumbnail", "ss_tag_frequency", "bottega_params"):
        facts.pop(spare, None)
        content = save(dict(tensors), facts)
        if header_length(content) <= HEADER_LIMIT:
            break
    return content


def short_hashes(job: TrainJob, files: Mapping[str, Path]) -> dict[str, str]:
    """AutoV1 by sha256 of the base's files that are single ones, as sd-scripts names them."""
    wanted = [blob.sha256 for blob in (job.base.file, job.base.vae) if blob]
    return {name: file_legacy_hash(files[name]) for name in wanted if name in files and files[name].is_file()}


def file_legacy_hash(path: Path) -> str:
    """`legacy_hash` of a file, of which only that part is read."""
    with path.open("rb") as file:
        file.seek(_LEGACY_START)
        return hashlib.sha256(file.read(_LEGACY_LENGTH)).hexdigest()[:8]


def header_length(content: bytes) -> int:
    return int.from_bytes(content[:8], "little")


def tensor_hash(content: bytes) -> str:
    """sha256 of everything after the header: AutoV3 is its first 12 digits."""
    return hashlib.sha256(memoryview(content)[8 + header_length(content) :]).hexdigest()


def legacy_hash(content: bytes) -> str:
    """The first hash that LoRA tools used: 64 KiB from 1 MiB on, 8 digits."""
    return hashlib.sha256(content[_LEGACY_START : _LEGACY_START + _LEGACY_LENGTH]).hexdigest()[:8]
