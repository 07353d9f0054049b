"""Finds the model families: every sub-package of `worker.families` with a `spec` module.

`specs()` imports no torch, so that the web process may call it; `load()` imports the adapter.
A new family is one new folder, nothing is registered anywhere.
"""

from __future__ import annotations

import pkgutil
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING

import worker.families
from app.contract.family import FamilySpec

if TYPE_CHECKING:
    from worker.families.base import Family


class UnknownFamily(LookupError):
    """No family has this name; the message lists those that exist."""


@cache
def specs() -> dict[str, FamilySpec]:
    """Spec of every family by its name, in alphabetical order. Torch-free."""
    found: dict[str, FamilySpec] = {}
    for module in pkgutil.iter_modules(worker.families.__path__):
        if module.ispkg:
            spec: FamilySpec = import_module(f"worker.families.{module.name}.spec").SPEC
            found[spec.name] = spec
    return found


def load(name: str) -> Family:
    """The family's adapter, ready to use. Imports torch. Raises UnknownFamily."""
    if name not in specs():
        raise UnknownFamily(f"There is no model family “{name}”. Known: {', '.join(specs())}.")
    family: Family = import_module(f"worker.families.{name}.adapter").FAMILY
    return family
