"""The database's tables: which migrations are missing, a dump before they run, running them."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, pool

ROOT = Path(__file__).resolve().parents[2]


def alembic_config() -> Config:
    """The configuration of pyproject.toml, also where only the packages are installed."""
    config = Config()
    config.set_main_option("script_location", str(ROOT / "migrations"))
    return config


def sqlalchemy_url(url: str) -> str:
    """A libpq URL with psycopg named as the driver."""
    scheme, rest = url.split("://", 1)
    return f"postgresql+psycopg://{rest}" if scheme in ("postgresql", "postgres") else url


def pending(url: str) -> tuple[bool, bool]:
    """(are there tables already?, are migrations missing?)"""
    engine = create_engine(sqlalchemy_url(url), poolclass=pool.NullPool)
    with engine.connect() as connection:
        current = set(MigrationContext.configure(connection).get_current_heads())
    wanted = set(ScriptDirectory.from_config(alembic_config()).get_heads())
    return bool(current), current != wanted


def migrate(url: str) -> None:
    """Bring the database at `url` to the newest tables; nothing happens when it is there."""
    config = alembic_config()
    engine = create_engine(sqlalchemy_url(url), poolclass=pool.NullPool)
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
