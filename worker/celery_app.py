"""The Celery application that consumes wake-ups, with the settings that sender and worker share."""

from celery import Celery

from app.core.config import get_settings
from app.jobs.wakeups import celery_settings

app = Celery("bottega-worker")


def configure() -> Celery:
    """The application with the settings of now; tests change them. Errors: RuntimeError without a broker."""
    url = get_settings().queue.redis_url
    if not url:
        raise RuntimeError("REDIS_URL is not set: there are no wake-ups, workers poll.")
    app.conf.update(celery_settings(url))
    return app
