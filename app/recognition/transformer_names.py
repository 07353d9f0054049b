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
    (re.compile(r"\.norm2(?=\.|$)"), ".norm3"),
)
_WAN_OUTER = {
    "patch_embedding": "patch_embedding",
    "proj_out": "head.head",
    "condition_embedder.time_embedder.linear_1": "time_embedding.0",
    "condition_embedder.time_embedder.linear_2": "time_embedding.2",
    "condition_embedder.time_proj": "time_projection.1",
    "condition_embedder.text_embedder.linear_1": "text_embedding.0",
    "condition_embedder.text_embedder.linear_2": "text_embedding.2",
}
"""Around the blocks: LoRAs that make do with few steps change these too."""


class WanNames(NamedTuple):
    """Wan 2.1 and 2.2."""

    def name(self, path: str) -> str:
        """`blocks.0.attn1.to_q` → `blocks.0.self_attn.q`. ValueError for what is no layer of Wan."""
        if path in _WAN_OUTER:
            return _WAN_OUTER[path]
        if not path.startswith("blocks."):
            raise ValueError(f"Not a layer of Wan: {path}")
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
