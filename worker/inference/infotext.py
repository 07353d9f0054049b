"""Generation data in pictures: the "parameters" text that AUTOMATIC1111 began. No torch in here.

The web process reads it from pictures that people drop, so nothing is trusted: at most 64 KiB are
looked at, every expression is bounded, and a hash is a hint, never proof of a file. Written without
user names, paths or internal ids, and without the key that marks pictures as made on Civitai.
"""

import io
import json
import re
import warnings
from dataclasses import dataclass, field
from decimal import Decimal
from importlib.metadata import PackageNotFoundError, version

from PIL import Image, PngImagePlugin

from app.contract.family import GenerationDefaults
from app.contract.jobs import BlobRef, GenerateJob, LoraRef, SamplePrompt, TrainJob
from worker.inference.prompt import LoraTag, read_prompt

MAX_TEXT = 64 * 1024
"""Characters read of one text; what is beyond is not looked at."""
KEYWORD = "parameters"
_EXIF_IFD, _USER_COMMENT = 0x8769, 0x9286

_NEGATIVE = "Negative prompt:"
_KEY = re.compile(r"\s{0,8}(\w[\w \-/]{0,60}):[ ]{0,8}")
_STRING = re.compile(r'"(?:[^"\\]|\\.)*+"')
_MAX_PAIRS = 300
_SIZE = re.compile(r"(\d{1,6})x(\d{1,6})")
_HASH = re.compile(r"[0-9A-Fa-f]{8,64}")
_SCHEDULES = ("Karras", "Exponential", "SGM Uniform", "Beta")


@dataclass(frozen=True)
class UsedLora:
    """A LoRA that a text names: strength from the prompt, `hash` in lower case from one of the hash keys."""

    name: str
    strength: float = 1.0
    hash: str | None = None


@dataclass(frozen=True)
class Infotext:
    """`settings` holds all `key: value` pairs as written and in their order; the rest reads from them."""

    prompt: str = ""
    negative_prompt: str = ""
    settings: dict[str, str] = field(default_factory=dict)

    @property
    def steps(self) -> int | None:
        return _integer(self.settings.get("Steps"))

    @property
    def seed(self) -> int | None:
        return _integer(self.settings.get("Seed"))

    @property
    def clip_skip(self) -> int:
        return _integer(self.settings.get("Clip skip")) or 1

    @property
    def cfg_scale(self) -> float | None:
        return _real(self.settings.get("CFG scale"))

    @property
    def size(self) -> tuple[int, int] | None:
        """Width and height in pixels."""
        match = _SIZE.fullmatch(self.settings.get("Size", ""))
        return (int(match[1]), int(match[2])) if match else None

    @property
    def sampler(self) -> str | None:
        """Sampler and schedule as one name, the way Civitai writes it: `DPM++ 2M Karras`."""
        sampler, schedule = self.settings.get("Sampler"), self.settings.get("Schedule type")
        joined = sampler and schedule in _SCHEDULES and not sampler.endswith(schedule)
        return f"{sampler} {schedule}" if joined else sampler

    @property
    def model(self) -> str | None:
        return self.settings.get("Model") or None

    @property
    def model_hash(self) -> str | None:
        """Hex, lower case; 10 digits of the file's sha256 where the writer followed the custom."""
        written = self.settings.get("Model hash") or self.hashes.get("model", "")
        return written.lower() if _HASH.fullmatch(written) else None

    @property
    def hashes(self) -> dict[str, str]:
        """The `Hashes` object: `model`, `lora:<name>`, …"""
        try:
            found = json.loads(self.settings.get("Hashes", "{}"))
        except (json.JSONDecodeError, RecursionError):
            return {}
        pairs = found.items() if isinstance(found, dict) else ()
        return {key: value for key, value in pairs if isinstance(value, str)}

    @property
    def loras(self) -> list[UsedLora]:
        """Every LoRA that the prompt or the hashes name, in that order."""
        hashes = {key[5:]: value for key, value in self.hashes.items() if key.startswith("lora:")}
        for entry in self.settings.get("Lora hashes", "").split(","):
            name, _, digits = entry.rpartition(":")
            if name.strip() and _HASH.fullmatch(digits.strip()):
                hashes[name.strip()] = digits.strip()
        tags = {tag.name: tag for tag in read_prompt(self.prompt).loras}
        return [
            UsedLora(name, tags[name].unet if name in tags else 1.0, hashes.get(name, "").lower() or None)
            for name in dict.fromkeys([*tags, *hashes])
        ]


