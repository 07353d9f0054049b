"""`python -m worker.cli job.json --out DIR`: a whole training or generation without database and queue.

job.json is either what a worker gets, with its files on this machine,
`{"job": {…TrainJob…}, "files": {"<sha256>": "path"}}`, or what a person writes:
`{"photos": "folder", "base": "folder or file", "name": "…", "trigger_word": "…", "params": {…}}`.
A file with a `prompt` draws (`worker.cli_draw`). Paths are relative to job.json. Ctrl-C saves and stops; a
second call with the same DIR goes on from there.
"""

import argparse
import json
import re
import signal
import sys
import unicodedata
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

from app.contract.events import Finished
from app.contract.jobs import BlobRef, CheckpointRef, SamplePrompt, TrainItem, TrainJob
from worker import cli_draw
from worker.families import catalog
from worker.families.resolve import ParamErrors, resolve_params
from worker.hashing import blob_of
from worker.reporter import PrintReporter
from worker.training.checkpoint import file_sha256

PICTURES = {".png", ".jpg", ".jpeg", ".webp"}
CLIP = ".mp4"
SIMPLE: dict[str, Any] = {
    "photos": None, "base": None, "name": "My LoRA", "type": "style", "family": "starter", "preset": "normal",
    "trigger_word": "", "label_type": "tag", "params": {}, "sample_prompts": [], "threads": 2, "vae": "",
    "text_encoder": "", "low_noise": "",
}  # fmt: skip
"""What the simple form may say, with defaults; None must be given."""
EXITS = {"succeeded": 0, "paused": 130}


class BadJob(ValueError):
    """The job file cannot be used; the message says what to change."""


