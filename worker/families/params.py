"""The training settings that families share: words, limits and usual defaults.

Torch-free, because the web form is drawn from it. A family states only what differs:
`image_params(unet_lr=5e-4, resolution=512)` changes defaults, `ParamLimits` objects replace a row.
Families of clips have other rows (`clip_params`); what one kind lacks stands in `UNUSED` for it.
"""

from app.contract.clips import MODES
from app.contract.family import ClipDefaults, ParamLimits
from app.contract.jobs import DENSITIES, LR_SCHEDULERS, OPTIMIZERS

Default = float | int | str | bool | None


def _number(
    label: str,
    help: str,
    default: float | None,
    limits: tuple[float, float, float],
    *,
    nullable: bool = False,
) -> ParamLimits:
    minimum, maximum, step = limits
    return ParamLimits(
        label=label,
        help=help,
        default=default,
        minimum=minimum,
        maximum=maximum,
        step=step,
        nullable=nullable,
    )


def _choice(label: str, help: str, default: str, choices: tuple[str, ...]) -> ParamLimits:
    return ParamLimits(label=label, help=help, default=default, choices=choices)


def _switch(label: str, help: str, default: bool) -> ParamLimits:
    return ParamLimits(label=label, help=help, default=default)


_LENGTH = {
    "resolution": _number(
        "Resolution", "Side of a square training picture, in pixels.", 512, (256, 1024, 64)
    ),
    "epochs": _number(
        "Epochs", "How many versions of the LoRA you can choose from at the end.", 10, (1, 50, 1)
    ),
    "repeats": _number(
        "Repeats",
        "How often each picture is shown in one epoch. Empty: chosen from the number of pictures.",
        None,
        (1, 5000, 1),
        nullable=True,
    ),
    "max_steps": _number(
        "Steps",
        "Train exactly this many steps. Empty: as epochs and repeats say.",
        None,
        (1, 10_000, 1),
        nullable=True,
    ),
    "batch_size": _number("Batch size", "Pictures in one step.", 4, (1, 16, 1)),
    "gradient_accumulation": _number(
        "Gradient accumulation", "Batches added up before one step. Saves memory.", 1, (1, 16, 1)
    ),
}
_LEARNING = {
    "unet_lr": _number(
        "Learning rate", "How far each step goes. Too high burns, too low learns nothing.", 1e-4, (0, 1, 1e-5)
    ),
    "text_encoder_lr": _number(
        "Text encoder learning rate", "0 leaves the text encoder as it is.", 0.0, (0, 1, 1e-5)
    ),
    "lr_scheduler": _choice(
        "Learning rate schedule", "How the rate falls over the run.", "cosine", LR_SCHEDULERS
    ),
    "lr_warmup": _number("Warm-up", "Share of all steps in which the rate rises.", 0.05, (0, 0.5, 0.01)),
    "lr_cycles": _number("Restarts", "Cycles of “cosine with restarts”.", 1, (1, 4, 1)),
    "optimizer": _choice(
        "Optimizer", "Prodigy finds the rate itself; set the learning rate to 1.", "adamw", OPTIMIZERS
    ),
}
_NETWORK = {
    "network_dim": _number("Network dim", "Size of the LoRA. More holds more detail.", 16, (1, 128, 1)),
    "network_alpha": _number(
        "Network alpha", "Strength of the LoRA while it learns; half of the dim is usual.", 8, (0.1, 128, 0.1)
    ),
    "conv_dim": _number(
        "Convolution dim",
        "Train convolutions too, with this size. Empty: no.",
        None,
        (1, 64, 1),
        nullable=True,
    ),
    "conv_alpha": _number(
        "Convolution alpha", "Empty: half of the convolution dim.", None, (0.1, 64, 0.1), nullable=True
    ),
}
_LOSS = {
    "noise_offset": _number(
        "Noise offset", "Helps very dark or very bright pictures. 0 = off.", 0.0, (0, 1, 0.01)
    ),
    "min_snr_gamma": _number(
        "Min-SNR gamma", "Evens out easy and hard noise levels. 0 = off.", 5.0, (0, 20, 0.5)
    ),
}
_PICTURES = {
    "enable_bucket": _switch("Aspect buckets", "Keep the shape of each picture. Off: cut a square.", True),
    "flip": _switch("Mirror pictures", "Also show each picture mirrored. Not for faces or letters.", False),
    "holdout": _switch(
        "Measure over-fitting",
        "From 8 pictures on, keep one in eight out of training to find the best epoch.",
        True,
    ),
}
_CAPTIONS = {
    "shuffle_tags": _switch("Shuffle tags", "Mix the order of the tags.", False),
    "keep_tokens": _number(
        "Keep tags",
        "This many tags stay behind the trigger word when the rest is mixed.",
        0,
        (0, 10, 1),
    ),
    "caption_dropout": _number(
        "Caption dropout", "Share of steps in which a picture comes without its tags.", 0.05, (0, 1, 0.01)
    ),
    "clip_skip": _number(
        "Clip skip", "1 = last layer of the text encoder, 2 = the one before.", 1, (1, 4, 1)
    ),
}
_RUN = {
    "gradient_checkpointing": _switch("Gradient checkpointing", "Less memory, slower steps.", False),
    "precision": _choice("Precision", "bf16 needs half the memory.", "fp32", ("fp32", "bf16")),
    "seed": _number("Seed", "The same seed and settings give the same LoRA.", 42, (0, 4_294_967_295, 1)),
    "save_every_epochs": _number("Save every", "Epochs between two saved versions.", 1, (1, 50, 1)),
}
_COMMON = _LENGTH | _LEARNING | _NETWORK | _LOSS | _PICTURES | _CAPTIONS | _RUN
_CLIPS = {
    "clip_windows": _choice(
        "Pieces of a clip",
        "uniform: spread evenly. head: the beginning. chunks: one after the other. sliding: overlapping. "
        "full: one piece, as long as can be.",
        "uniform",
        MODES,
    ),
    "clip_count": _number("Pieces", "Of each clip, with “uniform”.", 4, (1, 64, 1)),
    "clip_stride": _number(
        "Frames between pieces",
        "With “sliding”. Empty: half a piece.",
        None,
        (1, 1000, 1),
        nullable=True,
    ),
}
_FLOW = {
    "flow_shift": _number(
        "Shift of the noise",
        "More trains more on strong noise, where motion is decided. 1 = none.",
        1.0,
        (0.1, 20, 0.1),
    ),
    "timestep_density": _choice(
        "Noise levels", "logit_normal trains more in the middle, uniform alike.", "uniform", DENSITIES
    ),
}
UNUSED: dict[bool, dict[str, Default]] = {
    False: {
        "clip_frames": 1, "clip_windows": "uniform", "clip_count": 4, "clip_stride": None,
        "flow_shift": 1.0, "timestep_density": "uniform",
    },
    True: {
        "text_encoder_lr": 0.0, "conv_dim": None, "conv_alpha": None, "noise_offset": 0.0,
        "min_snr_gamma": 0.0, "clip_skip": 1,
    },
}  # fmt: skip
"""What the settings are that families of pictures (False) and of clips (True) do not have."""
_OF_CLIPS: dict[str, dict[str, str]] = {
    "resolution": {"help": "Side of a square training picture, in pixels; clips keep their shape."},
    "repeats": {"help": "How often each clip is shown in one epoch. Empty: chosen from their number."},
    "batch_size": {"help": "Pieces of clips in one step."},
    "enable_bucket": {"help": "Keep the shape of each clip. Off: cut a square."},
    "flip": {"label": "Mirror clips", "help": "Also show each clip mirrored. Not for motion to one side."},
    "holdout": {"help": "From 8 clips on, keep one in eight out of training to find the best epoch."},
    "caption_dropout": {"help": "Share of steps in which a clip comes without its label."},
}
"""Other words for the shared rows."""


