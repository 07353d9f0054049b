"""What Civitai leaves out where: a model in a list, and a model alone, have less than a version alone.

Its owner gets everything (`whole`): drafts have a status, and pictures a number to take them off again.
"""

from collections.abc import Sequence
from typing import Any

Json = dict[str, Any]
NOT_IN_LISTS = ("createdAt", "updatedAt", "status", "covered")
NOT_ALONE = ("supportsGeneration",)
ONLY_OF_VERSIONS = ("meta", "metadata", "availability")


def _without(thing: Json, names: Sequence[str]) -> Json:
    return {name: value for name, value in thing.items() if name not in names}


def in_list(model: Json, *, only_primary: bool, whole: bool) -> Json:
    """An item of GET /models, primary files alone if asked; it comes without the details of its pictures."""
    versions = model["modelVersions"]
    for version in versions:
        if only_primary:
            version["files"] = [file for file in version["files"] if file["primary"]]
    shown = versions if whole else [_without(version, NOT_IN_LISTS) for version in versions]
    return model | {"modelVersions": shown}


def alone(model: Json, *, whole: bool) -> Json:
    """GET /models/:id: in its versions nothing is null and no list is empty, pictures have no number."""
    versions = [_without(version, NOT_ALONE) for version in model["modelVersions"]]
    if whole:
        return model | {"modelVersions": versions}
    for version in versions:
        version["images"] = [_without(image, ("id", *ONLY_OF_VERSIONS)) for image in version["images"]]
    kept = [{n: value for n, value in v.items() if value is not None and value != []} for v in versions]
    return model | {"modelVersions": kept}
