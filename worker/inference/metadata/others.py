"""Programs that write JSON of their own: Fooocus, InvokeAI, SwarmUI, NovelAI, Draw Things. Values → Facts.

Each reader takes the decoded object of a stranger, so every value is checked before it is used;
what is of another type than expected counts as absent.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from worker.inference.metadata.facts import (
    MAX_PROMPT,
    Facts,
    File,
    digits_of,
    integer_of,
    number_of,
    size_of,
    stem,
    text_of,
)
from worker.inference.metadata.infotext import SecondPass
from worker.inference.metadata.samplers import name_sampler
from worker.inference.metadata.texts import MAX_BYTES

MAX_FILES = 100
Object = Mapping[str, Any]


def decode(text: str | None) -> dict[str, Any] | None:
    """A JSON object, or None for whatever is none."""
    if not text or not text.lstrip("\ufeff \r\n\t").startswith("{") or len(text) > MAX_BYTES:
        return None
    try:
        found = json.loads(text.lstrip("\ufeff"))
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def prompt_of(value: object) -> str:
    return text_of(value, MAX_PROMPT) if isinstance(value, str) else ""


def objects(value: object) -> list[dict[str, Any]]:
    """The objects of a list, the first hundred."""
    return (
        [entry for entry in value[:MAX_FILES] if isinstance(entry, dict)] if isinstance(value, list) else []
    )


def obj(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def named_file(name: object, digest: object = "", **strengths: Any) -> File | None:
    """`short` stays empty: whose hash it is, of the file or its tensors, only the keys can tell."""
    return File(stem(name), digest=digits_of(digest), **strengths) if stem(name) else None


# Fooocus


def fooocus(data: Object) -> tuple[Facts, list[str]]:
    """Both of its JSON forms: keys of the metadata, or the labels of its older log."""

    def said(key: str) -> Any:
        return data.get(key, data.get(_FOOOCUS_LABELS.get(key, key)))

    width, height = [*re.findall(r"[0-9]{1,6}", text_of(said("resolution")))[:2], "", ""][:2]
    sampler, schedule = name_sampler(text_of(said("sampler")), text_of(said("scheduler")))
    vae = text_of(said("vae"))
    notes = []
    if text_of(said("styles")) not in ("", "[]"):
        notes.append(
            f"Fooocus added the words of its styles {text_of(said('styles'))}; they are not in the prompt."
        )
    if stem(said("refiner_model")):
        notes.append(f"A refiner was used: {stem(said('refiner_model'))}.")
    return Facts(
        prompt=prompt_of(said("prompt")),
        negative_prompt=prompt_of(said("negative_prompt")),
        steps=integer_of(said("steps")),
        sampler=sampler,
        schedule=schedule,
        cfg_scale=number_of(said("guidance_scale")),
        seed=integer_of(said("seed")),
        size=size_of(width, height),
        model=named_file(said("base_model"), said("base_model_hash")),
        vae=None if vae.startswith("Default") else named_file(vae),
        loras=tuple(_fooocus_loras(data)),
        clip_skip=integer_of(said("clip_skip")) or 1,
        version=text_of(said("version")) or "Fooocus",
    ), notes


_FOOOCUS_LABELS = {
    "prompt": "Prompt",
    "negative_prompt": "Negative Prompt",
    "styles": "Styles",
    "steps": "Steps",
    "resolution": "Resolution",
    "guidance_scale": "Guidance Scale",
    "base_model": "Base Model",
    "refiner_model": "Refiner Model",
    "sampler": "Sampler",
    "scheduler": "Scheduler",
    "vae": "VAE",
    "seed": "Seed",
    "version": "Version",
}


def _fooocus_loras(data: Object) -> Iterator[File]:
    listed = data.get("loras")
    for entry in listed[:MAX_FILES] if isinstance(listed, list) else []:
        if isinstance(entry, list) and len(entry) >= 2:
            yield from _one(entry[0], entry[1], entry[2] if len(entry) > 2 else "")
    if listed:
        return
    for number in range(1, 21):
        combined = text_of(data.get(f"lora_combined_{number}", data.get(f"LoRA {number}")))
        name, _, weight = combined.rpartition(" : ")
        yield from _one(name.removeprefix("True : "), weight, "")


def _one(name: object, strength: object, digest: object) -> Iterator[File]:
    number = number_of(strength)
    if found := named_file(name, digest, strength=1.0 if number is None else number):
        yield found


# InvokeAI


def invoke(data: Object) -> tuple[Facts, list[str]]:
    """`invokeai_metadata`, of version 3 and later; names moved between the versions."""
    model, vae = obj(data.get("model")), obj(data.get("vae"))
    sampler, schedule = name_sampler(text_of(data.get("scheduler")))
    style = prompt_of(data.get("positive_style_prompt"))
    prompt = prompt_of(data.get("positive_prompt"))
    skipped = integer_of(data.get("clip_skip")) or 0
    return Facts(
        prompt=f"{prompt}\n{style}" if style and style != prompt else prompt,
        negative_prompt=prompt_of(data.get("negative_prompt")),
        steps=integer_of(data.get("steps")),
        sampler=sampler,
        schedule=schedule,
        cfg_scale=number_of(data.get("cfg_scale")),
        distilled_cfg=number_of(data.get("guidance")),
        seed=integer_of(data.get("seed")),
        size=size_of(data.get("width"), data.get("height")),
        model=named_file(model.get("name", model.get("model_name")), model.get("hash")),
        vae=named_file(vae.get("name", vae.get("model_name")), vae.get("hash")),
        loras=tuple(_invoke_loras(data)),
        denoise=number_of(data.get("strength")),
        clip_skip=skipped + 1 if 0 < skipped < 12 else 1,
        noise=text_of(data.get("rand_device")).upper(),
        version=f"InvokeAI {text_of(data.get('app_version'))}".strip(),
    ), _compel(prompt)


def _invoke_loras(data: Object) -> Iterator[File]:
    for entry in objects(data.get("loras")):
        lora = obj(entry.get("model") or entry.get("lora"))
        yield from _one(lora.get("name", lora.get("model_name")), entry.get("weight"), lora.get("hash"))


def _compel(prompt: str) -> list[str]:
    weighted = re.search(r"[\w)](?:\+|--)(?:[\s,)+-]|$)|\)[0-9]", prompt)
    return (
        ["Weights stand in InvokeAI's way, like word++ or (words)1.2; here they are written (words:1.2)."]
        if weighted
        else []
    )


def invoke_2(data: Object) -> tuple[Facts, list[str]]:
    """`sd-metadata` of InvokeAI 2. The negative prompt stands in square brackets."""
    image = obj(data.get("image"))
    said = image.get("prompt")
    whole = ", ".join(prompt_of(part.get("prompt")) for part in objects(said)) or prompt_of(said)
    prompt, negative = _apart(whole)
    sampler, schedule = name_sampler(text_of(image.get("sampler")))
    return Facts(
        prompt=prompt,
        negative_prompt=negative,
        steps=integer_of(image.get("steps")),
        sampler=sampler,
        schedule=schedule,
        cfg_scale=number_of(image.get("cfg_scale")),
        seed=integer_of(image.get("seed")),
        size=size_of(image.get("width"), image.get("height")),
        model=named_file(data.get("model_weights"), data.get("model_hash")),
        version=f"InvokeAI {text_of(data.get('app_version'))}".strip(),
    ), _compel(prompt)


def dream(command: str) -> tuple[Facts, list[str]]:
    """The command line of InvokeAI 1 and 2: `"a cat [dog]" -s 50 -S 123 -W 512 -H 512 -C 7.5 -A k_lms`."""
    start, end = command.find('"'), command.rfind('"')
    prompt, negative = _apart(prompt_of(command[start + 1 : end]) if 0 <= start < end else "")
    flags = dict(re.findall(r"(?:^|\s)-([A-Za-z])\s?([^\s-][^\s]{0,60})", command[end + 1 :][:4000]))
    sampler, schedule = name_sampler(flags.get("A", ""))
    return Facts(
        prompt=prompt,
        negative_prompt=negative,
        steps=integer_of(flags.get("s")),
        sampler=sampler,
        schedule=schedule,
        cfg_scale=number_of(flags.get("C")),
        seed=integer_of(flags.get("S")),
        size=size_of(flags.get("W"), flags.get("H")),
        version="InvokeAI",
    ), _compel(prompt)


def _apart(prompt: str) -> tuple[str, str]:
    """Prompt and negative prompt of a text that has the second in square brackets."""
    negative = ", ".join(re.findall(r"\[([^\[\]]*)\]", prompt))
    rest = re.sub(r"\[[^\[\]]*\]", "", prompt)
    return re.sub(r",(?:\s{0,8},)+", ",", rest).strip(" ,\n"), negative.strip()


# SwarmUI


def swarm(data: Object) -> tuple[Facts, list[str]]:
    """`sui_image_params`; `sui_models` beside it tells tensor hashes."""
    made = obj(data.get("sui_image_params"))
    hashes = {stem(m.get("name")): digits_of(m.get("hash"))[:12] for m in objects(data.get("sui_models"))}
    sampler, schedule = name_sampler(text_of(made.get("sampler")), text_of(made.get("scheduler")))
    names, weights = _listed(made.get("loras")), _listed(made.get("loraweights"))
    loras = [
        _one(n, w, hashes.get(stem(n), "")) for n, w in zip(names, weights + ["1"] * len(names), strict=False)
    ]
    layer = integer_of(made.get("clipstopatlayer")) or -1
    model, vae = stem(made.get("model")), stem(made.get("vae"))
    scale = number_of(made.get("refinerupscale"))
    redrawn = number_of(made.get("refinercontrolpercentage"))
    hires = SecondPass(scale=scale, denoise=redrawn) if scale and scale > 1 else None
    return Facts(
        prompt=prompt_of(made.get("prompt")),
        negative_prompt=prompt_of(made.get("negativeprompt")),
        steps=integer_of(made.get("steps")),
        sampler=sampler,
        schedule=schedule,
        cfg_scale=number_of(made.get("cfgscale")),
        distilled_cfg=number_of(made.get("fluxguidancescale")),
        seed=integer_of(made.get("seed")),
        size=size_of(made.get("width"), made.get("height")),
        model=named_file(model, hashes.get(model, "")),
        vae=None if vae.lower() in ("automatic", "") else named_file(vae, hashes.get(vae, "")),
        loras=tuple(file for found in loras for file in found),
        denoise=number_of(made.get("initimagecreativity")),
        clip_skip=-layer if -12 < layer < -1 else 1,
        hires=hires,
        version=f"SwarmUI {text_of(made.get('swarm_version'))}".strip(),
    ), []


def _listed(value: object) -> list[Any]:
    """A list, also where it is written as one text with commas."""
    return value[:MAX_FILES] if isinstance(value, list) else text_of(value, 4000).split(",")[:MAX_FILES]


# NovelAI


def novelai(data: Object, texts: Mapping[str, str]) -> tuple[Facts, list[str]]:
    """Its `Comment`, with the prompt and the model in chunks of their own."""
    v4 = obj(obj(data.get("v4_prompt")).get("caption"))
    prompt = (
        prompt_of(data.get("prompt"))
        or prompt_of(v4.get("base_caption"))
        or prompt_of(texts.get("Description"))
    )
    people = [prompt_of(person.get("char_caption")) for person in objects(v4.get("char_captions"))]
    source, _, digits = text_of(texts.get("Source")).rpartition(" ")
    known = bool(source) and bool(re.fullmatch(r"[0-9A-F]{8}", digits))
    sampler, schedule = name_sampler(text_of(data.get("sampler")), text_of(data.get("noise_schedule")))
    drawn_from = number_of(data.get("strength")) if data.get("request_type") == "Img2ImgRequest" else None
    notes = (
        ["NovelAI's {words} weigh 1.05 and [words] 1/1.05; they are kept as written."]
        if re.search(r"[{\[]", prompt)
        else []
    )
    return Facts(
        prompt="\n".join(part for part in [prompt, *people] if part),
        negative_prompt=prompt_of(data.get("uc")),
        steps=integer_of(data.get("steps")),
        sampler=sampler,
        schedule=schedule,
        cfg_scale=number_of(data.get("scale")),
        seed=integer_of(data.get("seed")),
        size=size_of(data.get("width"), data.get("height")),
        model=named_file(source if known else texts.get("Source"), digits if known else ""),
        denoise=drawn_from,
        version="NovelAI",
    ), notes


# Draw Things


def draw_things(data: Object) -> tuple[Facts, list[str]]:
    """The JSON in its XMP: `c` is the prompt, `uc` the negative one."""
    width, _, height = text_of(data.get("size")).partition("x")
    sampler, schedule = name_sampler(text_of(data.get("sampler")))
    strength = number_of(data.get("strength"))
    loras = [_one(lora.get("model"), lora.get("weight"), "") for lora in objects(data.get("lora"))]
    return Facts(
        prompt=prompt_of(data.get("c")),
        negative_prompt=prompt_of(data.get("uc")),
        steps=integer_of(data.get("steps")),
        sampler=sampler,
        schedule=schedule,
        cfg_scale=number_of(data.get("scale")),
        seed=integer_of(data.get("seed")),
        size=size_of(width, height),
        model=named_file(data.get("model")),
        loras=tuple(file for found in loras for file in found),
        denoise=strength if strength is not None and strength < 1 else None,
        version="Draw Things",
    ), []
