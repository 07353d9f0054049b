"""The "parameters" text that AUTOMATIC1111 began: its grammar both ways, and what its settings say.

The web process reads it from pictures that people drop, so nothing is trusted: at most 64 KiB are
looked at, every expression is bounded, and a hash is a hint, never proof of a file.
"""

import json
import re
from dataclasses import dataclass, field
from decimal import Decimal

from app.contract.samplers import AUTOMATIC, joined_name, split_sampler
from worker.inference.prompt import read_prompt

MAX_TEXT = 64 * 1024
"""Characters read of one text; what is beyond is not looked at."""

_NEGATIVE = "Negative prompt:"
_KEY = re.compile(r"\s{0,8}(\w[\w \-/]{0,60}):[ ]{0,8}")
_STRING = re.compile(r'"(?:[^"\\]|\\.)*+"')
_MAX_PAIRS = 300
_SIZE = re.compile(r"(\d{1,6})x(\d{1,6})")
_BARE = ("Hashes", "Civitai resources", "Civitai metadata")
_HASH = re.compile(r"[0-9A-Fa-f]{8,64}")


@dataclass(frozen=True)
class UsedLora:
    """A LoRA that a text names: strength from the prompt, `hash` in lower case from one of the hash keys.

    `text_encoder_strength` is None where it is the same.
    """

    name: str
    strength: float = 1.0
    hash: str | None = None
    text_encoder_strength: float | None = None


@dataclass(frozen=True)
class SecondPass:
    """Drawn small, then larger: A1111's hires fix. `size` (pixels) where `scale` is not known."""

    scale: float | None = None
    size: tuple[int, int] | None = None
    upscaler: str = ""
    steps: int | None = None
    denoise: float | None = None


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
    def denoise(self) -> float | None:
        """Of a start picture, or of the second pass where there is one."""
        return _real(self.settings.get("Denoising strength"))

    @property
    def mask_blur(self) -> int | None:
        return _integer(self.settings.get("Mask blur"))

    @property
    def mask_padding(self) -> int | None:
        """Around the masked part where only that is drawn; None where the whole picture is."""
        return _integer(self.settings.get("Masked area padding"))

    @property
    def size(self) -> tuple[int, int] | None:
        """Width and height in pixels; of the first pass where there are two."""
        return _pixels(self.settings.get("Size"))

    @property
    def frames(self) -> int | None:
        """Of a clip; None for a picture."""
        return _integer(self.settings.get("Frames"))

    @property
    def fps(self) -> float | None:
        return _real(self.settings.get("FPS"))

    @property
    def shift(self) -> float | None:
        """Of a flow's noise schedule; Forge writes it too."""
        return _real(self.settings.get("Shift"))

    @property
    def hires(self) -> SecondPass | None:
        scale, size = _real(self.settings.get("Hires upscale")), _pixels(self.settings.get("Hires resize"))
        if not scale and (size is None or 0 in size):
            return None
        return SecondPass(
            scale or None,
            None if scale else size,
            self.settings.get("Hires upscaler", ""),
            _integer(self.settings.get("Hires steps")) or None,
            self.denoise,
        )

    @property
    def sampler(self) -> str | None:
        """Sampler and schedule as one name, the way Civitai writes it: `DPM++ 2M Karras`."""
        sampler, schedule = self.settings.get("Sampler"), self.settings.get("Schedule type")
        if not sampler or not schedule:
            return sampler or None
        name, said = split_sampler(sampler, schedule)
        return joined_name(name, said)

    @property
    def schedule(self) -> str:
        """A name of `app.contract.samplers.SCHEDULES`, or another as written; `Automatic` where none is."""
        written = self.settings.get("Schedule type") or AUTOMATIC
        return split_sampler(self.settings.get("Sampler", ""), written)[1]

    @property
    def model(self) -> str | None:
        return self.settings.get("Model") or None

    @property
    def model_hash(self) -> str | None:
        """Hex, lower case; 10 digits of the file's sha256 where the writer followed the custom."""
        return _hex(self.settings.get("Model hash"), self.hashes.get("model"))

    @property
    def vae(self) -> str | None:
        return self.settings.get("VAE") or None

    @property
    def vae_hash(self) -> str | None:
        return _hex(self.settings.get("VAE hash"), self.hashes.get("vae"))

    @property
    def hashes(self) -> dict[str, str]:
        """The `Hashes` object: `model`, `vae`, `lora:<name>`, `embed:<name>`."""
        found = _json(self.settings.get("Hashes"))
        pairs = found.items() if isinstance(found, dict) else ()
        return {
            clean(key): value for key, value in pairs if isinstance(value, str) and _HASH.fullmatch(value)
        }

    @property
    def loras(self) -> list[UsedLora]:
        """Every LoRA that the prompt or the hashes name, in that order."""
        hashes = self._hashes_of("lora:", "Lora hashes")
        tags = {tag.name: tag for tag in read_prompt(self.prompt).loras}
        found = []
        for name in dict.fromkeys([*tags, *hashes]):
            tag, digits = tags.get(name), hashes.get(name)
            if tag is None:
                found.append(UsedLora(name, hash=digits))
            else:
                apart = None if tag.text_encoder == tag.unet else tag.text_encoder
                found.append(UsedLora(name, tag.unet, digits, apart))
        return found

    @property
    def embeddings(self) -> dict[str, str]:
        """Textual inversions that have a hash: name → hex, lower case."""
        return self._hashes_of("embed:", "TI hashes")

    @property
    def civitai_resources(self) -> list[dict[str, object]]:
        """What Civitai's own generator wrote: `type`, `modelVersionId` or `air`, `weight`, names."""
        found = _json(self.settings.get("Civitai resources"))
        entries = found if isinstance(found, list) else []
        return [entry for entry in entries[:100] if isinstance(entry, dict)]

    def _hashes_of(self, prefix: str, key: str) -> dict[str, str]:
        """Name → hex. The custom key's 12 digits win over those of `Hashes`."""
        start = len(prefix)
        hashes = {
            name[start:]: digits.lower() for name, digits in self.hashes.items() if name.startswith(prefix)
        }
        for entry in self.settings.get(key, "").split(","):
            name, _, digits = entry.rpartition(":")
            if name.strip() and _HASH.fullmatch(digits.strip()):
                hashes[name.strip()] = digits.strip().lower()
        return hashes


