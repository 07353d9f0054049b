"""JSON Patch (RFC 6902) for the small documents that clients may change: add, remove, replace, test."""

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

from app.compat.orchestration.reading import refuse
from app.compat.orchestration.schemas import PatchOperation
from app.core.errors import Conflict


def patched(document: dict[str, Any], operations: Sequence[PatchOperation]) -> dict[str, Any]:
    """A changed copy. Errors: Invalid for a path that is not there, Conflict for a test that fails."""
    whole: Any = {"": deepcopy(document)}
    for number, operation in enumerate(operations):
        parts = [part.replace("~1", "/").replace("~0", "~") for part in operation.path.split("/")]
        try:
            holder = whole
            for part in parts[:-1]:
                holder = holder[_key(holder, part)]
            _apply(holder, parts[-1], operation)
        except (KeyError, IndexError, TypeError, ValueError) as error:
            words = f"there is nothing at {operation.path or 'the empty path'} that this could change"
            raise refuse(f"#/{number}/path", words, "patch-path") from error
    changed = whole[""]
    if not isinstance(changed, dict):
        raise refuse("#/0/path", "the whole can only be replaced by an object", "patch-path")
    return changed


def _key(holder: Any, part: str) -> Any:
    return int(part) if isinstance(holder, list) else part


def _apply(holder: Any, part: str, operation: PatchOperation) -> None:
    if isinstance(holder, list):
        _apply_to_list(holder, part, operation)
    elif not isinstance(holder, dict):
        raise TypeError(part)
    elif operation.op == "remove":
        del holder[part]
    elif operation.op == "test":
        _test(holder[part], operation)
    else:
        if operation.op == "replace":
            holder[part]
        holder[part] = operation.value


def _apply_to_list(holder: list[Any], part: str, operation: PatchOperation) -> None:
    place = len(holder) if part == "-" else int(part)
    if place < 0 or place > len(holder):
        raise IndexError(part)
    if operation.op == "add":
        holder.insert(place, operation.value)
    elif operation.op == "remove":
        del holder[place]
    elif operation.op == "test":
        _test(holder[place], operation)
    else:
        holder[place] = operation.value


def _test(value: Any, operation: PatchOperation) -> None:
    if value != operation.value:
        raise Conflict(f"{operation.path} is not what the patch expects.", code="changed-meanwhile")