def image_params(**changes: Default | ParamLimits) -> dict[str, ParamLimits]:
    """Limits by name of `TrainParams` field, in the order of the form.

    A plain value changes the default, a `ParamLimits` replaces the row. KeyError for an unknown name.
    """
    return _changed(dict(_COMMON), changes)


def clip_params(clips: ClipDefaults, **changes: Default | ParamLimits) -> dict[str, ParamLimits]:
    """The same for a family of clips: no rows that only U-Nets know, others for cutting and the flow."""
    rule = clips.rule
    frames = _number(
        "Frames of a piece",
        f"Clips are cut to this length, at {rule.fps:g} frames a second: a multiple of {rule.step}, and 1.",
        clips.window,
        (1, clips.max_window, rule.step),
    )
    lacking = UNUSED[True]
    rows = {name: row.model_copy(update=_OF_CLIPS.get(name, {})) for name, row in _COMMON.items()}
    before, behind = list(_LENGTH), [name for name in rows if name not in _LENGTH]
    ordered = {name: rows[name] for name in before} | {"clip_frames": frames} | _CLIPS
    ordered |= {name: rows[name] for name in behind if name not in lacking} | _FLOW
    return _changed(ordered, changes)


def _changed(
    rows: dict[str, ParamLimits], changes: dict[str, Default | ParamLimits]
) -> dict[str, ParamLimits]:
    for name, change in changes.items():
        row = rows[name]
        rows[name] = change if isinstance(change, ParamLimits) else row.model_copy(update={"default": change})
    return rows


def limited(name: str, **changes: Default) -> ParamLimits:
    """The shared row `name` with other limits: `limited("clip_skip", maximum=2)`."""
    return _COMMON[name].model_copy(update=changes)
