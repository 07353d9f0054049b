"""The Celery application that consumes wake-ups, with the settings that sender and worker share."""

from celery import Celery

from app.core.config import get_settings
from app.jobs.wakeups import celery_settings

app = Celery("bottega-worker")
app.conf.update(celery_settings(get_settings().queue.redis_url or "memory://"))
