"""Who may use the routes of pictures."""

from typing import Any

from tests.app.refusals import World, row
from tests.factories import make_image


def a_private_picture(world: World) -> dict[str, Any]:
    return {"image_id": make_image(world.db, world.owner).id}


def a_private_png(world: World) -> dict[str, Any]:
    return {**a_private_picture(world), "extension": "png"}


def a_private_variant(world: World) -> dict[str, Any]:
    return {**a_private_picture(world), "variant": "original=true", "name": "a.png"}


ONE, PAGE = "/api/v1/images/{image_id}", "/images/{image_id:int}"
ROWS = [
    row("GET", ONE, anonymous=404, other=404, owner=200, make=a_private_picture),
    row("PATCH", ONE, anonymous=401, other=404, owner=200, make=a_private_picture, json={"title": "x"}),
    row("DELETE", ONE, anonymous=401, other=404, owner=204, make=a_private_picture),
    row("POST", f"{ONE}/share", anonymous=401, other=404, owner=200, make=a_private_picture),
    row("DELETE", f"{ONE}/share", anonymous=401, other=404, owner=204, make=a_private_picture),
    row("GET", f"{ONE}/file", anonymous=404, other=404, owner=200, make=a_private_picture),
    row("GET", "/images", anonymous=200, other=200, owner=200),
    row("GET", PAGE, anonymous=404, other=404, owner=200, make=a_private_picture),
    row("GET", f"{PAGE}/file", anonymous=404, other=404, owner=200, make=a_private_picture),
    row("GET", f"{PAGE}/file.{{extension}}", anonymous=404, other=404, owner=200, make=a_private_png),
    row("GET", f"{PAGE}/{{variant}}/{{name}}", anonymous=404, other=404, owner=200, make=a_private_variant),
    row("GET", f"{PAGE}/thumb", anonymous=404, other=404, owner=200, make=a_private_picture),
    row("POST", f"{PAGE}/visibility", anonymous=401, other=404, owner=303, make=a_private_picture,
        data={"visibility": "public"}),
    row("POST", f"{PAGE}/edit", anonymous=401, other=404, owner=303, make=a_private_picture,
        data={"title": "x"}),
    row("POST", f"{PAGE}/delete", anonymous=401, other=404, owner=303, make=a_private_picture),
]  # fmt: skip
