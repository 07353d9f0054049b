"""What only several connections show: the same picture in two requests, and no connection held meanwhile."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.pool import QueuePool

from app.accounts.models import User
from app.core.db import get_engine, unit_of_work
from app.core.storage import get_storage
from app.datasets.adding import Report, add_files
from app.datasets.decode import Decoded, Decoder
from app.datasets.intake import Received
from app.datasets.models import DatasetItem
from tests.app.datasets.pictures import png
from tests.factories import make_dataset, make_user


def prepared(folder: Path) -> tuple[User, str, list[Received]]:
    with unit_of_work() as db:
        user = make_user(db)
        dataset = make_dataset(db, user).id
    files = []
    for number in range(6):
        path = folder / f"{number}.png"
        path.write_bytes(png(number))
        files.append(Received(path.name, path))
    return user, dataset, files


def test_one_picture_in_many_requests_is_stored_once(real_db: str, tmp_path: Path) -> None:
    user, dataset, files = prepared(tmp_path)
    storage = get_storage()
    start = threading.Barrier(4)

    def add(turned: bool) -> Report:
        start.wait()
        return add_files(storage, user, dataset, files[::-1] if turned else files)

    with ThreadPoolExecutor(4) as pool:
        reports = list(pool.map(add, [False, True, False, True]))
    assert sum(len(report.accepted) for report in reports) == 6
    assert sum(len(report.duplicates) for report in reports) == 18
    with unit_of_work() as db:
        rows = db.scalars(select(DatasetItem).where(DatasetItem.dataset_id == dataset)).all()
        assert len({row.source_sha256 for row in rows}) == len(rows) == 6
        assert sorted(row.position for row in rows) == list(range(6))
        known = {d.duplicate_of for report in reports for d in report.duplicates}
        assert known == {row.id for row in rows}


def test_no_connection_is_held_while_pictures_are_decoded(
    real_db: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    user, dataset, files = prepared(tmp_path)
    held: list[int] = []
    decode = Decoder.decode
    pool = get_engine().pool
    assert isinstance(pool, QueuePool)

    def watched(self: Decoder, source: Path, out: Path) -> Decoded:
        held.append(pool.checkedout())
        return decode(self, source, out)

    monkeypatch.setattr(Decoder, "decode", watched)
    assert len(add_files(get_storage(), user, dataset, files).accepted) == 6
    assert held == [0] * 6
