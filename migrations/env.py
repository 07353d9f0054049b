"""Alembic's entry: the tables are those of `app.models`, the database is the one given or the settings'."""

from alembic import context
from sqlalchemy import Connection, pool
from sqlalchemy.engine import create_engine

from app import models
from app.core.config import get_settings
from app.core.db import Base

assert models.Blob.metadata is Base.metadata


def run(connection: Connection) -> None:
    context.configure(connection=connection, target_metadata=Base.metadata, compare_type=True)
    with context.begin_transaction():
        context.run_migrations()


given = context.config.attributes.get("connection")
if given is not None:
    run(given)
else:
    engine = create_engine(get_settings().database_url, poolclass=pool.NullPool)
    with engine.connect() as opened:
        run(opened)
        opened.commit()
