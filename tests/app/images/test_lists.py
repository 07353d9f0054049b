"""Lists of pictures: what each filter finds, what of a picture is read, and that no look costs a query."""

import re
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import event, insert, text
from sqlalchemy.orm import Session

from app.core.db import utcnow
from app.core.errors import NotFound
from app.images.models import Image, ImageResource, tag_number
from app.images.queries import ImageFilters, list_images, list_random_images, neighbours
from app.images.rows import LISTED, TILES, WHOLE, view_image
from tests.factories import make_image, make_user


def _lora(version: int | None, position: int = 0, weight: float | None = 0.5) -> ImageResource:
    facts = {"kind": "lora", "name": f"Tuscany {version}", "hash": "ab", "weight": weight}
    return ImageResource(position=position, model_version_id=version, **facts)


@pytest.fixture
def images(db: Session) -> dict[str, Image]:
    """Three public pictures that differ in everything, the oldest first."""
    bruna, carla = make_user(db, "bruna"), make_user(db, "Carla")
    shown: dict[str, Any] = {"visibility": "public"}
    old = make_image(
        db, bruna, **shown, prompt="a stone bridge", base_model="Pony", tags=["hill"],
        resources=[_lora(7, 1), _lora(None), _lora(8, 2, None)], created_at=utcnow() - timedelta(days=40),
    )  # fmt: skip
    clip = make_image(
        db, carla, **shown, prompt="", title="Bridge at dusk", media_type="video/mp4", frames=16, fps=8.0,
        resources=[_lora(8)],
    )  # fmt: skip
    adult = make_image(db, carla, **shown, prompt="clouds", base_model="SD 1.5", rating=8)
    return {"old": old, "clip": clip, "adult": adult}


EVERYTHING = {"level": 63}
FOUND: dict[str, tuple[dict[str, Any], str]] = {
    "public and safe": ({}, "clip old"),
    "other ratings": (EVERYTHING, "adult clip old"),
    "only these ratings": ({"level": 8}, "adult"),
    "words of the prompt or the title": ({"query": "BRIDGE"}, "clip old"),
    "all of the words": ({"query": "stone bridge"}, "old"),
    "a person": (EVERYTHING | {"username": "carla"}, "adult clip"),
    "one version": ({"version_ids": [8]}, "clip old"),
    "versions": ({"version_ids": [7, 9]}, "old"),
    "no version": ({"version_ids": []}, ""),
    "a base": ({"base_models": ["Pony"]}, "old"),
    "bases": (EVERYTHING | {"base_models": ["Pony", "SD 1.5"]}, "adult old"),
    "a period": ({"period": "Month"}, "clip"),
    "an unknown period": ({"period": "Century"}, "clip old"),
    "with a prompt": ({"with_meta_only": True}, "old"),
    "a tag": ({"tag_ids": [tag_number("hill"), 5]}, "old"),
    "clips": ({"media": "video"}, "clip"),
    "pictures": ({"media": "image"}, "old"),
    "several at once": ({"media": "image", "base_models": ["Pony"], "query": "stone", "level": 1}, "old"),
}


@pytest.mark.parametrize(("asked", "names"), FOUND.values(), ids=FOUND)
def test_what_a_filter_finds(
    db: Session, images: dict[str, Image], asked: dict[str, Any], names: str
) -> None:
    filters, wanted = ImageFilters(**asked), [images[name].id for name in names.split()]
    assert [image.id for image in list_images(db, None, filters).items] == wanted
    assert [i.id for i in list_images(db, None, filters, oldest_first=True).items] == wanted[::-1]
    assert {image.id for image in list_random_images(db, None, filters)} == set(wanted)


def test_numbers_of_people_and_pictures(db: Session, images: dict[str, Image]) -> None:
    old = images["old"]
    for filters in (ImageFilters(user_id=old.user_id), ImageFilters(image_id=old.id)):
        assert [image.id for image in list_images(db, None, filters).items] == [old.id]


@pytest.mark.parametrize("oldest_first", [False, True])
def test_pages_join_and_may_begin_anywhere(db: Session, images: dict[str, Image], oldest_first: bool) -> None:
    order = sorted((image.id for image in images.values()), reverse=not oldest_first)
    filters, seen, cursor = ImageFilters(level=63), [], None
    for _ in order:
        page = list_images(db, None, filters, cursor=cursor, limit=1, oldest_first=oldest_first)
        seen += [image.id for image in page.items]
        cursor = page.next_cursor
    assert (seen, cursor) == (order, None)
    late = list_images(db, None, filters, offset=2, oldest_first=oldest_first)
    assert [image.id for image in late.items] == order[2:]


