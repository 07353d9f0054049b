"""Pictures and clips for `python -m worker.cli`: what a job file says is drawn.

`{"prompt": "…", "base": "folder or file", "family": "…", "frames": 17, "loras": ["file" or {"file": …}], …}`
"""

import signal
from pathlib import Path
from typing import Any

from app.contract.events import Finished
from app.contract.jobs import BlobRef, CheckpointRef, GenerateJob, LoraRef, StartPicture
from worker.families import catalog
from worker.hashing import blob_of
from worker.reporter import PrintReporter

SIMPLE: dict[str, Any] = {
    "prompt": None, "base": None, "family": "starter", "negative_prompt": "", "loras": [], "seeds": [1],
    "threads": 2, "vae": "", "text_encoder": "", "low_noise": "", "start": "",
    "sampler": None, "schedule": "Automatic", "steps": None, "cfg_scale": None, "width": None,
    "height": None, "frames": None, "fps": None, "shift": None,
}  # fmt: skip
"""What the simple form may say, with defaults. None = the family's own; prompt and base must be given."""
LORA = {"file": "", "low_noise": "", "strength": 1.0}
COMPANIONS = ("vae", "text_encoder", "low_noise")
"""Files of a checkpoint beside its own."""
POOL_BYTES = 1 << 50


class BadDrawing(ValueError):
    """The job file cannot be drawn; the message says what to change."""


def is_drawing(content: dict[str, Any]) -> bool:
    job = content.get("job")
    return "prompt" in content or (isinstance(job, dict) and job.get("kind") == "generate")


def read_drawing(content: dict[str, Any], folder: Path) -> tuple[GenerateJob, dict[str, Path]]:
    """The job and its files by sha256. Raises BadDrawing, or pydantic's ValidationError."""
    if "job" in content:
        job = GenerateJob.model_validate(content["job"])
        return job, {digest: (folder / file).resolve() for digest, file in content.get("files", {}).items()}
    wanted = SIMPLE | content
    if unknown := sorted(set(content) - set(SIMPLE)):
        raise BadDrawing(f"Unknown in the job file: {', '.join(unknown)}. Known: {', '.join(SIMPLE)}.")
    if wanted["family"] not in catalog.specs():
        raise BadDrawing(f"Unknown family. Known: {', '.join(catalog.specs())}.")
    return _Simple(wanted, folder).job()


class _Simple:
    """One job file in the form that people write."""

    def __init__(self, wanted: dict[str, Any], folder: Path) -> None:
        self.wanted, self.folder = wanted, folder
        self.spec = catalog.specs()[wanted["family"]]
        self.files: dict[str, Path] = {}

    def job(self) -> tuple[GenerateJob, dict[str, Path]]:
        usual, clips = self.spec.generation, self.spec.clips
        own = {name: getattr(usual, name) for name in ("sampler", "steps", "cfg_scale", "width", "height")}
        own |= {"frames": clips.length if clips else 1, "shift": clips.shift if clips else None}
        said = {name: self.wanted[name] for name in (*own, "fps") if self.wanted[name] is not None}
        texts = {name: self.wanted[name] for name in ("prompt", "negative_prompt", "schedule", "threads")}
        start = self.wanted["start"]
        return GenerateJob(
            **(own | said | texts),
            base=self.base(),
            loras=tuple(map(self.lora, self.wanted["loras"])),
            seeds=tuple(self.wanted["seeds"]),
            start=StartPicture(file=self.blob("start", start)) if start else None,
        ), self.files

    def base(self) -> CheckpointRef:
        base = self.blob("base", self.wanted["base"])
        return CheckpointRef(
            file=base,
            format="Diffusers" if self.files[base.sha256].is_dir() else "SafeTensor",
            family=self.spec.name,
            name=base.name,
            base_model=self.spec.base_model,
            **{name: self.blob(name, self.wanted[name]) for name in COMPANIONS if self.wanted[name]},
        )

    def lora(self, said: Any) -> LoraRef:
        values = LORA | (said if isinstance(said, dict) else {"file": said})
        if unknown := sorted(set(values) - set(LORA)):
            raise BadDrawing(f"Unknown in a LoRA: {', '.join(unknown)}. Known: {', '.join(LORA)}.")
        file, low = self.blob("loras", values["file"]), values["low_noise"]
        return LoraRef(
            file=file,
            low_noise=self.blob("loras", low) if low else None,
            name=Path(file.name).stem,
            strength=values["strength"],
            base_model=self.spec.base_model,
        )

    def blob(self, field: str, name: Any) -> BlobRef:
        path = (self.folder / str(name)).resolve()
        if not name or not path.exists():
            raise BadDrawing(f"“{field}” must name what is on this machine; there is no “{name}”.")
        return blob_of(path, self.files)


def draw(job: GenerateJob, files: dict[str, Path], out: Path) -> Finished:
    """Draw with a progress bar on the terminal. Ctrl-C stops."""
    from worker.device import choose_device  # heavy: after the job file was found to be right
    from worker.inference.generate import run_generate
    from worker.inference.pool import PipelinePool

    reporter = PrintReporter()
    before = signal.signal(signal.SIGINT, lambda *_: reporter.pause())
    try:
        return run_generate(job, files, out, reporter, PipelinePool(POOL_BYTES, device=choose_device()))
    finally:
        signal.signal(signal.SIGINT, before)
        reporter.close()


def verdict(finished: Finished, out: Path) -> str:
    """What is said at the end: where the files lie, or what went wrong."""
    if finished.outcome == "paused":
        return "Stopped. The same command draws everything anew."
    if finished.outcome != "succeeded":
        return finished.detail or finished.outcome
    made = sorted(path.name for path in out.iterdir() if path.suffix in (".png", ".mp4"))
    return f"{finished.steps} steps in {finished.run_seconds:.0f} s. In {out}: {', '.join(made)}"