def _integer(text: str | None) -> int | None:
    return int(text) if text and re.fullmatch(r"-?[0-9]{1,20}", text) else None


def _real(text: str | None) -> float | None:
    return float(text) if text and re.fullmatch(r"-?[0-9]{1,9}(?:\.[0-9]{0,9})?", text) else None


def _pixels(text: str | None) -> tuple[int, int] | None:
    match = _SIZE.fullmatch(text or "")
    return (int(match[1]), int(match[2])) if match else None


def _hex(*written: str | None) -> str | None:
    return next((text.lower() for text in written if text and _HASH.fullmatch(text)), None)


def _json(text: str | None) -> object:
    try:
        return json.loads(text or "null")
    except (ValueError, RecursionError):
        return None


def clean(text: str) -> str:
    """Without what no database stores: zero bytes and halves of surrogate pairs."""
    return text.replace("\0", "").encode("utf-8", "replace").decode()


# writing


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
    """Values with comma, colon or line break are JSON strings; those that are JSON themselves stay bare."""
    bare = key in _BARE and "\n" not in value
    if bare or not re.search(r"[,:\n\"]", value):
        return value
    return json.dumps(value, ensure_ascii=False)


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
    except (ValueError, RecursionError):
        return _next_comma(line, at)


def _unquoted(quoted: str) -> str | None:
    try:
        return clean(str(json.loads(quoted)))
    except json.JSONDecodeError:
        return None
