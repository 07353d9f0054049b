"""The wait of programs: ended by an interrupt from another connection, given up where nobody listens."""

import asyncio
import threading
import time
from typing import Any

import pytest
from fastapi import FastAPI, Request
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session

from app.accounts import tokens
from app.compat import holding
from app.compat.a1111_answers import refusal
from app.compat.holding import Held
from app.core.db import unit_of_work
from tests.app.compat.drawing import make_checkpoint
from tests.factories import make_job, make_user

PATIENCE = 60.0


def test_an_interrupt_ends_the_wait(real_db: str) -> None:
    from app.main import create_app

    with unit_of_work() as db:
        user = make_user(db)
        make_checkpoint(db, user, "olive")
        _, secret = tokens.create_token(db, user, name="bot", scopes=["generate"])
    application = create_app()

    def program() -> TestClient:
        return TestClient(application, headers={"Authorization": f"Bearer {secret}"})

    answers: list[Any] = []
    asking = {"prompt": "x", "n_iter": 2}
    thread = threading.Thread(target=lambda: answers.append(program().post("/sdapi/v1/txt2img", json=asking)))
    thread.start()
    other, end = program(), time.monotonic() + PATIENCE
    while not (state := other.get("/sdapi/v1/progress").json()["state"])["job_count"]:
        assert time.monotonic() < end
        time.sleep(0.05)
    assert state["job_count"] == 2
    assert other.post("/sdapi/v1/interrupt").json() == {}
    thread.join(PATIENCE)
    assert (answers[0].status_code, answers[0].json()["images"]) == (200, [])
    assert other.get("/sdapi/v1/progress").json()["state"]["job_count"] == 0


def test_nobody_looks_for_a_client_that_has_gone(
    db: Session, application: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make_job(db, make_user(db), type="generation", queue="generate")
    asked = asyncio.Event()
    given_up: list[bool] = []

    async def wait(*_: Any) -> None:
        asked.set()
        try:
            await asyncio.sleep(PATIENCE)
        except asyncio.CancelledError:
            given_up.append(True)
            raise

    monkeypatch.setattr(holding, "wait_for_end", wait)
    scope = {"type": "http", "method": "POST", "path": "/", "headers": [], "app": application}
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        await asked.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    def finish(*_: Any) -> Any:
        raise AssertionError("nobody is there")

    asyncio.run(Held(Request(scope), job, finish, refusal)(scope, receive, send))
    assert (sent, given_up) == ([], [True])
