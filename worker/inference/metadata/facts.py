"""What a picture was made with, as plain values, and how that becomes an infotext: one order of keys for all.

Our own jobs and the data of other programs go through here, so they read the same afterwards.
"""

import json
import re
from dataclasses import dataclass

from app.contract.samplers import AUTOMATIC, SUFFIXES, joined_name, resolve_schedule, split_sampler
from app.contract.samplers import SAMPLERS as KNOWN
from worker.inference.metadata.infotext import MAX_TEXT, Infotext, SecondPass, clean, plain
from worker.inference.prompt import read_prompt

MAX_PROMPT = MAX_TEXT // 4
"""Characters kept of a prompt that another program's data gives."""
MAX_VALUE = 300


@dataclass(frozen=True)
class File:
    """A model file: `name` without folder and ending; hashes in hex, empty where not known.

    `short` is the hash that the custom key takes (10 digits of the file, 12 of the tensors);
    `digest` goes into `Hashes`.
    """

    name: str
    short: str = ""
    digest: str = ""
    strength: float = 1.0
    text_encoder_strength: float | None = None


@dataclass(frozen=True)
class Facts:
    """None and empty mean: not known, or not used."""

    prompt: str = ""
    negative_prompt: str = ""
    steps: int | None = None
    sampler: str = ""
    schedule: str = AUTOMATIC
    cfg_scale: float | None = None
    distilled_cfg: float | None = None
    seed: int | None = None
    size: tuple[int, int] | None = None
    model: File | None = None
    vae: File | None = None
    loras: tuple[File, ...] = ()
    embeddings: tuple[File, ...] = ()
    denoise: float | None = None
    """Of a start picture; of the second pass `SecondPass.denoise`."""
    mask_blur: int | None = None
    mask_padding: int | None = None
    clip_skip: int = 1
    hires: SecondPass | None = None
    frames: int | None = None
    """Of a clip."""
    fps: float | None = None
    shift: float | None = None
    """Of a flow's noise schedule."""
    noise: str = ""
    """Where the noise was drawn (`RNG`)."""
    version: str = ""
    extra: tuple[tuple[str, str], ...] = ()
    """Further keys, before `Version`."""


def compose(facts: Facts) -> Infotext:
    """The infotext of these facts. The prompt comes to name every LoRA, as A1111 needs it."""
    settings = _drawing(facts) | _models(facts) | _changes(facts) | _hashes(facts) | _hires(facts)
    settings |= dict(facts.extra)
    settings["Hashes"] = _hash_object(facts)
    settings["Version"] = facts.version
    return Infotext(
        naming_loras(facts.prompt, facts.loras).strip(),
        facts.negative_prompt.strip(),
        {key: text for key, text in settings.items() if text},
    )


def _drawing(facts: Facts) -> dict[str, str]:
    name, schedule = sampler_words(facts.sampler, facts.schedule)
    return {
        "Steps": _number(facts.steps),
        "Sampler": name,
        "Schedule type": schedule,
        "CFG scale": _number(facts.cfg_scale),
        "Distilled CFG Scale": _number(facts.distilled_cfg),
        "Seed": _number(facts.seed),
        "Size": _size(facts.size),
        "Frames": _number(facts.frames),
        "FPS": _number(facts.fps),
        "Shift": _number(facts.shift),
    }


def sampler_words(sampler: str, schedule: str) -> tuple[str, str]:
    """Joined name and schedule: readers know the one or the other. A schedule that does not show in the
    name stands as it was asked for."""
    name, schedule = split_sampler(sampler, schedule)
    if not name:
        return "", ""
    resolved = resolve_schedule(name, schedule) if name in KNOWN else schedule
    return joined_name(name, schedule), resolved if resolved in SUFFIXES else schedule


def _models(facts: Facts) -> dict[str, str]:
    model, vae = facts.model or File(""), facts.vae or File("")
    return {"Model hash": model.short, "Model": model.name, "VAE hash": vae.short, "VAE": vae.name}


def _changes(facts: Facts) -> dict[str, str]:
    second = facts.hires.denoise if facts.hires else None
    return {
        "Denoising strength": _number(facts.denoise if facts.denoise is not None else second),
        "Clip skip": _number(facts.clip_skip) if facts.clip_skip > 1 else "",
        "RNG": facts.noise,
    }


