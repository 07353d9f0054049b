"""Masks by brightness and by transparency, and what is too large or none."""

import io
from typing import Any

import pytest
from PIL import Image as Pillow
from sqlalchemy.orm import Session

from app.accounts.models import User
from app.core.errors import Invalid
from app.core.storage import get_storage
from app.generation import masks
from app.generation.masks import Drawn, has_holes, keep_mask, picture_size
from app.generation.sources import get_picture
from tests.app.generation.making import pixels_of, png
from tests.factories import make_user


@pytest.fixture
def user(db: Session) -> User:
    return make_user(db)


def saved(picture: Pillow.Image, kind: str = "PNG", **options: Any) -> bytes:
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def halves(mode: str, left: Any, right: Any) -> Pillow.Image:
    picture = Pillow.new(mode, (128, 96), right)
    picture.paste(left, (0, 0, 64, 96))
    return picture


CLEAR, SOLID = (0, 0, 0, 0), (0, 0, 0, 255)


@pytest.mark.parametrize(
    ("picture", "drawn", "invert", "expected"),
    [
        (halves("L", 255, 0), "opaque", False, (255, 0)),
        (halves("L", 255, 0), "clear", True, (0, 255)),
        (halves("RGBA", CLEAR, SOLID), "opaque", False, (0, 255)),
        (halves("RGBA", CLEAR, SOLID), "clear", False, (255, 0)),
        (halves("RGBA", CLEAR, SOLID), "clear", True, (0, 255)),
        (halves("RGBA", (255, 255, 255, 255), SOLID), "clear", False, (255, 0)),
    ],
    ids=["bright", "bright inverted", "painted", "cut out", "cut out inverted", "opaque all over"],
)
def test_where_a_mask_is_bright(
    db: Session, user: User, picture: Pillow.Image, drawn: Drawn, invert: bool, expected: tuple[Any, Any]
) -> None:
    kept = keep_mask(db, user, saved(picture), drawn=drawn, invert=invert)
    mask = pixels_of(get_storage().get(get_picture(db, user, kept.id).key)).convert("L")
    assert (mask.getpixel((10, 10)), mask.getpixel((100, 10))) == expected
    assert picture_size(db, user, kept.id) == (128, 96)


def test_holes_are_where_a_picture_is_transparent() -> None:
    assert has_holes(saved(halves("RGBA", CLEAR, SOLID)))
    assert has_holes(saved(halves("P", 0, 1), "GIF", transparency=0))
    assert not has_holes(png())
    assert not has_holes(saved(halves("RGBA", SOLID, SOLID)))
    assert not has_holes(b"no picture")


def test_what_is_no_mask(db: Session, user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    for data in (b"<html>", b"", png()[:200]):
        with pytest.raises(Invalid, match="The mask"):
            keep_mask(db, user, data, drawn="clear")
    monkeypatch.setattr(masks, "MAX_PIXELS", 128 * 96 - 1)
    holes = saved(halves("RGBA", CLEAR, SOLID))
    for act in (lambda: keep_mask(db, user, holes, drawn="clear"), lambda: has_holes(holes)):
        with pytest.raises(Invalid) as refused:
            act()
        assert refused.value.code == "image-too-large"
    assert not has_holes(png()), "opaque pictures may be as large as any"
