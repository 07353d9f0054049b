"""Notices: what is sent, to whom it is not sent, and what happens when nobody answers."""

import base64
import contextlib
import hashlib
import hmac
import http.server
import ipaddress
import itertools
import json
import socketserver
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.accounts.models import Setting
from app.contract.events import Progress
from app.contract.states import JobState
from app.core.errors import Invalid
from app.jobs import leases, service, targets, webhooks
from app.jobs.models import WebhookDelivery
from tests.factories import make_user

PUBLIC = ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "64:ff9b::0101:0101"]
PRIVATE = [
    "127.0.0.1", "10.1.2.3", "192.168.1.1", "172.16.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0",
    "224.0.0.1", "255.255.255.255", "::1", "::", "fe80::1", "fc00::1", "::ffff:127.0.0.1",
    "::ffff:10.0.0.1", "2002:7f00:1::",
    "64:ff9b::7f00:1", "ff02::1",
]  # fmt: skip


class Receiver(http.server.BaseHTTPRequestHandler):
    answers: list[int] = []
    heard: list[tuple[dict[str, str], bytes]] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.heard.append(({k.lower(): v for k, v in self.headers.items()}, body))
        status = self.answers.pop(0) if self.answers else 200
        self.send_response(status)
        if status == 302:
            self.send_header("Location", "http://127.0.0.1:1/")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Tests are quiet."""


@pytest.fixture
def receiver() -> Iterator[str]:
    Receiver.answers, Receiver.heard = [], []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/hook?x=1"
    server.shutdown()
    server.server_close()


def allow_private(db: Session) -> None:
    db.add(Setting(key="webhooks", value={"private": True}))
    db.flush()


def job_with(db: Session, url: str, events: list[str] | None = None) -> Any:
    webhook = {"url": url, "events": events}
    return service.enqueue(
        db, make_user(db), type="training", queue="train", title="T", input={}, payload={}, webhook=webhook
    )


def deliveries(db: Session) -> list[WebhookDelivery]:
    db.expire_all()
    return list(db.scalars(select(WebhookDelivery).order_by(WebhookDelivery.id)))


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses(address: str) -> None:
    assert targets.is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses(address: str) -> None:
    assert not targets.is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "url",
    [
        "http://1.1.1.1/x", "https://127.0.0.1/x", "https://localhost/x", "https://2130706433/", "https://0x7f.1/",
        "https://[::ffff:127.0.0.1]/", "https://user:pass@1.1.1.1/", "https://", "https://1.1.1.1:99999/",
    ],
)  # fmt: skip
def test_refused_targets(url: str) -> None:
    with pytest.raises(targets.TargetRefused):
        targets.pinned(url, private=False)


@pytest.mark.parametrize(
    "url", ["http://example.com/", "https://10.0.0.1/", "https://a:b@example.com/", "https://"]
)
def test_an_address_that_cannot_be_called_is_told_at_once(db: Session, url: str) -> None:
    with pytest.raises(Invalid) as refused:
        job_with(db, url)
    assert (refused.value.code, refused.value.errors[0].pointer) == ("webhook-url", "#/webhook/url")


def test_the_connection_goes_to_the_checked_address(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = [(2, 1, 6, "", ("93.184.216.34", 443))]
    monkeypatch.setattr("socket.getaddrinfo", lambda *a, **k: answer)
    url, host = targets.pinned("https://hooks.example.com/a?b=1#c", private=False)
    assert (url, host) == ("https://93.184.216.34:443/a?b=1", "hooks.example.com")
    monkeypatch.setattr("socket.getaddrinfo", lambda *a, **k: [*answer, (2, 1, 6, "", ("10.0.0.1", 443))])
    with pytest.raises(targets.TargetRefused):
        targets.pinned("https://hooks.example.com/", private=False)


def test_a_notice_is_signed_and_tells_the_job(db: Session, receiver: str) -> None:
    allow_private(db)
    job = job_with(db, receiver, ["started", "succeeded"])
    for state in (JobState.STARTING, JobState.RUNNING, JobState.SUCCEEDED):
        service.change_state(db, job, state)
    assert webhooks.deliver_due() == 2
    bodies = [json.loads(body) for _, body in Receiver.heard]
    assert [b["type"] for b in bodies] == ["job.started", "job.succeeded"]
    assert bodies[1]["data"]["id"] == job.id
    headers, body = Receiver.heard[0]
    key = base64.b64decode(webhooks.webhook_secret(db, job.user_id).removeprefix("whsec_"))
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    digest = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{digest}"
    assert all(row.delivered_at and row.next_at is None for row in deliveries(db))
    assert webhooks.deliver_due() == 0


def test_secrets_differ_by_user_and_stay(db: Session) -> None:
    one, two = make_user(db), make_user(db)
    assert webhooks.webhook_secret(db, one.id) == webhooks.webhook_secret(db, one.id)
    assert webhooks.webhook_secret(db, one.id) != webhooks.webhook_secret(db, two.id)


def test_a_failed_notice_is_tried_again_with_the_same_id(db: Session, receiver: str) -> None:
    allow_private(db)
    job = job_with(db, receiver, ["canceled"])
    service.cancel_job(db, None or db.get_one(type(make_user(db)), job.user_id), job.id)
    Receiver.answers = [500, 302, 200]
    for expected in ("answered 500", "answered 302", None):
        row = deliveries(db)[0]
        row.next_at = row.created_at
        db.flush()
        assert webhooks.deliver_due() == 1
        assert deliveries(db)[0].last_error == expected
    assert len({headers["webhook-id"] for headers, _ in Receiver.heard}) == 1
    assert deliveries(db)[0].attempts == 3


class Hostile(socketserver.StreamRequestHandler):
    """An answer whose body goes on for long, or whose headers come letter by letter."""

    slow = False
    sent = 0

    def handle(self) -> None:
        self.rfile.readline()
        pieces = itertools.repeat(b"X-Slow: 1\r\n", 60) if self.slow else itertools.repeat(bytes(1 << 20), 64)
        with contextlib.suppress(OSError):
            self.wfile.write(b"HTTP/1.1 200 OK\r\n" if self.slow else b"HTTP/1.1 200 OK\r\n\r\n")
            for piece in pieces:
                self.wfile.write(piece)
                type(self).sent += len(piece)
                time.sleep(0.05 if self.slow else 0)
            self.wfile.write(b"\r\n")


@pytest.fixture
def hostile() -> Iterator[str]:
    Hostile.slow, Hostile.sent = False, 0
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Hostile) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()


def notice(url: str) -> webhooks.Notice:
    return webhooks.Notice(id=1, url=url, body=b"{}", secret=b"s", private=True, attempts=1)


def test_a_body_without_end_is_not_read(hostile: str) -> None:
    assert webhooks.send(notice(hostile)) is None
    assert Hostile.sent < 32 << 20


def test_one_attempt_has_one_time_limit(hostile: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhooks, "TIMEOUT", 0.4)
    Hostile.slow = True
    assert webhooks.send(notice(hostile)) == "no answer: TimeoutError"


def test_retries_end(db: Session) -> None:
    job = job_with(db, "https://localhost/", ["canceled"])
    service.change_state(db, job, JobState.CANCELED)
    for attempt in range(1, len(webhooks.PAUSES) + 1):
        row = deliveries(db)[0]
        assert row.attempts == attempt - 1
        row.next_at = row.created_at
        db.flush()
        webhooks.deliver_due()
    row = deliveries(db)[0]
    assert (row.next_at, row.delivered_at) == (None, None)
    assert "private network" in str(row.last_error)


def test_progress_is_throttled(db: Session) -> None:
    job = job_with(db, "https://1.1.1.1/", ["progress"])
    service.change_state(db, job, JobState.STARTING)
    for n in range(3):
        leases.record_progress(db, job, Progress(phase="training", current=n, total=9), [])
    assert [row.event for row in deliveries(db)] == ["progress"]