def _hashes(facts: Facts) -> dict[str, str]:
    return {
        "Lora hashes": ", ".join(f"{lora.name}: {lora.short}" for lora in facts.loras if lora.short),
        "TI hashes": ", ".join(f"{one.name}: {one.short}" for one in facts.embeddings if one.short),
    }


def _hires(facts: Facts) -> dict[str, str]:
    hires = facts.hires or SecondPass()
    return {
        "Hires upscale": _number(hires.scale),
        "Hires resize": "" if hires.scale else _size(hires.size),
        "Hires steps": _number(hires.steps),
        "Hires upscaler": hires.upscaler,
        "Mask blur": _number(facts.mask_blur),
        "Inpaint area": "" if facts.mask_padding is None else "Only masked",
        "Masked area padding": _number(facts.mask_padding),
    }


def _hash_object(facts: Facts) -> str:
    named = [("model", facts.model), ("vae", facts.vae)]
    named += [(f"lora:{lora.name}", lora) for lora in facts.loras]
    named += [(f"embed:{one.name}", one) for one in facts.embeddings]
    hashes = {key: file.digest for key, file in named if file and file.digest}
    return json.dumps(hashes, ensure_ascii=False) if hashes else ""


def naming_loras(prompt: str, loras: tuple[File, ...]) -> str:
    """The prompt with a tag for each LoRA that it does not name yet; te and unet apart where they differ."""
    named = {tag.name for tag in read_prompt(prompt).loras}
    missing = [_tag(lora) for lora in loras if lora.name not in named]
    return " ".join([prompt, *missing]) if missing else prompt


def _tag(lora: File) -> str:
    apart = lora.text_encoder_strength
    both = plain(lora.strength)
    same = apart is None or apart == lora.strength
    return f"<lora:{lora.name}:{both}>" if same else f"<lora:{lora.name}:{plain(apart or 0.0)}:{both}>"


def _number(value: float | None) -> str:
    return "" if value is None else plain(value)


def _size(size: tuple[int, int] | None) -> str:
    return f"{size[0]}x{size[1]}" if size else ""


# values out of strangers' JSON


def text_of(value: object, limit: int = MAX_VALUE) -> str:
    """A short clean text; empty for what is none."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return ""
    return clean(str(value)[:limit]).strip()


def number_of(value: object) -> float | None:
    """A finite number of moderate size, also where it stands in a text."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value if abs(value) < 1e9 else None
    found = (
        re.fullmatch(r"\s{0,8}(-?[0-9]{1,9}(?:\.[0-9]{0,20})?)\s{0,8}", value[:60])
        if isinstance(value, str)
        else None
    )
    return float(found[1]) if found else None


def integer_of(value: object) -> int | None:
    """Seeds may have 64 bits, so they must not pass through a float."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value if abs(value) < 1 << 64 else None
    if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,20}", value.strip()[:30]):
        return int(value)
    number = number_of(value)
    return int(number) if number is not None and number == int(number) else None


def size_of(width: object, height: object) -> tuple[int, int] | None:
    """Both between 1 and 99 999 pixels, or nothing."""
    across, down = integer_of(width) or 0, integer_of(height) or 0
    return (across, down) if 0 < across < 100_000 and 0 < down < 100_000 else None


_ENDING = re.compile(r"\.(?:safetensors|ckpt|pt|pth|bin|gguf|sft|zip)$", re.IGNORECASE)


def stem(value: object) -> str:
    """The name of a model file without folders and ending. `None` in a choice means none."""
    name = _ENDING.sub("", re.split(r"[/\\]", text_of(value))[-1])
    name = re.sub(r"[<>\n\r]", "", name).strip()
    return "" if name.lower() in ("none", "undefined") else name


def digits_of(value: object) -> str:
    """Hex of a hash, lower case: without `0x` or `blake3:` before it."""
    text = text_of(value).lower().rpartition(":")[2].removeprefix("0x")
    return text if re.fullmatch(r"[0-9a-f]{8,64}", text) else ""
