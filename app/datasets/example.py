"""The example set, drawn by the starter's renderer: the one place where the web process draws."""

import tempfile
from pathlib import Path

from app.accounts.models import User
from app.core.storage import Storage
from app.datasets.adding import Report, add_files
from app.datasets.intake import Received


def add_example(storage: Storage, user: User, dataset_id: str) -> Report:
    """Add “Tuscan afternoon” to a set: fifteen pictures and their labels. Twice adds nothing new."""
    from worker.starter.example_set import write_example_set  # torch-free; Pillow only when somebody asks

    with tempfile.TemporaryDirectory(prefix="bottega-example-") as folder:
        write_example_set(Path(folder))
        files = [Received(path.name, path) for path in sorted(Path(folder).iterdir())]
        return add_files(storage, user, dataset_id, files)
