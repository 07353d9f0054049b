"""Notices to addresses that people gave: Standard Webhooks headers, no way into the local network.

Where they may go is in `targets.py`. Redirects are not followed, and of an answer only the status is read.
"""

import asyncio
import base64
import hashlib
import hmac
import json
import logging
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import httpx
from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.accounts.models import Setting, User
from app.core.db import unit_of_work, utcnow
from app.core.errors import Forbidden
from app.jobs import views
from app.jobs.models import Job, WebhookDelivery
from app.jobs.targets import TargetRefused, pinned, private_allowed

log = logging.getLogger("bottega.webhooks")
PAUSES = (0, 30, 300, 1800, 7200, 21600, 86400)
"""Seconds before each attempt."""
TIMEOUT = 10.0
"""Seconds that one attempt may take in all, however slowly the other side says something."""
A_TICK = 20
BUSY = timedelta(seconds=120)
"""While one process sends a notice, the others leave it alone for so long."""


@dataclass(frozen=True)
class Notice:
    """One delivery, taken out of the database so that no transaction waits for a stranger's server."""

    id: int
    url: str
    body: bytes
    secret: bytes
    private: bool
    attempts: int


def deliver_due() -> int:
    """Send the notices whose time has come; gives how many were tried."""
    with unit_of_work() as db:
        notices = take_due(db)
    for notice in notices:
        error = send(notice)
        with unit_of_work() as db:
            note_result(db, notice.id, error)
    return len(notices)


def take_due(db: Session) -> list[Notice]:
    query = (
        select(WebhookDelivery)
        .where(WebhookDelivery.next_at <= func.now())
        .order_by(WebhookDelivery.next_at)
        .limit(A_TICK)
        .with_for_update(skip_locked=True)
    )
    notices = []
    for row in db.scalars(query):
        row.attempts += 1
        row.next_at = func.now() + BUSY
        notices.append(_notice(db, row, db.get_one(Job, row.job_id)))
    return notices


def add_notice(db: Session, job: Job, event: str, *, url: str, body: dict[str, Any]) -> None:
    """Note something to tell another address than the job's own, in words of its own."""
    db.add(WebhookDelivery(job_id=job.id, event=event[:20], url=url, body=body, next_at=func.now()))


def _notice(db: Session, row: WebhookDelivery, job: Job) -> Notice:
    body = row.body or {
        "type": f"job.{row.event}",
        "timestamp": row.created_at.isoformat(),
        "data": views.job_out(db, job),
    }
    return Notice(
        id=row.id,
        url=row.url or (job.webhook or {}).get("url", ""),
        body=json.dumps(body, default=str).encode(),
        secret=signing_key(db, job.user_id),
        private=private_allowed(db),
        attempts=row.attempts,
    )


def note_result(db: Session, delivery_id: int, error: str | None) -> None:
    row = db.get(WebhookDelivery, delivery_id)
    if row is None:
        return
    row.last_error = error
    if error is None:
        row.delivered_at, row.next_at = func.now(), None
    elif row.attempts >= len(PAUSES) or row.event == "progress":
        row.next_at = None
    else:
        row.next_at = func.now() + timedelta(seconds=PAUSES[row.attempts])


def send(notice: Notice, *, now: datetime | None = None) -> str | None:
    """POST one notice. None when it was taken, else what went wrong in words."""
    try:
        url, host = pinned(notice.url, private=notice.private)
    except TargetRefused as refused:
        return str(refused)
    headers = sign(notice, now or utcnow()) | {"host": host, "content-type": "application/json"}
    try:
        status = asyncio.run(asyncio.wait_for(_post(url, host, headers, notice.body), TIMEOUT))
    except (httpx.HTTPError, OSError) as error:
        return f"no answer: {type(error).__name__}"
    return None if httpx.codes.is_success(status) else f"answered {status}"


async def _post(url: str, host: str, headers: dict[str, str], body: bytes) -> int:
    """The answer's status; its body, which may never end, is left where it is."""
    name = host.rsplit(":", 1)[0] if not host.startswith("[") else host
    sni = {"sni_hostname": name}
    async with (
        httpx.AsyncClient(timeout=TIMEOUT, follow_redirects=False, trust_env=False) as client,
        client.stream("POST", url, content=body, headers=headers, extensions=sni) as answer,
    ):
        return answer.status_code


def sign(notice: Notice, now: datetime) -> dict[str, str]:
    """Standard Webhooks headers; the id stays the same at every attempt."""
    message_id, timestamp = f"msg_{notice.id}", str(int(now.timestamp()))
    signed = f"{message_id}.{timestamp}.".encode() + notice.body
    digest = base64.b64encode(hmac.new(notice.secret, signed, hashlib.sha256).digest()).decode()
    return {"webhook-id": message_id, "webhook-timestamp": timestamp, "webhook-signature": f"v1,{digest}"}


def can_set_webhooks(actor: User) -> bool:
    return actor.is_admin


def set_private_allowed(db: Session, actor: User, allowed: bool) -> None:
    """Whether notices may go to the own network and over plain http. Errors: Forbidden."""
    if not can_set_webhooks(actor):
        raise Forbidden("Only an admin may do this.")
    db.merge(Setting(key="webhooks", value={"private": allowed}))
    db.flush()


def signing_key(db: Session, user_id: int) -> bytes:
    """32 bytes of one's own: derived from a server secret that is made at the first use."""
    row = insert(Setting).values(key="webhook_key", value={"hex": secrets.token_hex(32)})
    db.execute(row.on_conflict_do_nothing())
    key = bytes.fromhex(db.get_one(Setting, "webhook_key").value["hex"])
    return hmac.new(key, f"user {user_id}".encode(), hashlib.sha256).digest()


def webhook_secret(db: Session, user_id: int) -> str:
    """The secret in the form that Standard Webhooks libraries read."""
    return "whsec_" + base64.b64encode(signing_key(db, user_id)).decode()


def list_deliveries(db: Session, job_id: str) -> list[dict[str, Any]]:
    """Notices of one job, oldest first."""
    rows = db.scalars(
        select(WebhookDelivery).where(WebhookDelivery.job_id == job_id).order_by(WebhookDelivery.id)
    )
    return [
        {
            "id": row.id,
            "event": row.event,
            "attempts": row.attempts,
            "delivered_at": row.delivered_at,
            "next_at": row.next_at,
            "last_error": row.last_error,
        }
        for row in rows
    ]
