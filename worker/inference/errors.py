"""What may go wrong with a generation for reasons that its author can change. The words are for them."""


class SettingsError(ValueError):
    """Settings that cannot be drawn."""


class LoraError(ValueError):
    """A LoRA that cannot be used."""


class NotFiniteError(RuntimeError):
    """The model's numbers are no longer finite, so there is no picture."""
