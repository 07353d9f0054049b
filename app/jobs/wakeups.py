"""Wake-ups: a hint to workers that a queue has something, carried by Celery over Redis.

They carry no job, may be lost, doubled or late; workers poll as well. Sending is done by one
background thread per process, so that neither a slow nor a dead broker delays a request, and
a queue that is already waiting to be announced is not announced twice.
"""

import logging
import threading
from functools import lru_cache

from celery import Celery
from kombu.common import Broadcast
from kombu.exceptions import OperationalError

from app.core.config import get_settings

log = logging.getLogger("bottega.wakeups")
TASK = "bottega.wake"
EXPIRES = 30.0
"""Seconds after which a wake-up that nobody took is worthless: polling has done its work."""


def celery_settings(redis_url: str) -> dict[str, object]:
    """What sender and consumer share. Wake-ups go to every worker and are not kept for later."""
    return {
        "broker_url": redis_url,
        "result_backend": None,
        "task_ignore_result": True,
        "task_acks_late": False,
        "task_serializer": "json",
        "accept_content": ["json"],
        "task_queues": [Broadcast("bottega.wake")],
        "task_default_queue": "bottega.wake",
        "task_publish_retry": True,
        "task_publish_retry_policy": {
            "max_retries": 1,
            "interval_start": 0,
            "interval_step": 0.2,
            "interval_max": 0.2,
        },
        "broker_connection_retry_on_startup": True,
        "broker_connection_timeout": 2,
        "broker_transport_options": {
            "visibility_timeout": 300,
            "unacked_restore_interval": 10,
            "unacked_restore_throttle": 1,
            "socket_keepalive": True,
            "socket_connect_timeout": 2,
            "health_check_interval": 25,
            "retry_on_timeout": True,
        },
        "worker_prefetch_multiplier": 1,
        "worker_disable_prefetch": True,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "worker_send_task_events": False,
        "worker_hijack_root_logger": False,
    }


@lru_cache
def sender() -> Celery | None:
    """The Celery application that sends; None without a broker."""
    url = get_settings().queue.redis_url
    if not url:
        return None
    app = Celery("bottega", set_as_current=False)
    app.conf.update(celery_settings(url))
    return app


class Announcer:
    """The thread that sends, and the set of queues that it has yet to announce."""

    def __init__(self) -> None:
        self._pending: set[str] = set()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def add(self, queue: str) -> None:
        with self._changed:
            self._pending.add(queue)
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="wakeups", daemon=True)
                self._thread.start()
            self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                if not self._changed.wait_for(lambda: bool(self._pending), timeout=60):
                    self._thread = None
                    return
                queue = self._pending.pop()
            send(queue)


def send(queue: str) -> bool:
    """Send one wake-up now. False when there is no broker or it does not answer."""
    app = sender()
    if app is None:
        return False
    bells = app.amqp.queues["bottega.wake"]
    try:
        # Declared each time, or kombu would push to this process' own queue instead of telling everybody.
        app.send_task(TASK, [queue], queue=bells, declare=[bells.exchange], expires=EXPIRES)
    except (OperationalError, OSError) as error:
        log.warning("no wake-up for %s: %s", queue, error)
        return False
    return True


_announcer = Announcer()


def wake(queue: str) -> None:
    """Announce a queue; returns at once and never fails."""
    if get_settings().queue.redis_url:
        _announcer.add(queue)
