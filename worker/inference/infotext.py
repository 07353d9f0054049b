"""What our own pictures say of themselves: a job becomes the "parameters" text that other programs read.

Written without user names, paths or internal ids, and without the key that marks pictures as made on
Civitai. Reading, also of other programs' pictures, is in `worker.inference.metadata`. No torch in here.
"""

import io
from importlib.metadata import PackageNotFoundError, version

from PIL import Image, PngImagePlugin

from app.contract.family import ClipDefaults, GenerationDefaults
from app.contract.jobs import BlobRef, EmbeddingRef, GenerateJob, LoraRef, SamplePrompt, TrainJob
from app.contract.samplers import NORMAL
from worker.families import catalog
from worker.inference.metadata.facts import Facts, File, compose, stem
from worker.inference.metadata.infotext import MAX_TEXT, Infotext, SecondPass, UsedLora, plain, read, write
from worker.inference.metadata.texts import find_text
from worker.inference.prompt import LoraTag

KEYWORD = "parameters"


def describe(job: GenerateJob, seed: int) -> Infotext:
    """What one picture or clip of a job was made with. The prompt names every LoRA of the job.

    For a cell of a grid, pass the job with the cell's values in the place of its own.
    """
    base, start, hires = job.base, job.start, job.hires
    clips = clips_of(job)
    if clips is not None:  # a picture to start from is there the first frame itself
        start = None
    second = SecondPass(hires.scale, None, hires.upscaler, hires.steps, hires.denoise) if hires else None
    return compose(
        Facts(
            prompt=job.prompt,
            negative_prompt=job.negative_prompt,
            steps=job.steps,
            sampler=job.sampler,
            schedule=NORMAL if clips else job.schedule,
            cfg_scale=job.cfg_scale,
            seed=seed,
            size=(job.width, job.height),
            model=_file(base.file, base.name),
            vae=_file(base.vae, stem(base.vae.name)) if base.vae else None,
            loras=tuple(_adapter(lora) for lora in job.loras),
            embeddings=tuple(_adapter(one) for one in job.embeddings),
            denoise=start.denoise if start else None,
            mask_blur=start.mask_blur if start and start.mask else None,
            mask_padding=start.mask_padding if start and start.mask else None,
            clip_skip=1 if clips else job.clip_skip,
            hires=second,
            frames=job.frames if job.frames > 1 else None,
            fps=(job.fps or clips.rule.fps) if clips and job.frames > 1 else None,
            shift=job.shift if clips else None,
            noise="CPU",  # where the noise is drawn; without this key readers assume their own device
            version=f"Bottega v{bottega_version()}",
        )
    )


def clips_of(job: GenerateJob | TrainJob) -> ClipDefaults | None:
    """How the family of a job makes clips; None where it knows pictures only."""
    spec = catalog.specs().get(job.base.family)
    return spec.clips if spec else None


def _file(blob: BlobRef, name: str) -> File:
    return File(name, short=blob.sha256[:10], digest=blob.sha256[:10])


def _adapter(used: LoraRef | EmbeddingRef) -> File:
    file = File(used.name, short=used.autov3, digest=used.file.sha256[:10])
    if isinstance(used, EmbeddingRef):
        return file
    return File(used.name, file.short, file.digest, used.strength, used.text_encoder_strength)


def describe_sample(
    job: TrainJob, prompt: SamplePrompt, defaults: GenerationDefaults, *, lora: str = "", autov3: str = ""
) -> Infotext:
    """What a training's sample was made with; the arguments are `sample_job`'s."""
    return describe(sample_job(job, prompt, defaults, lora=lora, autov3=autov3), prompt.seed)


def sample_job(
    job: TrainJob, prompt: SamplePrompt, defaults: GenerationDefaults, *, lora: str = "", autov3: str = ""
) -> GenerateJob:
    """A training's sample as a generation: the family's usual settings, and the adapter as `lora`.

    `lora` is its file's name without ending, empty for the row without it. The file's own hash is not
    known when the picture is drawn; the tensors' is.
    """
    file = BlobRef(sha256="", size=0, name=lora)
    used = LoraRef(file=file, name=lora, strength=1.0, base_model=job.base.base_model, autov3=autov3)
    clips = clips_of(job)
    return GenerateJob(
        base=job.base,
        loras=(used,) if lora else (),
        prompt=prompt.prompt,
        negative_prompt=prompt.negative_prompt,
        sampler=defaults.sampler,
        steps=defaults.steps,
        cfg_scale=defaults.cfg_scale,
        width=prompt.width,
        height=prompt.height,
        seeds=(prompt.seed,),
        clip_skip=job.params.clip_skip,
        frames=prompt.frames,
        fps=clips.rule.fps if clips else None,
        shift=clips.shift if clips else None,
    )


def bottega_version() -> str:
    try:
        return version("bottega")
    except PackageNotFoundError:  # run from a folder that was not installed
        return "0"


def embed_png(image: Image.Image, infotext: str) -> bytes:
    """The picture as PNG with the text in a `parameters` chunk (iTXt where Latin-1 cannot hold it)."""
    chunks = PngImagePlugin.PngInfo()
    chunks.add_text(KEYWORD, infotext)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", pnginfo=chunks)
    return buffer.getvalue()


__all__ = [
    "KEYWORD",
    "MAX_TEXT",
    "Infotext",
    "LoraTag",
    "SecondPass",
    "UsedLora",
    "bottega_version",
    "clips_of",
    "describe",
    "describe_sample",
    "embed_png",
    "find_text",
    "plain",
    "read",
    "sample_job",
    "write",
]
