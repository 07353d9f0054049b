"""Where single files of Wan and LTX-Video keep each tensor, by our names, which are diffusers'. No torch.

Wan's are those of its makers. LTX-Video numbers the pieces of its autoencoder in a row, so that which
number a piece has follows from the sizes.
"""

import re
from collections.abc import Iterator

from app.recognition.transformer_names import WanNames
from worker.families.ldm_keys import Config, Place

WAN = WanNames()
_RESIDUAL = {"norm1": "residual.0", "conv1": "residual.2", "norm2": "residual.3", "conv2": "residual.6"}
_WAN_VAE = (
    (r"^quant_conv\.", "conv1."),
    (r"^post_quant_conv\.", "conv2."),
    (r"\.conv_in\.", ".conv1."),
    (r"\.conv_out\.", ".head.2."),
    (r"\.norm_out\.", ".head.0."),
    (r"\.mid_block\.resnets\.0\.", ".middle.0."),
    (r"\.mid_block\.attentions\.0\.", ".middle.1."),
    (r"\.mid_block\.resnets\.1\.", ".middle.2."),
    (r"\.conv_shortcut\.", ".shortcut."),
)
_LTX = (
    (r"^proj_in\.", "patchify_proj."),
    (r"^time_embed\.", "adaln_single."),
    (r"\.norm_([qk])\.", r".\1_norm."),
)
_LTX_VAE = (
    (r"\.resnets\.", ".res_blocks."),
    (r"\.conv_shortcut\.conv\.", ".conv_shortcut."),
    (r"\.norm3\.", ".norm3.norm."),
    (r"^decoder\.(time_embedder|scale_shift_table)", r"decoder.last_\1"),
    (r"^latents_mean$", "per_channel_statistics.mean-of-means"),
    (r"^latents_std$", "per_channel_statistics.std-of-means"),
)
_PIECE = re.compile(
    r"^(?P<piece>(encoder|decoder)\.(mid_block|(down|up)_blocks\.\d+(\.(downsamplers\.0|upsamplers\.0|conv_in|conv_out))?))\."
)


def wan_place(name: str, _config: Config) -> Place:
    """The transformer."""
    if name == "scale_shift_table":
        return Place("head.modulation")
    if name.endswith(".scale_shift_table"):
        return Place(name.removesuffix("scale_shift_table") + "modulation")
    layer, _, kind = name.rpartition(".")
    return Place(f"{WAN.name(layer)}.{kind}")


def wan_vae_place(name: str, config: Config) -> Place:
    """The autoencoder: blocks in one row, or with `is_residual` (Wan 2.2 5B) in rows of rows."""
    blocks = config["num_res_blocks"]
    if config["is_residual"]:
        name = re.sub(r"^encoder\.down_blocks\.(\d+)\.", r"encoder.downsamples.\1.", name)
        name = re.sub(r"^decoder\.up_blocks\.(\d+)\.", r"decoder.upsamples.\1.", name)
        name = re.sub(r"(\.downsamples\.\d+)\.resnets\.", r"\1.downsamples.", name)
        name = re.sub(r"(\.upsamples\.\d+)\.resnets\.", r"\1.upsamples.", name)
        name = name.replace(".downsampler.", f".downsamples.{blocks}.")
        name = name.replace(".upsampler.", f".upsamples.{blocks + 1}.")
    else:
        row = blocks + 2
        name = re.sub(r"^encoder\.down_blocks\.", "encoder.downsamples.", name)
        name = re.sub(
            r"^decoder\.up_blocks\.(\d+)\.resnets\.(\d+)\.",
            lambda found: f"decoder.upsamples.{row * int(found[1]) + int(found[2])}.",
            name,
        )
        name = re.sub(
            r"^decoder\.up_blocks\.(\d+)\.upsamplers\.0\.",
            lambda found: f"decoder.upsamples.{row * int(found[1]) + blocks + 1}.",
            name,
        )
    for pattern, replacement in _WAN_VAE:
        name = re.sub(pattern, replacement, name)
    name = re.sub(
        r"((?:samples|middle)\.\d+)\.(norm1|conv1|norm2|conv2)\.",
        lambda m: f"{m[1]}.{_RESIDUAL[m[2]]}.",
        name,
    )
    return Place(name)


def ltx_place(name: str, _config: Config) -> Place:
    """The transformer."""
    for pattern, replacement in _LTX:
        name = re.sub(pattern, replacement, name)
    return Place(name)


def ltx_vae_place(name: str, config: Config) -> Place:
    """The autoencoder."""
    if found := _PIECE.match(name):
        side = found[2]
        number = list(_down(config) if side == "encoder" else _up(config)).index(found["piece"])
        row = "down_blocks" if side == "encoder" else "up_blocks"
        name = f"{side}.{row}.{number}{name[found.end('piece') :]}"
    for pattern, replacement in _LTX_VAE:
        name = re.sub(pattern, replacement, name)
    return Place(name)


def _down(config: Config) -> Iterator[str]:
    """The encoder's pieces in their order."""
    widths, kinds = config["block_out_channels"], config["down_block_types"]
    for number, shrinks in enumerate(config["spatio_temporal_scaling"]):
        block = f"encoder.down_blocks.{number}"
        yield block
        if shrinks:
            yield f"{block}.downsamplers.0"
        if "095" not in kinds[number] and widths[number] != widths[min(number + 1, len(widths) - 1)]:
            yield f"{block}.conv_out"
    yield "encoder.mid_block"


def _up(config: Config) -> Iterator[str]:
    """The decoder's; its sizes are written from the last block to the first."""
    yield "decoder.mid_block"
    widths, factors = config["decoder_block_out_channels"][::-1], config["upsample_factor"][::-1]
    before = widths[0]
    for number, grows in enumerate(config["decoder_spatio_temporal_scaling"][::-1]):
        block, width = f"decoder.up_blocks.{number}", widths[number] // factors[number]
        if before // factors[number] != width:
            yield f"{block}.conv_in"
        if grows:
            yield f"{block}.upsamplers.0"
        yield block
        before = width
