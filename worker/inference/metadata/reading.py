"""The generation data of a picture, whichever program wrote it: `read_file` and `read_picture`.

Everything becomes one infotext, so that what stores, shows and fills forms knows a single shape.
What could not be brought over is told in `notes`, in words for the person who looks at the picture.
"""

import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image

from app.contract.samplers import SAMPLERS
from worker.inference.metadata import civitai, others
from worker.inference.metadata.comfy import comfy
from worker.inference.metadata.facts import Facts, File, compose, naming_loras, number_of, stem
from worker.inference.metadata.graph import from_prompt, from_workflow
from worker.inference.metadata.infotext import MAX_TEXT, Infotext, clean, plain, read, write
from worker.inference.metadata.movie import is_movie, movie_texts
from worker.inference.metadata.others import decode
from worker.inference.metadata.samplers import name_sampler
from worker.inference.metadata.stealth import stealth_text
from worker.inference.metadata.texts import (
    COMMENT,
    DAMAGED,
    DESCRIPTION,
    FORMATS,
    SOFTWARE,
    USER_COMMENT,
    XMP,
    Texts,
    file_texts,
    picture_texts,
    xmp_comment,
)

MAX_RESOURCES = 40
PRIVATE = ("User",)
"""Settings that tell who made the picture; some programs write them unasked."""
UNSAID = ("Default", "Undefined")
"""What SD.Next and Civitai write for a model's own sampler."""


@dataclass(frozen=True)
class Resource:
    """A model that a picture names: checkpoint, lora, embedding or vae; hash in lower-case hex or empty."""

    kind: str
    name: str
    hash: str = ""
    weight: float | None = None


@dataclass(frozen=True)
class Found:
    """Who wrote it, the data as an infotext, and in `notes` what could not be read or has no place here."""

    tool: str
    info: Infotext
    notes: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The infotext as A1111 would write it; at most 64 KiB."""
        return clean(write(self.info))[:MAX_TEXT]

    @property
    def resources(self) -> list[Resource]:
        return resources_of(self.info)


def read_file(path: Path) -> Found | None:
    """The generation data of a picture or film file; None without, and for what is neither.

    PNG is read by its chunks and not decoded, unless it has an alpha channel in which data may hide.
    Of MP4 and MOV only the texts are read.
    """
    if is_movie(path):
        return read_texts(movie_texts(path))
    return read_texts(file_texts(path)) or read_texts(_hidden(path))


def read_picture(picture: Image.Image) -> Found | None:
    """The same of a picture that Pillow opened; text after the pixels is seen only if it was loaded."""
    return read_texts(picture_texts(picture))


def _hidden(path: Path) -> Texts:
    texts = Texts()
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(path, formats=("PNG", "WEBP")) as picture:
            text = stealth_text(picture)
            texts.size = picture.size
    except DAMAGED:
        return texts
    for key, value in (decode(text) or {}).items():
        texts.keep(str(key), value if isinstance(value, str) else None)
    texts.keep("parameters", text)
    return texts


Readings = tuple[Facts, list[str]] | None


def read_texts(texts: Texts) -> Found | None:
    """The first reading that finds something. An infotext beside ComfyUI's graph says more than the graph."""
    for tool, reading in _READERS.items():
        if (made := reading(texts)) is not None:
            return _found(tool, made, texts)
    found = next((found for text in _candidates(texts) if (found := _a1111(text)) is not None), None)
    if (found is None or not found.info.settings) and (made := _comfy(texts)) is not None:
        return _found("ComfyUI", made, texts)
    return found


def _found(tool: str, made: tuple[Facts, list[str]], texts: Texts) -> Found:
    facts, notes = made
    return Found(tool, compose(_with_size(facts, texts)), tuple(notes))


def _with_size(facts: Facts, texts: Texts) -> Facts:
    """A start picture has the size of the result; one of a few pixels was cut and says nothing."""
    if facts.size is None and facts.hires is None and texts.size and min(texts.size) >= 64:
        return replace(facts, size=texts.size)
    return facts


def _candidates(texts: Texts) -> list[str]:
    """Where an infotext may stand; only `parameters` may lack the word that marks one."""
    marked = [texts.get(key, "") for key in (USER_COMMENT, COMMENT, DESCRIPTION, "Description")]
    own = texts.get("parameters", "")
    return [own] * (decode(own) is None) + [
        text for text in marked if re.search(r"(?:^|\n|, )Steps: ?[0-9]", text)
    ]


def _objects(texts: Texts) -> list[dict[str, Any]]:
    """JSON where programs put it whose chunk has the common name."""
    found = (decode(texts.get(key)) for key in ("parameters", USER_COMMENT, COMMENT))
    return [data for data in found if data is not None]


def _where(key: str, reading: Callable[[Mapping[str, Any]], Readings]) -> Callable[[Texts], Readings]:
    """The reading of the first object that has this key."""
    return lambda texts: next((reading(data) for data in _objects(texts) if key in data), None)


def _fooocus(texts: Texts) -> Readings:
    named = "fooocus_scheme" in texts
    for data in _objects(texts):
        if "metadata_scheme" in data or "base_model" in data or (named and data) or "Base Model" in data:
            return others.fooocus(data)
    return None


def _invoke(texts: Texts) -> Readings:
    if (data := decode(texts.get("invokeai_metadata"))) is not None:
        return others.invoke(data)
    if (data := decode(texts.get("sd-metadata"))) is not None:
        return others.invoke_2(data)
    return others.dream(texts["Dream"]) if "Dream" in texts else None


