"""Opaque, sortable ids of jobs, data sets, items, uploads and drafts: a prefix and a ULID."""

from ulid import ULID


def new_id(prefix: str) -> str:
    return f"{prefix}_{ULID()}"
