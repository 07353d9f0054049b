"""Files that are no safetensors files, told by their first bytes, with what their owner can do about it.

The name of a file is not asked: people rename files, and a web page saved as `model.safetensors` is common.
"""

import re
from collections.abc import Callable

FOREIGN_BYTES = 512
"""So many bytes from the start are enough to tell."""
_LARGEST = 100 << 20
"""The library's own limit of a header: what says more is something else."""
_CONVERT = (
    "Upload its .safetensors form: most pages offer one, and ComfyUI (Load Checkpoint, then Save "
    "Checkpoint) or OneTrainer (Tools, Convert Model) make one on a computer that you trust."
)
PICKLE = (
    "This is a pickle (.ckpt, .pt, .pth or .bin), a kind of file that can run programs when it is opened, "
    f"so it is never opened here. {_CONVERT}"
)
WEB_PAGE = (
    "This is a web page, not a model: the download was answered with a page, often one that asks to log in. "
    "Download the file again in the browser where you are logged in."
)
GGUF = (
    "This is a GGUF file, which only programs for compressed models can run. Upload the .safetensors form "
    "of the same model."
)


class HeaderRefused(ValueError):
    """A file that cannot be taken, with a stable `code` and words for its owner."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


def refuse_foreign(start: bytes, size: int) -> None:
    """Errors: HeaderRefused when the first bytes are not those of a safetensors file of `size` bytes."""
    if size == 0:
        raise HeaderRefused("empty-file", "The file is empty. Copy or download it again.")
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= _LARGEST:
        return
    for looks_so, code, words in KINDS:
        if looks_so(start):
            raise HeaderRefused(code, words)
    raise HeaderRefused(
        "not-a-model",
        "This is not a safetensors file. Upload a model as .safetensors, or a diffusers folder as .zip.",
    )


def _begins(*magic: bytes) -> Callable[[bytes], bool]:
    return lambda start: start.startswith(magic)


def _is_pickle(start: bytes) -> bool:
    """Protocols 2-5 begin with 0x80 and their number, older ones with an opcode; torch zips hold data.pkl."""
    if start[:2] in (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"):
        return True
    if start.startswith(b"PK\x03\x04"):
        return b"data.pkl" in start
    return start[257:262] == b"ustar" or re.match(rb"\(?[dl]p[01]\n|c\w[\w.]*\n\w+\n", start) is not None


def _is_web_page(start: bytes) -> bool:
    head = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    return head.startswith((b"<!doctype", b"<html", b"<head", b"<?xml", b"<script"))


def _is_text(start: bytes) -> bool:
    try:
        text = start[:-3].decode() if len(start) == FOREIGN_BYTES else start.decode()
    except UnicodeDecodeError:
        return False
    return all(c.isprintable() or c in "\r\n\t" for c in text)


def _is_picture(start: bytes) -> bool:
    return start.startswith((b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"RIFF")) or start[4:8] == b"ftyp"


def _is_onnx(start: bytes) -> bool:
    return start[:1] == b"\x08" and (b"pytorch" in start[:64] or b"onnx" in start[:64])


KINDS: tuple[tuple[Callable[[bytes], bool], str, str], ...] = (
    (_is_pickle, "pickle", PICKLE),
    (
        _begins(b"PK\x03\x04", b"PK\x05\x06"),
        "zip",
        "This is a zip. A checkpoint may come as the zip of a diffusers folder, with the ending .zip; other "
        "models have to be unpacked, and their .safetensors file uploaded.",
    ),
    (_begins(b"GGUF", b"GGML", b"ggml", b"tjgg"), "gguf", GGUF),
    (_is_web_page, "web-page", WEB_PAGE),
    (
        _begins(b"version https://git-lfs"),
        "lfs-pointer",
        "This is only the pointer of a large file: the repository was fetched without its large files. "
        "Fetch them (git lfs pull), or download the file from its page.",
    ),
    (_is_picture, "picture", "This is a picture or a clip, not a model. Choose the .safetensors file."),
    (
        _begins(b"7z\xbc\xaf", b"Rar!", b"\x1f\x8b", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd", b"BZh"),
        "archive",
        "This is a packed archive. Unpack it and upload the .safetensors file inside.",
    ),
    (
        lambda start: _is_onnx(start) or start.startswith((b"\x89HDF", b"\x93NUMPY")),
        "other-format",
        "This model is in a format of other programs (ONNX, HDF5 or NumPy). Upload it as .safetensors.",
    ),
    (
        lambda start: not any(start),
        "file-cut-off",
        "This file begins with zeros: its download never finished. Download it again.",
    ),
    (_is_text, "text", "This is a text, not a model. Choose the .safetensors file."),
)
