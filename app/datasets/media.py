"""What a set may hold and who can train on it: facts of the model families, in words for people."""

from collections.abc import Iterable

from app.contract.family import ClipDefaults, FamilySpec
from app.core.errors import FieldError, Invalid
from app.datasets.models import Dataset
from worker.families import catalog

MEDIA = ("image", "video")
LABEL_TYPE = {"image": "tag", "video": "caption"}
"""What labels are unless somebody says otherwise."""
NOTHING_TRAINS = "This set holds clips; no model family here trains on clips yet."
NOTHING_TRAINS_CHOOSE = f"{NOTHING_TRAINS} Choose a set of pictures."


def trained_media(specs: Iterable[FamilySpec] | None = None) -> tuple[str, ...]:
    """Kinds of sets that some family of this installation trains on, pictures first."""
    found = {media for spec in (catalog.specs().values() if specs is None else specs) for media in spec.media}
    return tuple(media for media in MEDIA if media in found)


def clip_families() -> dict[str, ClipDefaults]:
    """How each family that trains on clips cuts them, by its name."""
    return {name: spec.clips for name, spec in catalog.specs().items() if spec.clips}


def check_usable(dataset: Dataset) -> None:
    """Errors: Invalid when no family of this installation trains on what the set holds."""
    if dataset.media not in trained_media():
        words = NOTHING_TRAINS_CHOOSE
        raise Invalid(words, [FieldError("#/dataset", words, "dataset-media")], code="dataset-media")


def check_trainable(dataset: Dataset, spec: FamilySpec, specs: Iterable[FamilySpec] | None = None) -> None:
    """Errors: Invalid when the family cannot train on what the set holds."""
    if dataset.media in spec.media:
        return
    words = f"This set holds clips, and {spec.title} trains on pictures. Choose another base or another set."
    if dataset.media == "image":
        words = f"This set holds pictures, and {spec.title} trains on clips alone. Choose a set of clips."
    elif "video" not in trained_media(specs):
        words = NOTHING_TRAINS_CHOOSE
    raise Invalid(words, [FieldError("#/dataset", words, "dataset-media")], code="dataset-media")