def main(arguments: list[str] | None = None) -> int:
    """Train or draw what the job file says. 0 = done, 1 = it failed, 2 = the job file is wrong.

    130 = stopped with Ctrl-C.
    """
    parser = argparse.ArgumentParser(
        prog="python -m worker.cli", description="Train a LoRA, or draw, on this machine."
    )
    parser.add_argument("job", type=Path, help="job file, JSON")
    parser.add_argument("--out", type=Path, required=True, help="folder for everything that is written")
    options = parser.parse_args(arguments)
    try:
        content = _content(options.job)
        if cli_draw.is_drawing(content):
            return _draw(content, options.job.parent, options.out)
        job, files = read_job(options.job)
    except (BadJob, ParamErrors, catalog.UnknownFamily, OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    finished = run(job, files, options.out)
    print(verdict(job, finished, options.out))
    return EXITS.get(finished.outcome, 1)


def _draw(content: dict[str, Any], folder: Path, out: Path) -> int:
    finished = cli_draw.draw(*cli_draw.read_drawing(content, folder), out)
    print(cli_draw.verdict(finished, out))
    return EXITS.get(finished.outcome, 1)


def _content(path: Path) -> dict[str, Any]:
    content = json.loads(path.read_text())
    if not isinstance(content, dict):
        raise BadJob("The job file must hold one JSON object.")
    return content


def run(job: TrainJob, files: dict[str, Path], out: Path) -> Finished:
    """Train with a progress bar on the terminal."""
    from worker.training.recipe import train  # heavy: after the job file was found to be right

    reporter = PrintReporter()

    def interrupted(*_: object) -> None:
        signal.signal(signal.SIGINT, before)  # a second Ctrl-C ends it at once
        reporter.pause()

    before = signal.signal(signal.SIGINT, interrupted)
    try:
        return train(job, catalog.load(job.base.family), files, out, reporter)
    finally:
        signal.signal(signal.SIGINT, before)
        reporter.close()


def verdict(job: TrainJob, finished: Finished, out: Path) -> str:
    if finished.outcome == "paused":
        return "Stopped. The same command goes on from there."
    if finished.outcome != "succeeded":
        return finished.detail or finished.outcome
    epoch = finished.recommended_epoch or 0
    names = sorted((out / "epochs").glob(f"{job.output_name}-{epoch:06d}*.safetensors"))
    path = " and ".join(map(str, names))
    why = (
        "lowest loss on kept-out pictures" if finished.recommended_reason == "validation" else "the last one"
    )
    return f"{finished.steps} steps in {finished.run_seconds:.0f} s. Epoch {epoch} ({why}): {path}"


def read_job(path: Path) -> tuple[TrainJob, dict[str, Path]]:
    """The job and its files by sha256. Raises BadJob, ParamErrors, or pydantic's ValidationError."""
    content = _content(path)
    if "job" not in content:
        return simple_job(content, path.parent)
    job = TrainJob.model_validate(content["job"])
    files = {digest: (path.parent / file).resolve() for digest, file in content.get("files", {}).items()}
    named = [
        job.base.file,
        *(item.file for item in job.items),
        *filter(None, [job.continue_from, job.continue_low_noise, *companions(job.base)]),
    ]
    missing = [blob.name for blob in named if not files.get(blob.sha256, Path("missing")).exists()]
    if missing:
        raise BadJob(f"“files” names no existing path for {', '.join(missing[:5])}.")
    return job, files


def companions(base: CheckpointRef) -> list[BlobRef]:
    """What is to be had beside the checkpoint itself."""
    return [blob for blob in (base.vae, base.text_encoder, base.low_noise) if blob]


def simple_job(given: dict[str, Any], folder: Path) -> tuple[TrainJob, dict[str, Path]]:
    """A job over a folder of pictures, or clips (.mp4), with .txt labels beside them."""
    wanted = SIMPLE | given
    _check_form(wanted, folder)
    files: dict[str, Path] = {}
    spec = catalog.specs()[str(wanted["family"])]
    items = tuple(_items((folder / str(wanted["photos"])).resolve(), files, clips=spec.clips is not None))
    params = resolve_params(
        spec, wanted["type"], wanted["preset"], len(items), wanted["params"], label_type=wanted["label_type"]
    )
    base = blob_of((folder / str(wanted["base"])).resolve(), files)
    checkpoint = CheckpointRef(
        file=base,
        format="Diffusers" if files[base.sha256].is_dir() else "SafeTensor",
        family=spec.name,
        name=base.name,
        base_model=spec.base_model,
        **{
            name: blob_of((folder / str(wanted[name])).resolve(), files)
            for name in cli_draw.COMPANIONS
            if wanted[name]
        },
    )
    size: dict[str, Any] = {"width": spec.generation.width, "height": spec.generation.height}
    if any(item.frames > 1 for item in items):
        size["frames"] = params.clip_frames
    prompts = tuple(SamplePrompt(**(size | prompt)) for prompt in wanted["sample_prompts"])
    texts = {name: wanted[name] for name in ("name", "type", "trigger_word", "label_type", "threads")}
    return TrainJob(
        **texts,
        output_name=stem(str(wanted["name"])),
        base=checkpoint,
        items=items,
        params=params,
        sample_prompts=prompts,
    ), files


def _check_form(wanted: dict[str, Any], folder: Path) -> None:
    unknown = sorted(set(wanted) - set(SIMPLE))
    if unknown:
        raise BadJob(f"Unknown in the job file: {', '.join(unknown)}. Known: {', '.join(SIMPLE)}.")
    if not wanted["photos"] or not (folder / str(wanted["photos"])).is_dir():
        raise BadJob("“photos” must name a folder.")
    if not wanted["base"] or not (folder / str(wanted["base"])).exists():
        raise BadJob("“base” must name a checkpoint: a diffusers folder or a .safetensors file.")
    for name in ("vae", "low_noise"):
        if wanted[name] and not (folder / str(wanted[name])).is_file():
            raise BadJob(f"“{name}” must name a .safetensors file, or be left out.")
    if wanted["text_encoder"] and not (folder / str(wanted["text_encoder"])).is_dir():
        raise BadJob("“text_encoder” must name a folder with text_encoder and tokenizer, or be left out.")
    if not isinstance(wanted["params"], dict):
        raise BadJob("“params” must be an object.")
    prompts = wanted["sample_prompts"]
    if not isinstance(prompts, list) or not all(isinstance(prompt, dict) for prompt in prompts):
        raise BadJob("“sample_prompts” must be a list of objects, each with a “prompt”.")
    if wanted["family"] not in catalog.specs():
        raise BadJob(f"Unknown family. Known: {', '.join(catalog.specs())}.")


def stem(name: str) -> str:
    """A file name of letters that every system allows."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", plain).strip("-.") or "lora"


def _items(photos: Path, files: dict[str, Path], *, clips: bool) -> list[TrainItem]:
    """The pictures of a folder by name, and with `clips` its clips; their paths go into `files`."""
    items = []
    endings = PICTURES | {CLIP} if clips else PICTURES
    for path in sorted(path for path in photos.iterdir() if path.suffix.lower() in endings):
        facts: dict[str, Any]
        if path.suffix.lower() == CLIP:
            facts = _clip(path)
        else:
            with Image.open(path) as opened:
                facts = dict(zip(("width", "height"), ImageOps.exif_transpose(opened).size, strict=True))
        label = path.with_suffix(".txt")
        blob = BlobRef(sha256=file_sha256(path), size=path.stat().st_size, name=path.name)
        files[blob.sha256] = path
        text = label.read_text(encoding="utf-8-sig", errors="replace").strip() if label.exists() else ""
        items.append(TrainItem(file=blob, label=text, **facts))
    return items


def _clip(path: Path) -> dict[str, Any]:
    from worker.training.film import clip_facts  # PyAV is needed for clips only

    try:
        return clip_facts(path)._asdict()
    except ValueError as error:
        raise BadJob(str(error)) from error


if __name__ == "__main__":
    sys.exit(main())