def _novelai(texts: Texts) -> Readings:
    data = decode(texts.get("Comment"))
    return others.novelai(data, texts) if data and texts.get(SOFTWARE) == "NovelAI" else None


def _draw_things(texts: Texts) -> Readings:
    xmp = texts.get(XMP) or texts.get("XML:com.adobe.xmp", "")
    data = decode(xmp_comment(xmp)) if xmp else None
    return others.draw_things(data) if data and "c" in data else None


def _comfy(texts: Texts) -> Readings:
    """The graph that ran, else its drawing. Clips may hold both within one object, as texts or not."""
    written = _objects(texts)
    inner = [_inner(data.get("prompt")) for data in written]
    for data in (decode(texts.get("prompt")), *written, *inner):
        if data and (graph := from_prompt(data)):
            return comfy(graph) or (Facts(version="ComfyUI"), [NO_SAMPLER])
    for data in (
        decode(texts.get("workflow")),
        *(_inner(data.get("workflow")) for data in written),
    ):
        if data and (graph := from_workflow(data)):
            return comfy(graph) or (Facts(version="ComfyUI"), [NO_SAMPLER])
    return None


def _inner(value: object) -> dict[str, Any]:
    return (decode(value) or {}) if isinstance(value, str) else others.obj(value)


NO_SAMPLER = "This ComfyUI graph has no sampler that is known here, so its settings could not be read."

_READERS: dict[str, Callable[[Texts], Readings]] = {
    "SwarmUI": _where("sui_image_params", others.swarm),
    "Fooocus": _fooocus,
    "InvokeAI": _invoke,
    "NovelAI": _novelai,
    "Draw Things": _draw_things,
    "Civitai": _where("extraMetadata", civitai.generated),
}


# texts in A1111's form

_TOOLS = (
    ("Bottega", "Bottega"),
    ("stable-diffusion.cpp", "stable-diffusion.cpp"),
    ("Fooocus", "Fooocus"),
    ("ComfyUI", "ComfyUI"),
    ("SwarmUI", "SwarmUI"),
    ("neo", "Forge"),
    ("forge", "Forge"),
)


def _a1111(text: str) -> Found | None:
    """None for an empty text."""
    info = read(clean(text[:MAX_TEXT]))
    if not (info.prompt or info.settings):
        return None
    tool = _tool(info)
    if tool == "stable-diffusion.cpp":
        info = _cpp(info)
    elif tool == "Fooocus":
        info = _fooocus_text(info)
    kept = {key: text for key, text in info.settings.items() if key not in PRIVATE}
    if kept.get("Sampler") in UNSAID:
        del kept["Sampler"]
    return Found(tool, replace(info, settings=kept))


def _tool(info: Infotext) -> str:
    version = info.settings.get("Version", "")
    for words, tool in _TOOLS:
        if words.lower() in version.lower():
            return tool
    if "SD.Next" in info.settings.get("App", "") or "Backend" in info.settings:
        return "SD.Next"
    if re.match(r"f[0-9]", version):
        return "Forge"
    return "Civitai" if "Civitai resources" in info.settings or "Created Date" in info.settings else "A1111"


def _cpp(info: Infotext) -> Infotext:
    """stable-diffusion.cpp: names of its own for samplers; the model may stand under `Unet`."""
    settings = dict(info.settings)
    name, schedule = name_sampler(settings.get("Sampler", ""))
    if name in SAMPLERS:
        settings |= {"Sampler": name, "Schedule type": schedule}
    model = settings.get("Model") or settings.get("Unet") or settings.get("Diffusion model") or ""
    scale = number_of(settings.get("CFG scale"))
    files = {"Model": stem(model), "VAE": stem(settings.get("VAE"))}
    files |= {"CFG scale": "" if scale is None else plain(scale)}
    return replace(info, settings={key: text for key, text in (settings | files).items() if text})


def _fooocus_text(info: Infotext) -> Infotext:
    """Fooocus' A1111 scheme: `Scheduler` in k-diffusion's words, weights of LoRAs in a key."""
    settings = dict(info.settings)
    name, schedule = name_sampler(settings.get("Sampler", ""), settings.pop("Scheduler", ""))
    settings |= {"Sampler": name, "Schedule type": schedule} if name else {}
    loras = []
    for entry in (settings.get("Lora weights") or "").split(",")[:MAX_RESOURCES]:
        lora, _, weight = entry.rpartition(":")
        strength = number_of(weight)
        if stem(lora) and strength is not None:
            loras.append(File(stem(lora), strength=strength))
    prompt = settings.get("Raw prompt") or info.prompt
    negative = settings.get("Raw negative prompt") or info.negative_prompt
    return Infotext(naming_loras(prompt, tuple(loras)), negative, settings)


# resources


def resources_of(info: Infotext) -> list[Resource]:
    """Checkpoint, LoRAs, embeddings and VAE that an infotext names, each once, in this order."""
    found: list[Resource] = []
    if info.model or info.model_hash:
        found.append(Resource("checkpoint", info.model or info.model_hash or "", info.model_hash or ""))
    found += [Resource("lora", lora.name, lora.hash or "", lora.strength) for lora in info.loras]
    found += [Resource("embedding", name, digits) for name, digits in info.embeddings.items()]
    if info.vae or info.vae_hash:
        found.append(Resource("vae", info.vae or info.vae_hash or "", info.vae_hash or ""))
    told = {resource.kind for resource in found}
    found += [
        Resource(kind, name, "", weight) for kind, name, weight in civitai.named(info) if kind not in told
    ]
    return found[:MAX_RESOURCES]


__all__ = ["FORMATS", "Found", "Resource", "read_file", "read_picture", "read_texts", "resources_of"]
