"""Training further from an epoch: the new run must have the same layers, so it takes over what shapes them.

The worker would find a mismatch too, after a place in the queue and with the base loaded; here it is a
sentence at the field.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.accounts.models import User
from app.contract.jobs import BlobRef, CheckpointRef, TrainJob, TrainParams
from app.core.errors import FieldError, Invalid, NotFound
from app.jobs.models import Job
from app.training.models import TrainingCheckpoint, TrainingRun
from app.training.schemas import ContinueFrom

SHAPE = ("network_dim", "network_alpha", "conv_dim", "conv_alpha")
RATES = ("unet_lr", "text_encoder_lr")


@dataclass(frozen=True)
class Earlier:
    """The adapter to go on from and the settings that it was made with."""

    file: BlobRef
    low_noise: BlobRef | None
    """Of a family with two experts."""
    params: TrainParams

    def fill(self, submitted: Mapping[str, Any]) -> dict[str, Any]:
        """What was left out is as it was: sizes, and which parts are trained at all."""
        given = {name: value for name, value in submitted.items() if value is not None and value != ""}
        known = {name: getattr(self.params, name) for name in SHAPE}
        known |= {name: 0 for name in RATES if not getattr(self.params, name)}
        if self.params.text_encoder_lr:
            known["text_encoder_lr"] = self.params.text_encoder_lr
        return {name: value for name, value in known.items() if value is not None} | given

    def check(self, params: TrainParams) -> None:
        """Errors: Invalid with one entry for each setting that gives other layers."""
        wrong = []
        for name in SHAPE:
            was, now = getattr(self.params, name), getattr(params, name)
            if was != now:
                shown = "nothing" if was is None else f"{was:g}"
                wrong.append(_wrong(name, f"The earlier run had {shown}. Give the same, or leave it out."))
        for name in RATES:
            was, now = getattr(self.params, name), getattr(params, name)
            if bool(was) != bool(now):
                need = "a rate above 0" if was else "0"
                wrong.append(_wrong(name, f"Give {need}: the same parts must be trained as before."))
        if wrong:
            words = " ".join(f"{e.pointer.rsplit('/', 1)[1]}: {e.detail}" for e in wrong)
            raise Invalid(f"An epoch can only be trained further with its own layers. {words}", wrong)


def _wrong(name: str, words: str) -> FieldError:
    return FieldError(f"#/params/{name}", words, "lora-base-mismatch")


def find_earlier(db: Session, user: User, source: ContinueFrom | None, base: CheckpointRef) -> Earlier | None:
    """The epoch that `source` names. Errors: NotFound, Invalid for one of another kind of base."""
    if source is None:
        return None
    row = db.execute(
        select(TrainingCheckpoint, TrainingRun, Job.payload)
        .join(TrainingRun, TrainingRun.job_id == TrainingCheckpoint.job_id)
        .join(Job, Job.id == TrainingRun.job_id)
        .where(TrainingCheckpoint.job_id == source.training, TrainingCheckpoint.epoch == source.epoch)
    ).first()
    if row is None or not (user.is_admin or row.TrainingRun.user_id == user.id):
        raise NotFound("There is no such epoch to continue from.")
    if row.TrainingRun.family != base.family:
        words = "The epoch to continue from belongs to another base model."
        field = FieldError("#/continue_from", words, "lora-base-mismatch")
        raise Invalid(words, [field], code="lora-base-mismatch")
    checkpoint = row.TrainingCheckpoint
    return Earlier(
        file=BlobRef(sha256=checkpoint.blob_sha256, size=checkpoint.size, name=checkpoint.name),
        low_noise=_second(checkpoint),
        params=TrainJob.model_validate(row.payload).params,
    )


def _second(row: TrainingCheckpoint) -> BlobRef | None:
    if row.low_noise is None or row.low_noise_sha256 is None:
        return None
    return BlobRef(sha256=row.low_noise_sha256, size=row.low_noise["size"], name=row.low_noise["name"])
