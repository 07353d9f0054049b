"""The admin's pages and figures, with something to see in each."""

import re
from datetime import timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session

from app.accounts import service
from app.core.config import get_settings
from app.core.db import utcnow
from app.gallery.models import Report
from app.jobs.models import Worker
from app.jobs.targets import private_allowed
from tests.app.conftest import Browser, Script
from tests.factories import PASSWORD, make_admin, make_image, make_job, make_model, make_user


def test_the_overview_shows_workers_queue_and_failures(db: Session, browser: Browser) -> None:
    admin, anna = make_admin(db), make_user(db, "anna")
    running = make_job(db, anna, title="Tuscan style", status="running")
    make_job(
        db,
        anna,
        title="Broken <b>",
        status="failed",
        completed_at=utcnow(),
        error={"title": "It learned nothing"},
    )
    make_job(db, anna, title="Long ago", status="failed", completed_at=utcnow() - timedelta(days=2))
    db.add(Worker(id="train-1", queues=["train"], host="box", device="cpu", job_id=running.id))
    db.add(Worker(id="train-2", queues=["train"], seen_at=utcnow() - timedelta(hours=2)))
    db.flush()
    page = browser(admin).get("/admin").text
    assert f'<a href="/jobs/{running.id}">Tuscan style</a>' in page
    assert "train-1" in page
    assert "gone, 2 hours ago" in page
    assert "It learned nothing" in page
    assert "Long ago" not in page
    assert "Broken &lt;b&gt;" in page


def test_without_a_worker_it_says_so(db: Session, browser: Browser) -> None:
    page = browser(make_admin(db)).get("/admin").text
    assert "No worker has ever been here" in page
    assert "none is running; jobs wait" in page


def test_notices_into_the_own_network_are_a_setting(db: Session, browser: Browser) -> None:
    boss = browser(make_admin(db))
    assert not private_allowed(db)
    assert boss.post("/admin/webhooks", data={"private": "true"}).headers["location"].startswith("/admin?")
    assert private_allowed(db)
    assert 'value="true" checked' in boss.get("/admin?done=webhooks").text
    boss.post("/admin/webhooks", data={})
    assert not private_allowed(db)


def test_people_are_managed(db: Session, browser: Browser) -> None:
    admin, anna = make_admin(db, "boss"), make_user(db, "anna")
    boss = browser(admin)
    base = f"/admin/people/{anna.id}"
    assert boss.post(f"{base}/role", data={"role": "admin"}).headers["location"] == "/admin/people?done=role"
    assert anna.role == "admin"
    boss.post(f"{base}/role", data={"role": "member"})
    boss.post(f"{base}/quota", data={"gigabytes": "3"})
    assert anna.quota_bytes == 3 * 10**9
    assert boss.post(f"{base}/quota", data={"gigabytes": "lots"}).status_code == 422
    boss.post(f"{base}/quota", data={"gigabytes": ""})
    assert service.get_user(db, anna.id).quota_bytes is None
    boss.post(f"{base}/disabled", data={"disabled": "true"})
    assert "disabled</span>" in boss.get("/admin/people").text
    boss.post(f"{base}/disabled", data={"disabled": "false"})
    assert "disabled</span>" not in boss.get("/admin/people").text
    wrong = boss.post(f"{base}/delete", data={"confirm": "nobody"})
    assert wrong.status_code == 422
    assert "Type anna to confirm." in wrong.text
    boss.post(f"{base}/delete", data={"confirm": "anna"})
    assert service.find_user(db, "anna") is None


def test_the_last_admin_is_kept_in_words(db: Session, browser: Browser) -> None:
    admin = make_admin(db)
    answer = browser(admin).post(f"/admin/people/{admin.id}/role", data={"role": "member"})
    assert answer.status_code == 409
    assert "Make somebody else an admin first." in answer.text


