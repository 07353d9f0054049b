"""Pages that say no: in a person's words, and with a way on."""

import pytest
from fastapi import Request
from fastapi.testclient import TestClient
from jinja2 import UndefinedError
from markupsafe import Markup
from sqlalchemy.orm import Session

from app.web.links import origin, with_query
from app.web.templating import environment, tenths
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


HOSTILE = "<b title='\"'>&"


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (HOSTILE, "&lt;b title=&#39;&#34;&#39;&gt;&amp;"),
        (Markup("<b>"), "<b>"),
        ([HOSTILE[:3]], "[&#39;&lt;b &#39;]"),
        (7, "7"),
        (None, "None"),
        (True, "True"),
    ],
)
def test_what_a_page_writes_is_safe_where_ever_it_stands(value: object, written: str) -> None:
    template = environment().from_string(
        "{% macro twice(v) %}{{ v }}{{ v }}{% endmacro %}{% set kept %}{{ value }}{% endset %}"
        "{{ value }}|{{ kept }}|{{ twice(value) }}|{{ kept ~ value }}"
    )
    assert template.render(value=value) == "|".join((written, written, written * 2, written * 2))


def test_a_page_does_not_hide_what_it_lacks() -> None:
    with pytest.raises(UndefinedError):
        environment().from_string("{{ nothing }}").render()


def _asked(query: str) -> Request:
    scope = {
        "type": "http",
        "method": "GET",
        "path": "/models",
        "query_string": query.encode(),
        "headers": [],
    }
    return Request(scope | {"scheme": "https", "server": ("example.org", 443)})


def test_a_page_links_to_itself_with_other_parameters() -> None:
    request = _asked("tag=a+%26&sort=oldest&cursor=x&tag=b%3D")
    assert with_query(request, cursor=None) == "/models?tag=b%3D&sort=oldest"
    assert with_query(request, cursor="", sort="new est") == "/models?tag=b%3D&sort=new+est"
    assert with_query(request, tag=None, sort=None, cursor=None) == "/models"
    assert with_query(_asked(""), page=2) == "/models?page=2"
    assert origin(request) == origin(request) == "https://example.org"


def test_a_picture_s_shape_is_one_of_the_classes_that_there_are() -> None:
    assert [tenths(*size) for size in ((512, 768), (8, 8), (1, 4000), (4000, 1))] == [7, 10, 5, 20]
