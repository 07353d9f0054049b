"""A request's files, streamed to a temporary folder before anything looks at them."""

import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import Request
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile

from app.core.blobs import check_space
from app.core.errors import FieldError, Invalid
from app.core.storage import Storage
from app.datasets.intake import Received
from app.web.streaming import check_length, read_form

FORM_BYTES = 1 << 30
BODY_BYTES = FORM_BYTES + (1 << 20)
"""For the route: beyond what is checked here, so that our own words are the ones that people read."""
MAX_FILES = 4000
TOO_LARGE = "One request may bring 1 GB. Send the files in several requests, or as an upload session."


@asynccontextmanager
async def received_files(request: Request, storage: Storage) -> AsyncIterator[list[Received]]:
    """Files of the form's fields `files` (or `file`), with their names as sent; gone at the end of the block.

    Errors: TooLarge, DiskFull by the announced length; Invalid without any file or with an unknown field.
    """
    check_length(request, FORM_BYTES, TOO_LARGE)
    length = request.headers.get("content-length", "")
    await run_in_threadpool(check_space, storage, int(length) if length.isdigit() else 0)
    form = await read_form(request, FORM_BYTES, MAX_FILES, TOO_LARGE)
    try:
        with tempfile.TemporaryDirectory(prefix="bottega-form-") as folder:
            yield await run_in_threadpool(_save, form, Path(folder))
    finally:
        await form.close()


def _save(form: FormData, folder: Path) -> list[Received]:
    files: list[Received] = []
    for number, (field, value) in enumerate(form.multi_items()):
        if field not in ("files", "file") or not isinstance(value, UploadFile):
            words = f"The form has an unknown field: {field}. Files go into the field “files”."
            raise Invalid(words, [FieldError(f"#/{field}", "this field is not known")])
        if not value.filename and not value.size:
            continue  # what a browser sends for a form without a chosen file
        path = folder / str(number)
        with path.open("wb") as out:
            shutil.copyfileobj(value.file, out, 1 << 20)
        files.append(Received(value.filename or "file", path))
    if not files:
        raise Invalid("Choose at least one file.", [FieldError("#/files", "this field is required")])
    return files
