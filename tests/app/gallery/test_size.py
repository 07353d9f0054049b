"""Lists at size: as many queries for three as for one, an index for each order, words counted in advance."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import psycopg
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, event, func, select, text
from sqlalchemy.orm import Session

from app.accounts.models import User
from app.core.db import unit_of_work, within
from app.core.errors import TookTooLong
from app.gallery import listing, queries, searching, service, summary
from app.gallery.cards import cards_of
from app.gallery.models import Model, Term
from app.images.models import ImageResource
from app.images.queries import ImageFilters, list_images
from app.images.service import create_sample
from tests.app.conftest import Browser
from tests.app.gallery.things import published, trained
from tests.factories import make_blob, make_image, make_user, make_version


@pytest.fixture
def user(db: Session) -> User:
    return make_user(db, "lorenzo")


@pytest.fixture
def asked(engine: Engine) -> Iterator[list[tuple[str, Any]]]:
    """The statements that read, as they come, with their values."""
    found: list[tuple[str, Any]] = []

    def note(conn: Any, cursor: Any, statement: str, values: Any, *_: Any) -> None:
        if statement.lstrip().upper().startswith(("SELECT", "WITH")):
            found.append((statement, values))

    event.listen(engine, "before_cursor_execute", note)
    yield found
    event.remove(engine, "before_cursor_execute", note)


def _whole(db: Session, user: User, n: int) -> Model:
    """A public model with two versions, two pictures of its own and one that was made with it."""
    first = trained(db, user, tensors=f"{n} one".encode(), name=f"Tuscany {n}")
    model = first.model
    make_version(db, model, "v2", status="Published")
    for place in range(2):
        sample = create_sample(db, user, blob=make_blob(db), prompt="p", width=8, height=8)
        service.add_picture(db, first, sample, place)
    used = ImageResource(position=0, kind="lora", name="x", model_version_id=first.id, weight=1.0)
    make_image(db, user, visibility="public", prompt="olive trees", resources=[used])
    return service.publish_version(db, user, first, "public")


COUNTS = {
    "/": 4, "/models?sort=pictures": 4, "/models?query=tuscany": 4, "/models?tag=italy": 4,
    "/models/{model}/tuscany-0": 3, "/images": 2, "/images?query=olive": 2,
    "/api/v1/models": 3, "/api/v1/models?query=tuscany": 3, "/api/v1/models/{model}": 2,
    "/api/v1/model-versions/by-hash/{sha}": 3, "/api/v1/images": 2, "/api/v1/tags": 3, "/api/v1/creators": 3,
}  # fmt: skip
"""Path → how many statements read for it, whatever the number of rows; the first asks for the snapshot."""


def test_the_number_of_queries_is_that_of_one_model(
    client: TestClient, db: Session, user: User, asked: list[tuple[str, Any]]
) -> None:
    model = _whole(db, user, 0)
    sha = model.versions[-1].files[0].blob_sha256
    counted = []
    for n in (1, 3):
        db.commit()
        for path in COUNTS:
            db.expunge_all()
            asked.clear()
            address = path.format(model=model.id, sha=sha)
            assert client.get(address).status_code == 200, address
            counted.append((n, path, len(asked)))
        for _ in range(2):
            _whole(db, user, n + len(counted))
        summary.recount(db)
    assert counted == [(n, path, COUNTS[path]) for n in (1, 3) for path in COUNTS]


ORDERS = {
    "newest": "ix_model_public_published", "downloads": "ix_model_public_downloads",
    "pictures": "ix_model_public_pictures", "ids": "pk_model",
}  # fmt: skip


@pytest.mark.parametrize(("sort", "index"), ORDERS.items())
def test_every_order_has_its_index(
    db: Session, user: User, asked: list[tuple[str, Any]], sort: str, index: str
) -> None:
    """With a cursor too: the list is never sorted, and never read from its start."""
    for n in range(3):
        _whole(db, user, n)
    cursor = listing.list_ids(db, None, listing.ModelFilters(), sort=sort, limit=1).next_cursor
    asked.clear()
    assert len(listing.list_ids(db, None, listing.ModelFilters(), sort=sort, cursor=cursor).items) == 2
    [(statement, values)] = asked
    plan = _plan(db, statement, values)
    assert index in plan
    assert "Sort" not in plan


@pytest.mark.parametrize("sort", ["downloads", "pictures", "newest"])
def test_a_short_period_is_walked_page_by_page(db: Session, user: User, sort: str) -> None:
    models = [_whole(db, user, n) for n in range(3)]
    for model, count in zip(models, (5, 9, 5), strict=True):
        model.download_count = model.image_count = count
    db.flush()
    filters, seen, cursor = listing.ModelFilters(period="Week"), [], None
    for _ in range(3):
        page = listing.list_ids(db, None, filters, sort=sort, cursor=cursor, limit=1)
        seen += page.items
        cursor = page.next_cursor
    first, most, last = (model.id for model in models)
    assert seen == ([last, most, first] if sort == "newest" else [most, last, first])
    assert cursor is None


def _plan(db: Session, statement: str, values: Any) -> str:
    for way in ("seqscan", "bitmapscan", "sort"):
        db.execute(text(f"set local enable_{way} = off"))
    rows = db.connection().exec_driver_sql(f"explain {statement}", values)
    return "\n".join(row[0] for row in rows)


def test_what_a_search_finds(db: Session, user: User) -> None:
    stone = published(db, user, tensors=b"1", name="Stone towns", tags=["Hill"], description="near a river")
    other = published(db, make_user(db, "bianca"), tensors=b"2", name="Meadow", tags=["Stone"])

    def found(words: str) -> set[int]:
        filters = listing.ModelFilters(query=words)
        ranked = searching.search_ids(db, None, filters).items
        listed = listing.list_ids(db, None, filters).items
        assert sorted(ranked) == sorted(listed)
        return set(ranked)

    expected = {
        "stone": {stone.id, other.id}, "town": {stone.id}, "to": set(), "river towns": {stone.id},
        "stone meadow": set(), "BIANCA": {other.id}, "HILL": {stone.id}, "m_adow": set(), "%%%": set(),
        "-stone": {stone.id, other.id} - {stone.id}, "river -stone": set(),
    }  # fmt: skip
    assert {words: found(words) for words in expected} == expected


def _walked(db: Session, viewer: User | None, filters: listing.ModelFilters, sort: str) -> list[int]:
    """All pages of two, by cursor; by offset they hold the same."""
    found: list[int] = []
    cursor = None
    while True:
        page = listing.list_ids(db, viewer, filters, sort=sort, cursor=cursor, limit=2)
        numbered = listing.list_ids(db, viewer, filters, sort=sort, limit=2, offset=len(found))
        assert numbered.items == page.items
        found += page.items
        cursor = page.next_cursor
        if cursor is None:
            return found


@pytest.mark.parametrize("sort", ["newest", "oldest", "downloads", "ids"])
def test_pages_of_a_list_hold_everything_once(db: Session, user: User, sort: str) -> None:
    """Of who has drafts too, which have no date of publishing; in a list and in a search."""
    public = [published(db, user, tensors=bytes([n]), name=f"Stone {n}").id for n in range(5)]
    drafts = [trained(db, user, tensors=bytes([9 + n]), name=f"Stone draft {n}").model_id for n in range(3)]
    for query in ("", "stone"):
        filters = listing.ModelFilters(query=query, own=True)
        found = _walked(db, None, filters, sort)
        assert found == (public if sort == "oldest" else public[::-1])
        found = _walked(db, user, filters, sort)
        assert sorted(found) == public + drafts
        assert len(found) == len(public + drafts)


def _bases(db: Session, model: Model) -> list[str]:
    return list(db.scalar(select(Model.bases).where(Model.id == model.id)) or ())


def test_a_model_knows_the_bases_of_its_published_versions(db: Session, user: User) -> None:
    model = published(db, user, tensors=b"1")
    [version] = model.versions
    draft = make_version(db, model, "v2", base_model="Pony")
    db.flush()
    assert _bases(db, model) == [version.base_model]
    draft.status = "Published"
    db.flush()
    assert _bases(db, model) == sorted(["Pony", version.base_model])
    filters = listing.ModelFilters(base_models=["Pony", "SD 3.5"])
    assert listing.list_ids(db, None, filters).items == [model.id]
    draft.base_model = "Illustrious"
    version.status = "Draft"
    db.flush()
    assert _bases(db, model) == ["Illustrious"]
    assert listing.list_ids(db, None, filters).items == []
    db.delete(draft)
    db.flush()
    assert _bases(db, model) == []


def test_two_changes_at_once_both_count(real_db: str) -> None:
    with unit_of_work() as db:
        model = published(db, make_user(db, "bianca"))
        model_id, first = model.id, model.versions[0].base_model
        numbers = [make_version(db, model, name, base_model=name).id for name in ("Pony", "SDXL 1.0")]
    publish = "update model_version set status = 'Published' where id = %s"
    with psycopg.connect(real_db) as one, psycopg.connect(real_db) as other:
        one.execute(publish, [numbers[0]])
        with ThreadPoolExecutor(1) as threads:
            waiting = threads.submit(other.execute, publish, [numbers[1]])
            while not one.execute("select from pg_locks where not granted").rowcount:
                assert not waiting.done()
            one.commit()
            waiting.result()
        other.commit()
        told = one.execute("select bases from model where id = %s", [model_id]).fetchone()
    assert told == (sorted([first, "Pony", "SDXL 1.0"]),)


def test_few_with_a_word_says_nothing_of_tags_and_names(db: Session) -> None:
    """Half of all models may have the tag: those are met in the order of the list, never all sorted."""
    shape = listing.shape_of(listing.ModelFilters(query="style"), None, estimate=1)
    assert [way.by_few_words for way in listing.ways_of(shape)] == [True, False, False, False]
    arms = listing._listing(replace(shape, sort="newest")).sql.split("UNION")
    assert ["make_interval" in arm.split("ORDER BY")[1].split("LIMIT")[0] for arm in arms] == [
        True, False, False, False,
    ]  # fmt: skip


@pytest.fixture
def anew() -> Iterator[None]:
    """Statements are built as this test has it, and as usual after it."""
    statements = (listing._listing, searching._search)
    for built in statements:
        built.cache_clear()
    yield
    for built in statements:
        built.cache_clear()


@pytest.mark.parametrize(("few", "often"), [(5000, range(0)), (-1, range(0)), (5000, range(99))])
def test_a_search_goes_on_after_what_it_ranks(
    db: Session, user: User, anew: None, monkeypatch: pytest.MonkeyPatch, few: int, often: range
) -> None:
    """The very name first, however few have fetched it; then the ranked ones, then all others, each once."""
    for module in (listing, searching):
        monkeypatch.setattr(module, "RANKED", 3)
    monkeypatch.setattr(listing, "FEW", few)
    monkeypatch.setattr(searching, "OFTEN", often)
    names = ["Stone", "Stone wall", "Old stone", *(f"Old stone {n}" for n in range(5))]
    models = [published(db, user, tensors=name.encode(), name=name) for name in names]
    for downloads, model in enumerate(models):
        model.download_count = 97 + downloads if downloads else 0
    found, cursor = list[int](), None
    for _ in models:
        page = searching.search_ids(db, None, listing.ModelFilters(query="STONE"), cursor=cursor, limit=2)
        found, cursor = found + page.items, page.next_cursor
        if cursor is None:
            break
    exact, *others = (model.id for model in models)
    assert found == [exact, *reversed(others)]


def test_a_search_that_takes_too_long_is_refused(db: Session) -> None:
    with pytest.raises(TookTooLong), db.begin_nested(), within(db, 0.05):
        db.execute(text("select pg_sleep(5)"))
    with within(db, 2):
        assert db.scalar(select(func.current_setting("statement_timeout"))) == "2s"
    assert db.scalar(select(func.current_setting("statement_timeout"))) == "0"


def test_words_are_counted_and_forgotten(db: Session, user: User) -> None:
    model = _whole(db, user, 0)
    built_in = published(db, user, tensors=b"b", name="Starter", tags=["shipped"])
    built_in.built_in = True
    summary.recount(db)

    def terms() -> set[tuple[str, str, int]]:
        return {(t.kind, t.name, t.models) for t in db.scalars(select(Term))}

    tags = {
        ("tag", "architecture", 1),
        ("tag", "italy", 1),
        ("topic", "architecture", 1),
        ("topic", "italy", 1),
    }
    assert terms() == tags | {
        ("type", "LORA", 2), ("creator", "lorenzo", 2), ("base", "Starter 1", 2),
        ("base", "Bottega Starter", 1), ("tag", "shipped", 1),
    }  # fmt: skip
    assert queries.list_facets(db)["tags"] == ["architecture", "italy"]
    assert model.image_count == 1
    service.set_visibility(db, user, model.id, "private")
    db.scalars(select(Model)).first()
    summary.recount(db)
    assert terms() == {
        ("type", "LORA", 1), ("creator", "lorenzo", 1), ("base", "Starter 1", 1), ("tag", "shipped", 1),
    }  # fmt: skip


def test_counting_waits_its_turn(db: Session, user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counting that took a second is not done again for as many as SHARE says."""
    clock = iter([100.0, 100.0, 101.0, 101.0 + summary.SHARE - 1, 101.0 + summary.SHARE + 1, 200.0, 201.0])
    monkeypatch.setattr("app.gallery.summary.monotonic", lambda: next(clock))
    monkeypatch.setitem(summary._next, "at", 0.0)
    published(db, user)
    summary.recount_in_turn(db)
    assert db.scalar(select(func.count()).select_from(Term)) == 7
    published(db, user, tensors=b"2", tags=["late"])
    summary.recount_in_turn(db)
    late = select(func.count()).select_from(Term).where(Term.name == "late")
    assert db.scalar(late) == 0
    summary.recount_in_turn(db)
    assert db.scalar(late) == 2


