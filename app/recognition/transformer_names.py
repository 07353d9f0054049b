"""The layers of video transformers by name: diffusers' and those of the published files. No torch.

LoRAs are written with either, so both are read. LTX-Video is called alike everywhere.
"""

import re
from typing import NamedTuple

_WAN = (
    (re.compile(r"\.attn1\."), ".self_attn."),
    (re.compile(r"\.attn2\."), ".cross_attn."),
    (re.compile(r"\.to_([qkv])(?=\.|$)"), r".\1"),
    (re.compile(r"\.to_out\.0(?=\.|$)"), ".o"),
    (re.compile(r"\.ffn\.net\.0\.proj(?=\.|$)"), ".ffn.0"),
    (re.compile(r"\.ffn\.net\.2(?=\.|$)"), ".ffn.2"),
)


class WanNames(NamedTuple):
    """Wan 2.1 and 2.2."""

    def name(self, path: str) -> str:
        """`blocks.0.attn1.to_q` → `blocks.0.self_attn.q`. ValueError for what is no layer of a block."""
        if not path.startswith("blocks."):
            raise ValueError(f"Not a layer of a block of Wan: {path}")
        for pattern, replacement in _WAN:
            path = pattern.sub(replacement, path)
        return path


class LtxNames(NamedTuple):
    """LTX-Video."""

    def name(self, path: str) -> str:
        """The same name. ValueError for what is no layer of a block."""
        if not path.startswith("transformer_blocks."):
            raise ValueError(f"Not a layer of a block of LTX-Video: {path}")
        return path