def test_links_that_are_sent_to_people(
    db: Session, browser: Browser, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    boss = browser(make_admin(db))
    anna = make_user(db, "anna")
    monkeypatch.setattr(get_settings().server, "public_url", "https://bottega.example/")
    page = boss.post(f"/admin/people/{anna.id}/reset").text
    path = re.findall(r'data-copy="https://bottega\.example(/reset/[\w-]+)"', page)[0]
    client.post(path, data={"password": "olive trees at noon"})
    assert service.login(db, "anna", "olive trees at noon", address="x") is anna
    boss.post("/admin/registration", data={"mode": "invite"})
    page = boss.post("/admin/invites").text
    path = re.findall(r'data-copy="https://bottega\.example(/register/[\w-]+)"', page)[0]
    assert client.get(path).status_code in (200, 303)
    assert service.get_registration(db) == "invite"
    assert boss.post("/admin/registration", data={"mode": "everybody"}).status_code == 422


@pytest.mark.parametrize("kind", ["model", "image"])
def test_a_report_is_answered(db: Session, browser: Browser, client: TestClient, kind: str) -> None:
    anna, admin = make_user(db, "anna"), make_admin(db)
    shown: dict[str, Any] = {"visibility": "public", "published_at": utcnow()}
    thing = make_model(db, anna, **shown) if kind == "model" else make_image(db, anna, **shown)
    report = Report(
        kind=kind,
        target_id=thing.id,
        reason="other",
        detail="<b>bad</b>",
        created_at=utcnow() - timedelta(hours=50),
    )
    db.add(report)
    db.flush()
    boss = browser(admin)
    page = boss.get("/admin/reports").text
    assert "&lt;b&gt;bad&lt;/b&gt;" in page
    assert "older than 48 hours" in page
    assert "by anna" in page.replace("\n", " ")
    boss.post(f"/admin/reports/{report.id}", data={"action": "take-down", "note": "seen"})
    assert thing.taken_down_at is not None
    assert report.status == "taken-down"
    assert report.note == "seen"
    assert "Bring it back" in boss.get("/admin/reports?status=taken-down").text
    boss.post(f"/admin/reports/{report.id}", data={"action": "restore"})
    assert thing.taken_down_at is None


def test_a_report_of_what_is_gone_can_be_dismissed(db: Session, browser: Browser) -> None:
    report = Report(kind="model", target_id=999, reason="other")
    db.add(report)
    db.flush()
    boss = browser(make_admin(db))
    page = boss.get("/admin/reports").text
    assert "A model that its maker has deleted" in page
    assert "Take it down" not in page
    boss.post(f"/admin/reports/{report.id}", data={"action": "dismiss"})
    assert report.status == "dismissed"


def test_ready_says_one_line_for_each_part(db: Session, client: TestClient) -> None:
    answer = client.get("/readyz")
    assert answer.status_code == 200
    assert [line.split(":")[0] for line in answer.text.splitlines()] == [
        "database",
        "broker",
        "storage",
        "workers",
    ]
    assert "workers: warn, none is running; jobs wait" in answer.text
    db.add(Worker(id="w", queues=["train", "generate"]))
    db.flush()
    assert "workers: ok, 1 running, for generate, train" in client.get("/readyz").text


def test_without_the_broker_the_server_is_still_ready(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(get_settings().queue, "redis_url", "redis://127.0.0.1:1/0")
    answer = client.get("/readyz")
    assert answer.status_code == 200
    assert "broker: warn, away" in answer.text


def test_without_the_database_the_server_is_not_ready(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sqlalchemy import create_engine
    from sqlalchemy.orm import sessionmaker

    engine = create_engine("postgresql+psycopg://nobody@127.0.0.1:1/none")
    state = client.app.state  # type: ignore[attr-defined]
    monkeypatch.setattr(state, "sessions", sessionmaker(engine), raising=False)
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert "database: bad, away" in answer.text
    assert client.get("/healthz").text == "ok\n"
    login = client.get("/login")
    assert login.status_code == 503
    assert "Nothing is lost" in login.text
    assert login.headers["retry-after"] == "5"
    engine.dispose()


def test_figures_for_prometheus(db: Session, script: Script, browser: Browser) -> None:
    admin = make_admin(db)
    make_job(db, admin)
    db.add(Worker(id="w", queues=["train"]))
    db.flush()
    text = script(admin, "admin").get("/metrics").text
    assert 'bottega_jobs{queue="train",status="queued"} 1.0' in text
    assert 'bottega_workers{state="idle"} 1.0' in text
    assert 'bottega_up{part="database"} 1.0' in text
    assert "bottega_disk_free_bytes" in text
    assert script(admin, "read").get("/metrics").status_code == 403
    assert PASSWORD not in text
