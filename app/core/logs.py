"""Log lines: one line each, time first, no third-party chatter."""

import logging
import os
import sys


def setup_logs(process: str) -> None:
    """Send every log record to stderr, marked with the process it came from."""
    level = os.environ.get("BOTTEGA_LOG_LEVEL", "INFO").upper()
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        logging.Formatter(f"%(asctime)s {process} %(levelname)s %(name)s: %(message)s", "%H:%M:%S")
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for noisy in ("httpx", "httpcore", "kombu", "amqp", "urllib3"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
