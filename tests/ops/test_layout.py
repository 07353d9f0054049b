"""The folders of an installation: what is in them is for the person who runs it."""

from pathlib import Path

from app.cli.environment import Layout


def test_dumps_and_logs_are_for_their_owner(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "home")
    layout.home.mkdir()
    layout.backups.mkdir(mode=0o755)  # as an older version made it
    layout.make()
    layout.make()
    for folder in (layout.run, layout.logs, layout.backups):
        assert folder.stat().st_mode & 0o777 == 0o700
