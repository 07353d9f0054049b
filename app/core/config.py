"""Settings in groups, read from the environment once and passed on as one object.

Every variable is `BOTTEGA_<GROUP>_<NAME>`; the few that people know by other names
(`DATABASE_URL`, `REDIS_URL`, `STORAGE_URL`, `PUBLIC_URL`, `BOTTEGA_HOME`, …) are aliases.
"""

import hashlib
from functools import cached_property, lru_cache
from pathlib import Path

from pydantic import AliasChoices, Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class ServerSettings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="BOTTEGA_", extra="ignore", populate_by_name=True)

    home: Path = Field(
        default=Path("data"), description="Folder that holds everything an installation keeps."
    )
    host: str = "127.0.0.1"
    port: int = 8000
    public_url: str | None = Field(
        default=None, validation_alias=AliasChoices("PUBLIC_URL", "BOTTEGA_PUBLIC_URL", "public_url")
    )
    trusted_proxies: str = Field(
        default="",
        description="Comma list of addresses or networks whose X-Forwarded-* headers are believed.",
    )
    registration: str = Field(
        default="closed", description="First value of the setting: open, invite or closed."
    )
    hold_seconds: float = Field(
        default=120.0,
        description="A1111's and OpenAI's routes wait this long for a drawing before they answer 504.",
    )
    skip_dump: bool = Field(
        default=False, description="Update the tables without saving the database before."
    )
    x_accel: str = Field(
        default="",
        description="Internal nginx location of the storage folder, which nginx must be able to read; "
        "empty = files are served without nginx.",
    )


class DatabaseSettings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="BOTTEGA_DATABASE_", extra="ignore", populate_by_name=True)

    url: str | None = Field(
        default=None, validation_alias=AliasChoices("DATABASE_URL", "BOTTEGA_DATABASE_URL", "url")
    )
    pool_size: int = 10
    echo: bool = False


class StorageSettings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="BOTTEGA_STORAGE_", extra="ignore", populate_by_name=True)

    url: str | None = Field(
        default=None,
        validation_alias=AliasChoices("STORAGE_URL", "BOTTEGA_STORAGE_URL", "url"),
        description="file:///…, s3://bucket/prefix or memory:///; empty = <home>/storage.",
    )
    s3_endpoint: str | None = None
    s3_region: str = "us-east-1"
    reserve_bytes: int = Field(
        default=512 << 20, description="Free disk space that uploads and saves must leave."
    )


class QueueSettings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="BOTTEGA_QUEUE_", extra="ignore", populate_by_name=True)

    redis_url: str | None = Field(
        default=None, validation_alias=AliasChoices("REDIS_URL", "BOTTEGA_QUEUE_REDIS_URL", "redis_url")
    )
    lease_seconds: float = 60.0
    heartbeat_seconds: float = 15.0
    poll_seconds: float = 5.0
    reap_seconds: float = 10.0
    max_attempts: int = 4
    stall_seconds: float = Field(
        default=1800.0, description="A job that says nothing for so long is started again."
    )
    warm_seconds: float = Field(
        default=900.0, description="The drawing process keeps its models this long when idle."
    )
    pool_share: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="Share of the card (without one: of the free memory) for models that drawing keeps.",
    )
    resume_seconds: float = Field(default=180.0, description="A training saves a resume point this often.")
    keep_checkpoints_days: int = 30
    threads: int = Field(default=0, description="torch threads of a job; 0 = all cores.")


class AuthSettings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="BOTTEGA_AUTH_", extra="ignore", populate_by_name=True)

    session_days: int = 30
    idle_days: int = 7
    anonymous_downloads: bool = Field(
        default=True, description="Whether files of public models are given to who is not logged in."
    )
    login_attempts: str = "10 per 5 minute"


class LimitSettings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="BOTTEGA_LIMIT_", extra="ignore", populate_by_name=True)

    upload_bytes: int = Field(
        default=16 << 20, description="Largest file of a multipart form; larger ones go by upload."
    )
    picture_pixels: int = 50_000_000
    picture_min_side: int = 64
    picture_max_side: int = 2048
    clip_seconds: float = Field(default=60, description="Longest clip of a data set.")
    clip_pixels: int = Field(default=4096 * 2304, description="Of one frame of a clip as it came.")
    clip_max_side: int = Field(default=1280, description="Clips are scaled down to this longest side.")
    clip_rate: int = Field(default=60, description="Most frames a second that are kept of a clip.")
    clip_bytes: int = Field(default=1 << 30, description="Largest file of one clip.")
    dataset_items: int = 1000
    zip_bytes: int = 4 << 30
    user_bytes: int = Field(default=50 << 30, description="Storage of one member.")
    jobs_queued: int = Field(default=20, description="Unfinished jobs of one member.")
    reads_per_minute: int = Field(default=600, description="Of one reader, in each web process.")
    writes_per_minute: int = 240


class Settings:
    """All groups. Made once by `get_settings()`; tests build their own."""

    def __init__(self) -> None:
        self.server = ServerSettings()
        self.database = DatabaseSettings()
        self.storage = StorageSettings()
        self.queue = QueueSettings()
        self.auth = AuthSettings()
        self.limits = LimitSettings()

    @property
    def home(self) -> Path:
        return self.server.home.expanduser().resolve()

    @property
    def address(self) -> str:
        """Under which people reach this installation, for addresses that are made outside of a request."""
        host = "127.0.0.1" if self.server.host in ("0.0.0.0", "::") else self.server.host  # noqa: S104
        return (self.server.public_url or f"http://{host}:{self.server.port}").rstrip("/")

    @property
    def database_url(self) -> str:
        """SQLAlchemy URL with psycopg as driver. Errors: RuntimeError when none is set."""
        url = self.database.url
        if not url:
            raise RuntimeError("DATABASE_URL is not set. Start with ./dev up, or point it at a Postgres.")
        for prefix in ("postgresql://", "postgres://"):
            if url.startswith(prefix):
                return "postgresql+psycopg://" + url.removeprefix(prefix)
        return url

    @cached_property
    def installation(self) -> str:
        """Eight hex digits that differ between installations on one machine (cookies do not know ports)."""
        return hashlib.sha256(f"{self.home}|{self.server.port}".encode()).hexdigest()[:8]

    @property
    def storage_url(self) -> str:
        return self.storage.url or f"file://{self.home / 'storage'}"


@lru_cache
def get_settings() -> Settings:
    return Settings()