def _integer(text: str | None) -> int | None:
    return int(text) if text and re.fullmatch(r"-?\d{1,20}", text) else None


def _real(text: str | None) -> float | None:
    return float(text) if text and re.fullmatch(r"-?\d{1,9}(?:\.\d{0,9})?", text) else None


# writing


def describe(job: GenerateJob, seed: int) -> Infotext:
    """What one picture of a job was made with. The prompt names every LoRA of the job."""
    sampler, schedule = job.sampler, "Automatic"
    for known in _SCHEDULES:
        if sampler.endswith(f" {known}"):
            schedule = known
    settings = {
        "Steps": plain(job.steps),
        "Sampler": sampler,
        "Schedule type": schedule,
        "CFG scale": plain(job.cfg_scale),
        "Seed": plain(seed),
        "Size": f"{job.width}x{job.height}",
        "Model hash": job.base.file.sha256[:10],
        "Model": job.base.name,
    }
    if job.clip_skip > 1:
        settings["Clip skip"] = plain(job.clip_skip)
    settings["RNG"] = "CPU"  # where the noise is drawn; without this key readers assume their own device
    hashes = {"model": job.base.file.sha256[:10]}
    if job.loras:
        settings["Lora hashes"] = ", ".join(
            f"{lora.name}: {lora.autov3}" for lora in job.loras if lora.autov3
        )
        hashes |= {f"lora:{lora.name}": lora.file.sha256[:10] for lora in job.loras if lora.file.sha256}
    settings["Hashes"] = json.dumps(hashes, ensure_ascii=False)
    settings["Version"] = f"Bottega v{bottega_version()}"
    return Infotext(
        _naming_loras(job), job.negative_prompt, {key: text for key, text in settings.items() if text}
    )


def describe_sample(
    job: TrainJob, prompt: SamplePrompt, defaults: GenerationDefaults, *, lora: str = "", autov3: str = ""
) -> Infotext:
    """What a training's sample was made with: the family's usual settings, and the adapter as `lora`.

    `lora` is its file's name without ending, empty for the row without it. The file's own hash is not
    known when the picture is drawn; the tensors' is.
    """
    file = BlobRef(sha256="", size=0, name=lora)
    used = LoraRef(file=file, name=lora, strength=1.0, base_model=job.base.base_model, autov3=autov3)
    drawn = GenerateJob(
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
    )
    return describe(drawn, prompt.seed)


def _naming_loras(job: GenerateJob) -> str:
    named = {tag.name for tag in read_prompt(job.prompt).loras}
    missing = [f"<lora:{lora.name}:{plain(lora.strength)}>" for lora in job.loras if lora.name not in named]
    return " ".join([job.prompt, *missing]).strip()


def bottega_version() -> str:
    try:
        return version("bottega")
    except PackageNotFoundError:  # run from a folder that was not installed
        return "0"


def plain(number: float) -> str:
    """A number as people write it: 7 for 7.0, 0.8, never an exponent."""
    text = f"{Decimal(repr(number)):f}"
    return text.rstrip("0").rstrip(".") or "0" if "." in text else text


def write(info: Infotext) -> str:
    """The text of the `parameters` chunk."""
    lines = [info.prompt]
    if info.negative_prompt:
        lines.append(f"{_NEGATIVE} {info.negative_prompt}")
    lines.append(", ".join(f"{key}: {_quoted(key, value)}" for key, value in info.settings.items()))
    return "\n".join(lines).strip()


def _quoted(key: str, value: str) -> str:
    """Values with comma, colon or line break are JSON strings; `Hashes` stays bare, as is the custom."""
    if key == "Hashes" or not re.search(r"[,:\n\"]", value):
        return value
    return json.dumps(value, ensure_ascii=False)


