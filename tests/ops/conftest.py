"""Homes for installations that are started for real."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from app.cli.embedded import NOBODY, socket_folder
from tests.conftest import make_home


@contextmanager
def temporary_home() -> Iterator[Path]:
    """A home, and the socket folder that lies outside it."""
    folder = make_home()
    yield folder
    shutil.rmtree(socket_folder(folder, NOBODY if os.geteuid() == 0 else None), ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def home() -> Iterator[Path]:
    with temporary_home() as folder:
        yield folder


@pytest.fixture
def second_home() -> Iterator[Path]:
    with temporary_home() as folder:
        yield folder
