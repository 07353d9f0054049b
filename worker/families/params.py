"""The training settings that image families share: words, limits and usual defaults.

Torch-free, because the web form is drawn from it. A family states only what differs:
`image_params(unet_lr=5e-4, resolution=512)` changes defaults, `ParamLimits` objects replace a row.
"""

from app.contract.family import ParamLimits
from app.contract.jobs import LR_SCHEDULERS, OPTIMIZERS

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


def image_params(**changes: Default | ParamLimits) -> dict[str, ParamLimits]:
    """Limits by name of `TrainParams` field, in the order of the form.

    A plain value changes the default, a `ParamLimits` replaces the row. KeyError for an unknown name.
    """
    rows = dict(_COMMON)
    for name, change in changes.items():
        row = rows[name]
        rows[name] = change if isinstance(change, ParamLimits) else row.model_copy(update={"default": change})
    return rows


def limited(name: str, **changes: Default) -> ParamLimits:
    """The shared row `name` with other limits: `limited("clip_skip", maximum=2)`."""
    return _COMMON[name].model_copy(update=changes)