def test_what_was_made_with_several_versions_is_met_once(db: Session) -> None:
    """Also what was made with the same one twice, and at the edge of a page."""
    user = make_user(db)
    used = ([7, 7], [8, 7], [9], [8])
    made = [
        make_image(db, user, visibility="public", resources=[_lora(v, n) for n, v in enumerate(versions)])
        for versions in used
    ]
    wanted = [image.id for image in made if image is not made[2]]
    filters, seen, cursor = ImageFilters(version_ids=[7, 8]), [], None
    for _ in wanted:
        page = list_images(db, None, filters, cursor=cursor, limit=1)
        seen += [image.id for image in page.items]
        cursor = page.next_cursor
    assert (seen, cursor) == (wanted[::-1], None)
    later = list_images(db, None, filters, offset=1, limit=2, oldest_first=True)
    assert ([image.id for image in later.items], later.next_cursor) == (wanted[1:], None)


def test_neighbours_are_of_the_same_list(db: Session, images: dict[str, Image]) -> None:
    old, clip, adult = (images[name] for name in ("old", "clip", "adult"))
    assert neighbours(db, None, clip, ImageFilters(level=63)) == (adult.id, old.id)
    assert neighbours(db, None, clip, ImageFilters()) == (None, old.id)
    assert neighbours(db, None, old, ImageFilters(media="image")) == (None, None)


def test_neighbours_are_found_past_many_that_are_private(db: Session) -> None:
    """By the index of public pictures, also in a plan that is made for all values."""
    user = make_user(db)
    one = make_image(db, user, visibility="public")
    kept = ("user_id", "username", "blob_sha256", "size", "width", "height")
    db.execute(insert(Image), [{name: getattr(one, name) for name in kept}] * 500)
    other = make_image(db, user, visibility="public")
    db.execute(text("analyze image"))
    asked: list[str] = []

    def note(conn: Any, cursor: Any, statement: str, *_: Any) -> None:
        asked.append(statement)

    event.listen(db.connection(), "before_cursor_execute", note)
    assert neighbours(db, None, one, ImageFilters()) == (other.id, None)
    places = {name: f"${n}" for n, name in enumerate(re.findall(r"%\((\w+)\)s", asked[0]), 1)}
    rows = db.connection().exec_driver_sql(f"explain (generic_plan) {asked[0] % places}")
    assert "\n".join(row[0] for row in rows).count("using ix_image_public ") == 2


def test_a_whole_picture_is_as_it_is_in_the_table(db: Session, images: dict[str, Image]) -> None:
    old = images["old"]
    seen = view_image(db, None, old.id)
    assert [getattr(seen, name) for name in WHOLE.names] == [getattr(old, name) for name in WHOLE.names]
    facts = [(r.position, r.kind, r.name, r.model_version_id, r.weight, r.hash) for r in seen.resources]
    assert facts == [
        (0, "lora", "Tuscany None", None, 0.5, "ab"),
        (1, "lora", "Tuscany 7", 7, 0.5, "ab"),
        (2, "lora", "Tuscany 8", 8, None, "ab"),
    ]
    assert view_image(db, None, images["clip"].id).clip_facts == {"frames": 16, "fps": 8.0, "duration": 2.0}


def test_what_was_not_read_is_missed_and_not_looked_up(db: Session, images: dict[str, Image]) -> None:
    [tile] = list_images(db, None, ImageFilters(media="video"), extent=TILES).items
    assert (tile.is_clip, tile.title) == (True, "Bridge at dusk")
    [listed] = list_images(db, None, ImageFilters(media="video"), extent=LISTED).items
    assert [r.model_version_id for r in listed.resources] == [8]
    for image, name in ((tile, "resources"), (tile, "meta"), (listed, "infotext")):
        with pytest.raises(AttributeError, match=name):
            getattr(image, name)


def test_what_has_just_changed_is_seen(db: Session, images: dict[str, Image]) -> None:
    """Also what the session has not written yet."""
    images["clip"].visibility = "private"
    assert [image.id for image in list_images(db, None, ImageFilters()).items] == [images["old"].id]
    with pytest.raises(NotFound):
        view_image(db, None, images["clip"].id)
    with pytest.raises(NotFound):
        view_image(db, None, images["adult"].id + 1)
