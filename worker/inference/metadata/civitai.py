"""What Civitai's own generator writes: resources by the numbers of its versions, and for ComfyUI's graphs
a summary beside the graph. Its numbers name nothing here, so they only become words."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from worker.inference.metadata.facts import Facts, integer_of, number_of, size_of, text_of
from worker.inference.metadata.graph import from_prompt
from worker.inference.metadata.infotext import Infotext
from worker.inference.metadata.others import decode, objects, prompt_of
from worker.inference.metadata.samplers import name_sampler

_KINDS = {
    "checkpoint": "checkpoint",
    "lora": "lora",
    "locon": "lora",
    "lycoris": "lora",
    "dora": "lora",
    "embed": "embedding",
    "embedding": "embedding",
    "textualinversion": "embedding",
    "vae": "vae",
}
_AIR = re.compile(r"urn:air:[\w-]{1,40}:(\w{1,40}):civitai:([0-9]{1,12})@([0-9]{1,12})")


def generated(data: Mapping[str, Any]) -> tuple[Facts, list[str]] | None:
    """The summary `extraMetadata` of a JPEG that Civitai drew with ComfyUI; None without a prompt in it."""
    extra = decode(data.get("extraMetadata") if isinstance(data.get("extraMetadata"), str) else None)
    if not extra or not extra.get("prompt"):
        return None
    sampler, schedule = name_sampler(text_of(extra.get("sampler")), text_of(extra.get("scheduler")))
    return Facts(
        prompt=prompt_of(extra.get("prompt")),
        negative_prompt=prompt_of(extra.get("negativePrompt")),
        steps=integer_of(extra.get("steps")),
        sampler=sampler,
        schedule=schedule,
        cfg_scale=number_of(extra.get("cfgScale")),
        seed=integer_of(extra.get("seed")) or _seed(data),
        size=size_of(extra.get("width"), extra.get("height")),
        denoise=number_of(extra.get("denoise")),
        clip_skip=max(1, min(12, integer_of(extra.get("clipSkip")) or 1)),
        extra=(("Civitai resources", _resources(extra, data)),),
    ), []


def _seed(data: Mapping[str, Any]) -> int | None:
    """The summary may lack the seed; a sampler of the graph has it."""
    inputs = [node.inputs for node in from_prompt(data).values()]
    seeds = (integer_of(values.get(key)) for values in inputs for key in ("seed", "noise_seed"))
    return next((seed for seed in seeds if seed is not None), None)


def _resources(extra: Mapping[str, Any], data: Mapping[str, Any]) -> str:
    """As Civitai lists them elsewhere, kinds taken from the names that it gives files in the graph."""
    kinds = {version: kind for kind, _, version in _AIR.findall(json.dumps(data)[: 1 << 20])}
    listed = []
    for entry in objects(extra.get("resources")):
        version = integer_of(entry.get("modelVersionId"))
        if version is not None:
            strength = number_of(entry.get("strength"))
            kind = kinds.get(str(version), text_of(entry.get("type")).lower())
            listed.append(
                {"type": kind, "modelVersionId": version} | ({} if strength is None else {"weight": strength})
            )
    return json.dumps(listed) if listed else ""


def named(info: Infotext) -> Iterator[tuple[str, str, float | None]]:
    """Kind, words and weight of each entry of `Civitai resources`."""
    for entry in info.civitai_resources:
        air = _AIR.fullmatch(text_of(entry.get("air")))
        kind = _KINDS.get(text_of(entry.get("type")).lower() or (air[1].lower() if air else ""))
        version = integer_of(entry.get("modelVersionId")) or (integer_of(air[3]) if air else None)
        names = [text_of(entry.get(key)) for key in ("modelName", "versionName", "modelVersionName")]
        words = " ".join(name for name in names if name) or (f"Civitai version {version}" if version else "")
        if kind and words:
            weight = number_of(entry.get("weight"))
            yield kind, words, float(1.0 if weight is None else weight) if kind == "lora" else None
