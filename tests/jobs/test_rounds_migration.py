"""Jobs that waited when rounds came get theirs, and the step back leaves the queue as it was."""

import os
import uuid
from collections.abc import Iterator

import pytest
from alembic import command
from sqlalchemy import Connection, create_engine, pool, text

from app.cli.embedded import create_database, drop_database
from app.cli.migrate import alembic_config, sqlalchemy_url
from tests.conftest import database_url

JOB = """
insert into job (id, user_id, type, queue, title, priority, status, input, payload, max_attempts)
values (:id, :user, 'generation', :queue, '', 0, :status, '{}', '{}', 4)
"""


@pytest.fixture
def empty() -> Iterator[str]:
    server, name = os.environ["TEST_DATABASE_URL"], f"rounds_{uuid.uuid4().hex[:8]}"
    create_database(server, name)
    yield sqlalchemy_url(database_url(server, name))
    drop_database(server, name)


def move(connection: Connection, verb: str, revision: str) -> None:
    config = alembic_config()
    config.attributes["connection"] = connection
    getattr(command, verb)(config, revision)


def test_waiting_jobs_get_their_rounds(empty: str) -> None:
    engine = create_engine(empty, poolclass=pool.NullPool)
    with engine.begin() as connection:
        move(connection, "upgrade", "0002")
        for user in (1, 2):
            connection.execute(
                text(
                    "insert into \"user\" (id, username, password_hash, role) values (:id, :id, '', 'member')"
                ),
                {"id": user},
            )
        made = [("a", 1), ("b", 1), ("c", 2), ("d", 1), ("e", 2)]
        for name, user in made:
            connection.execute(text(JOB), {"id": name, "user": user, "queue": "generate", "status": "queued"})
        connection.execute(text(JOB), {"id": "f", "user": 1, "queue": "train", "status": "queued"})
        connection.execute(text(JOB), {"id": "g", "user": 1, "queue": "generate", "status": "succeeded"})
        move(connection, "upgrade", "0003")
        rows = connection.execute(text("select id, turn from job order by turn, seq")).all()
        assert [tuple(row) for row in rows] == [
            ("a", 0), ("c", 0), ("f", 0), ("g", 0), ("b", 1), ("e", 1), ("d", 2),
        ]  # fmt: skip
        move(connection, "downgrade", "0002")
        indexes = "select indexdef from pg_indexes where indexname = 'ix_job_claim'"
        assert "priority DESC, seq" in (connection.scalar(text(indexes)) or "")
