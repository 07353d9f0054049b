"""How a training ends early: badly, with a stable code and a sentence, or because it was wished."""


class TrainingError(Exception):
    """`code` is one of job-api's slugs; `detail` says what happened and what to do."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


class Stopped(Exception):
    """A wish to cancel or to pause was obeyed. What had to be saved is saved."""


def diverged(step: int) -> TrainingError:
    """The numbers are no longer finite."""
    return TrainingError(
        "training-diverged",
        f"The numbers ran out of range at step {step}, so the training was stopped. "
        "What was saved before is kept. Choose a lower learning rate.",
    )