def test_cards_show_what_the_viewer_may_see(db: Session, user: User, browser: Browser) -> None:
    model = _whole(db, user, 0)
    first = next(v for v in model.versions if v.name == "v1")
    draft = make_version(db, model, "v3", base_model="Secret base")
    hidden = make_image(db, user)
    service.add_picture(db, draft, hidden, 0)
    stranger = make_user(db)
    cover = min(first.pictures, key=lambda p: p.position).image_id
    for viewer in (None, stranger):
        [card] = cards_of(db, viewer, [model.id])
        assert (card.base_model, card.cover and card.cover.id) == ("Bottega Starter", cover)
    [card] = cards_of(db, user, [model.id])
    assert (card.base_model, card.cover and card.cover.id) == ("Secret base", hidden.id)
    assert "Secret base" not in browser(stranger).get("/models").text
    first.pictures[0].image.rating = 0
    db.flush()
    [card] = cards_of(db, None, [model.id])
    assert card.cover is not None
    assert card.cover.id != cover
    assert cards_of(db, None, []) == []


def test_pictures_are_found_by_their_words(db: Session, user: User) -> None:
    image = make_image(db, user, visibility="public", prompt="Olive trees, at noon", title="Morning walk")
    for words, found in {
        "olive": 1,
        "noon olive": 1,
        "morning": 1,
        "oliv": 0,
        "olive -noon": 0,
        "%": 0,
    }.items():
        assert [i.id for i in list_images(db, None, ImageFilters(query=words)).items] == [image.id] * found
