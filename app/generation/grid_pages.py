"""The result of an X/Y grid: a table of pictures, and the same as one labelled PNG."""

from fastapi import APIRouter, Request, Response

from app.accounts.deps import CurrentUser
from app.generation import sheet
from app.web.deps import Db
from app.web.downloads import content_disposition
from app.web.templating import render

router = APIRouter(prefix="/generate/grids")


@router.get("/{job_id}")
def show(request: Request, db: Db, user: CurrentUser, job_id: str) -> Response:
    """The table; it renews itself until the job is finished."""
    return render(request, "generation/grid.html", table=sheet.get_table(db, user, job_id))


@router.get("/{job_id}/sheet.png")
def download(db: Db, user: CurrentUser, job_id: str) -> Response:
    """All cells with their labels in one picture."""
    table = sheet.get_table(db, user, job_id)
    headers = {"Content-Disposition": content_disposition(f"grid-{job_id[-6:]}.png")}
    return Response(sheet.draw(table), media_type="image/png", headers=headers)
