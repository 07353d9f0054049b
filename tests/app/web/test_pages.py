"""Pages that say no: in a person's words, and with a way on."""

from fastapi.testclient import TestClient
from sqlalchemy.orm import Session

from tests.app.conftest import Browser
from tests.factories import make_user


def test_who_is_not_logged_in_can_do_so_where_a_page_is_hidden(
    db: Session, browser: Browser, client: TestClient
) -> None:
    hidden = client.get("/images/999?key=abc")
    assert hidden.status_code == 404
    assert 'href="/login?next=/images/999%3Fkey%3Dabc"' in hidden.text
    assert "/login" not in browser(make_user(db)).get("/images/999").text


def test_a_wrong_address_is_told_in_plain_words(db: Session, browser: Browser) -> None:
    answer = browser(make_user(db)).get("/generate", params={"version": "abc"})
    assert answer.status_code == 422
    assert "version: must be a whole number" in answer.text
