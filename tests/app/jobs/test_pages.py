"""The page "My jobs" and the page of one job."""

from fastapi.testclient import TestClient
from sqlalchemy import event
from sqlalchemy.orm import Session

from app.contract.events import LogLine
from app.contract.states import JobState
from app.jobs import leases, service
from tests.app.conftest import Browser
from tests.factories import make_job, make_user

QUERIES = 4
"""The list page: the session with its user, the jobs, their places, the workers."""


def count_queries(db: Session, browser, user) -> int:  # type: ignore[no-untyped-def]
    client = browser(user)
    client.get("/jobs")
    seen: list[str] = []

    def note(conn, cursor, statement, *_) -> None:  # type: ignore[no-untyped-def]
        if statement.lstrip().upper().startswith("SELECT"):
            seen.append(statement)

    event.listen(db.get_bind(), "before_cursor_execute", note)
    assert client.get("/jobs").status_code == 200
    event.remove(db.get_bind(), "before_cursor_execute", note)
    return len(seen)


def test_the_list_costs_the_same_for_one_and_three(db: Session, browser: Browser) -> None:
    user = make_user(db)
    make_job(db, user)
    assert count_queries(db, browser, user) == QUERIES
    make_job(db, user)
    make_job(db, user, type="generation", queue="generate")
    assert count_queries(db, browser, user) == QUERIES


def test_an_empty_list_says_what_to_do(db: Session, browser: Browser) -> None:
    client = browser(make_user(db))
    assert "No jobs yet" in client.get("/jobs").text
    assert "No job matches" in client.get("/jobs", params={"show": "failed"}).text


def test_the_list_shows_states_and_filters(db: Session, browser: Browser) -> None:
    user = make_user(db)
    make_job(db, user, title="waits")
    done = make_job(db, user, title="is done", type="generation", queue="generate", status="succeeded")
    client = browser(user)
    both = client.get("/jobs").text
    assert "no machine for this is online" in both
    assert f"/jobs/{done.id}" in both
    finished = client.get("/jobs", params={"show": "done"}).text
    assert "is done" in finished
    assert "waits" not in finished
    fragment = client.get("/jobs", params={"fresh": "1"}).text
    assert fragment.lstrip().startswith('<div id="jobs-list"')


def test_one_job(db: Session, browser: Browser) -> None:
    user = make_user(db)
    job = make_job(db, user, title="olive trees", type="generation", queue="generate")
    service.change_state(db, job, JobState.STARTING)
    leases.record_log(db, job, LogLine(message="loading <the> model"))
    client = browser(user)
    text = client.get(f"/jobs/{job.id}").text
    assert "olive trees" in text
    assert "loading &lt;the&gt; model" in text
    training = make_job(db, user)
    answer = client.get(f"/jobs/{training.id}")
    assert (answer.status_code, answer.headers["location"]) == (303, f"/trainings/{training.id}")


def test_the_buttons(db: Session, browser: Browser) -> None:
    user = make_user(db)
    job = make_job(db, user, type="generation", queue="generate")
    client = browser(user)
    assert client.post(f"/jobs/{job.id}/cancel").status_code == 303
    assert job.status == "canceled"
    again = client.post(f"/jobs/{job.id}/retry")
    assert again.headers["location"].startswith("/jobs/job_")
    assert client.post(f"/jobs/{job.id}/explode").status_code == 404
    job_id = job.id
    assert client.post(f"/jobs/{job_id}/delete").status_code == 303
    assert service.find_job(db, job_id) is None


def test_the_badge_counts_what_runs_or_waits(db: Session, client: TestClient, browser: Browser) -> None:
    user = make_user(db)
    mine = browser(user)
    assert "badge" not in mine.get("/jobs/badge").text
    make_job(db, user)
    make_job(db, user, type="generation", queue="generate", status="running")
    make_job(db, user, status="paused")
    make_job(db, user, status="succeeded")
    make_job(db, user, type="files", queue="files")
    make_job(db, make_user(db))
    assert "2 running or waiting, 3 in all" in mine.get("/jobs/badge").text
    assert "badge" not in client.get("/jobs/badge").text