def embed_png(image: Image.Image, infotext: str) -> bytes:
    """The picture as PNG with the text in a `parameters` chunk (iTXt where Latin-1 cannot hold it)."""
    chunks = PngImagePlugin.PngInfo()
    chunks.add_text(KEYWORD, infotext)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", pnginfo=chunks)
    return buffer.getvalue()


# reading


def read(text: str) -> Infotext:
    """Parse a `parameters` text. A last line with fewer than three pairs belongs to the prompt."""
    lines = text[:MAX_TEXT].replace("\r\n", "\n").strip().split("\n")
    settings = _pairs(lines[-1])
    if len(settings) >= 3:
        lines.pop()
    else:
        settings = {}
    start = next((at for at, line in enumerate(lines) if line.strip().startswith(_NEGATIVE)), len(lines))
    negative = "\n".join(lines[start:]).strip().removeprefix(_NEGATIVE)
    return Infotext("\n".join(lines[:start]).strip(), negative.strip(), settings)


def _pairs(line: str) -> dict[str, str]:
    """`key: value, …`; the first of equal keys wins. 300 tries, so a hostile line costs little."""
    found: dict[str, str] = {}
    at = 0
    for _ in range(_MAX_PAIRS):
        if key := _KEY.match(line, at):
            value, at = _value(line, key.end())
            found.setdefault(key[1].strip(), value)
        else:
            at = _next_comma(line, at)
        if at >= len(line):
            break
        at += 1
    return found


def _value(line: str, at: int) -> tuple[str, int]:
    """A quoted string, a JSON object or list, or everything up to the comma; with the place of that comma."""
    if string := _STRING.match(line, at):
        end, value = string.end(), _unquoted(string[0])
    else:
        end, value = _json_end(line, at), None
    stop = _next_comma(line, end)
    if line[end:stop].strip():  # something follows the closing mark: it was no quotation
        stop, value = _next_comma(line, at), None
    return (line[at:stop].strip() if value is None else value), stop


def _next_comma(line: str, at: int) -> int:
    found = line.find(",", at)
    return len(line) if found < 0 else found


def _json_end(line: str, at: int) -> int:
    if line[at : at + 1] not in ("{", "["):
        return _next_comma(line, at)
    try:
        return json.JSONDecoder().raw_decode(line, at)[1]
    except (json.JSONDecodeError, RecursionError):
        return _next_comma(line, at)


def _unquoted(quoted: str) -> str | None:
    try:
        return str(json.loads(quoted))
    except json.JSONDecodeError:
        return None


def find_text(image: Image.Image) -> str | None:
    """The generation text that a picture carries, not parsed: PNG chunk or EXIF UserComment; None without.

    `image` is opened but need not be decoded. At most 64 KiB of text are returned.
    """
    text = image.info.get(KEYWORD)
    if isinstance(text, str):
        return _repaired(text[:MAX_TEXT])
    try:
        with warnings.catch_warnings(action="ignore"):  # damaged EXIF says nothing
            comment = image.getexif().get_ifd(_EXIF_IFD).get(_USER_COMMENT)
    except (OSError, SyntaxError, ValueError, KeyError, TypeError):
        return None
    if isinstance(comment, str):
        return comment[:MAX_TEXT] or None
    return _user_comment(comment[: 2 * MAX_TEXT + 8]) if isinstance(comment, bytes) else None


def _repaired(text: str) -> str:
    """Some programs put UTF-8 into a Latin-1 chunk."""
    try:
        return text.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return text


def _user_comment(raw: bytes) -> str | None:
    """EXIF UserComment: `UNICODE` is UTF-16 of either byte order, everything else is tried as UTF-8."""
    body = raw[8:]
    if raw.startswith(b"UNICODE"):
        little = body[1::2].count(0) > body[0::2].count(0)
        text = body.decode("utf-16-le" if little else "utf-16-be", errors="replace")
    elif raw.startswith((b"ASCII\0", b"\0\0\0\0\0\0\0\0")):
        text = body.decode("utf-8", errors="replace")
    else:
        text = raw.decode("utf-8", errors="replace")
    return text.strip("\0\ufeff \n")[:MAX_TEXT] or None


__all__ = [
    "Infotext",
    "LoraTag",
    "UsedLora",
    "describe",
    "describe_sample",
    "embed_png",
    "find_text",
    "plain",
    "read",
    "write",
]
