"""`./dev reset`: back to an empty installation."""

import shutil
from pathlib import Path

from app.cli.embedded import FAR_ROOT, short_name
from app.cli.environment import Layout, lock
from app.cli.process import SetupError

OURS = ("postgres", "valkey", "storage", "logs", "run", "cache", "work", "backups")


def folders(home: Path) -> list[Path]:
    """What a reset would delete; files in the home that are not ours stay."""
    places = [home / name for name in OURS] + [FAR_ROOT / short_name(home)]
    return [path for path in places if path.exists()]


def reset(home: Path) -> None:
    """Delete an installation's data. Errors: SetupError while it runs."""
    layout = Layout(home)
    if layout.run.exists():
        held = lock(layout)
        if held is None:
            raise SetupError("Bottega is running here. Stop it first (Ctrl-C where it was started).")
        held.close()
    for path in folders(home):
        shutil.rmtree(path)
