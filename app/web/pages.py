"""Pages about the API itself: the listing and the meaning of each error code."""

from fastapi import APIRouter, Request
from fastapi.responses import Response

from app.web.apidocs import listing
from app.web.error_codes import CODES
from app.web.templating import render

router = APIRouter(prefix="/docs")


@router.get("")
def show_docs(request: Request) -> Response:
    return render(
        request,
        "web/docs.html",
        groups=listing(request.app.openapi()),
        base=str(request.base_url).rstrip("/"),
    )


@router.get("/errors")
def show_errors(request: Request) -> Response:
    return render(request, "web/errors.html", codes=CODES)
