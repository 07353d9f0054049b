"""A grid as a table of pictures, and as one labelled PNG that is made when somebody asks for it.

Only our own drawings go in, scaled so that the whole stays below `MAX_PIXELS`.
"""

import io
import math
import textwrap
import threading
from dataclasses import dataclass

from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont
from sqlalchemy.orm import Session

from app.accounts.models import User
from app.contract.jobs import GenerateJob, Grid
from app.core.blobs import blob_key
from app.core.errors import Conflict, NotFound
from app.core.storage import get_storage
from app.generation.service import get_generation, pictures_of
from app.images.models import Image
from app.jobs.models import Job
from app.jobs.views import is_over

MAX_PIXELS = 24_000_000
MAX_CELL = 768
GAP, LABEL = 8, 34
INK, PAPER, EMPTY = "#201b16", "#ffffff", "#f1ece4"
CHARACTERS = 40
_TURN = threading.Lock()


@dataclass(frozen=True)
class Table:
    """`rows` has a picture, or None where there is none yet, for each column."""

    job: Job
    payload: GenerateJob
    grid: Grid
    rows: list[list[Image | None]]

    @property
    def is_over(self) -> bool:
        return is_over(self.job)

    @property
    def drawn(self) -> int:
        return sum(image is not None for row in self.rows for image in row)


def get_table(db: Session, user: User, job_id: str) -> Table:
    """Errors: NotFound, also for a generation that is no grid."""
    job, payload = get_generation(db, user, job_id)
    if payload.grid is None:
        raise NotFound("This generation is no grid.")
    grid = payload.grid
    rows: list[list[Image | None]] = [[None] * len(grid.x_labels) for _ in grid.y_labels]
    for image in pictures_of(db, job):
        if image.job_index is not None and image.job_index < len(grid.cells):
            cell = grid.cells[image.job_index]
            rows[cell.y][cell.x] = image
    return Table(job, payload, grid, rows)


def draw(table: Table) -> bytes:
    """The table as PNG; one at a time, because each may take 100 MB. Errors: Conflict without a picture."""
    if not table.drawn:
        raise Conflict("No picture of this grid is there yet.", code="job-not-finished")
    with _TURN:
        return _draw(table)


def _draw(table: Table) -> bytes:
    grid, cell = table.grid, _cell_size(table)
    left = 0 if grid.y_labels == ("",) else _label_width(grid)
    top = 2 * LABEL + GAP if grid.x_axis else LABEL
    width = left + len(grid.x_labels) * (cell[0] + GAP) + GAP
    height = top + len(grid.y_labels) * (cell[1] + GAP) + GAP
    sheet = Pillow.new("RGB", (width, height), PAPER)
    pen = ImageDraw.Draw(sheet)
    _headings(pen, grid, cell, left, top)
    for y, row in enumerate(table.rows):
        for x, image in enumerate(row):
            at = (left + GAP + x * (cell[0] + GAP), top + GAP + y * (cell[1] + GAP))
            _paste(sheet, pen, image, at, cell)
    out = io.BytesIO()
    sheet.save(out, "PNG")
    return out.getvalue()


def _cell_size(table: Table) -> tuple[int, int]:
    """Pixels of one cell: as drawn where that is small enough."""
    first = next(image for row in table.rows for image in row if image)
    count = len(table.grid.x_labels) * len(table.grid.y_labels)
    factor = min(
        1.0,
        MAX_CELL / max(first.width, first.height),
        math.sqrt(MAX_PIXELS / (count * first.width * first.height)),
    )
    return max(1, round(first.width * factor)), max(1, round(first.height * factor))


def _label_width(grid: Grid) -> int:
    longest = max((len(label) for label in (*grid.y_labels, grid.y_axis)), default=0)
    return 24 + 8 * min(longest, 18)


def _headings(pen: ImageDraw.ImageDraw, grid: Grid, cell: tuple[int, int], left: int, top: int) -> None:
    bold, plain = ImageFont.load_default(17), ImageFont.load_default(15)
    pen.text((left + GAP, GAP), _short(grid.x_axis), INK, font=bold)
    room = max(6, cell[0] // 8)
    for x, label in enumerate(grid.x_labels):
        middle = left + GAP + x * (cell[0] + GAP) + cell[0] // 2
        pen.text((middle, top - GAP), _short(label, room), INK, font=plain, anchor="ms")
    if not left:
        return
    pen.text((GAP, top - GAP), _short(grid.y_axis, 20), INK, font=bold, anchor="ls")
    for y, label in enumerate(grid.y_labels):
        words = "\n".join(textwrap.wrap(label, 18)[:6])
        middle = top + GAP + y * (cell[1] + GAP) + cell[1] // 2
        pen.multiline_text((GAP, middle), words, INK, font=plain, anchor="lm")


def _short(text: str, room: int = CHARACTERS) -> str:
    return text if len(text) <= room else text[: room - 1] + "…"


def _paste(
    sheet: Pillow.Image,
    pen: ImageDraw.ImageDraw,
    image: Image | None,
    at: tuple[int, int],
    cell: tuple[int, int],
) -> None:
    if image is None:
        pen.rectangle((at[0], at[1], at[0] + cell[0] - 1, at[1] + cell[1] - 1), fill=EMPTY)
        return
    with Pillow.open(io.BytesIO(get_storage().get(blob_key(image.blob_sha256)))) as picture:
        picture.draft("RGB", cell)
        shown = picture.convert("RGB")
    if shown.size != cell:
        shown = shown.resize(cell, Pillow.Resampling.LANCZOS)
    sheet.paste(shown, at)
