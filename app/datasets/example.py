"""The example sets, drawn by the starter's renderer: the one place where the web process draws."""

import tempfile
from pathlib import Path

from app.accounts.models import User
from app.core.storage import Storage
from app.datasets.adding import Report, add_files
from app.datasets.intake import Received


def add_example(storage: Storage, user: User, dataset_id: str, media: str) -> Report:
    """Add “Tuscan afternoon”, fifteen pictures, or “Tuscan breeze”, six clips. Twice adds nothing new."""
    # Torch-free; Pillow only when somebody asks.
    from worker.starter.clips.example_set import write_example_clips
    from worker.starter.example_set import write_example_set

    write = write_example_clips if media == "video" else write_example_set
    with tempfile.TemporaryDirectory(prefix="bottega-example-") as folder:
        write(Path(folder))
        files = [Received(path.name, path) for path in sorted(Path(folder).iterdir())]
        return add_files(storage, user, dataset_id, files)
