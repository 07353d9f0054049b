"""Pages of data sets: the list, the editor, and what works there without scripts."""

from typing import Annotated

from fastapi import APIRouter, Form, Request, Response
from starlette.concurrency import run_in_threadpool

from app.accounts.deps import CurrentUser
from app.core.errors import Invalid
from app.datasets import service
from app.datasets.example import add_example
from app.datasets.receive import BODY_BYTES, received_files
from app.web.deps import Db, Store
from app.web.streaming import pause
from app.web.templating import redirect, render

router = APIRouter(prefix="/datasets", include_in_schema=False)
COVERS = 4


@router.get("")
def list_page(request: Request, db: Db, user: CurrentUser, cursor: str | None = None) -> Response:
    return _list(request, db, user, cursor, {})


def _list(
    request: Request, db: Db, user: CurrentUser, cursor: str | None, errors: dict[str, str], media: str = ""
) -> Response:
    page = service.page_datasets(db, user, cursor=cursor, limit=48)
    covers = service.list_covers(db, [dataset.id for dataset, _ in page.items], each=COVERS)
    return render(
        request, "datasets/index.html", status=422 if errors else 200, sets=page.items, covers=covers,
        next_cursor=page.next_cursor, errors=errors,
        media=service.trained_media(), chosen_media=media,
    )  # fmt: skip


@router.post("")
def create(
    request: Request, db: Db, user: CurrentUser, name: Annotated[str, Form()] = "",
    media: Annotated[str, Form()] = "image",
) -> Response:  # fmt: skip
    try:
        dataset = service.create_dataset(db, user, name=name, media=media)
    except Invalid as error:
        field = error.errors[0].pointer.removeprefix("#/")
        return _list(request, db, user, None, {field: error.detail}, media)
    return redirect(request, f"/datasets/{dataset.id}")


@router.get("/{id}")
def show(request: Request, db: Db, user: CurrentUser, id: str, item: str | None = None) -> Response:
    context = service.editor_context(db, user, id)
    chosen = next((i for i in context["items"] if i["id"] == item), None)
    return render(request, "datasets/show.html", chosen=chosen, **context)


@router.post("/{id}/files", max_body_size=BODY_BYTES)
async def add_files(
    request: Request, db: Db, store: Store, user: CurrentUser, id: str, next: str = ""
) -> Response:
    """The plain form of the uploader. Goes back, or first lists what was not taken."""
    dataset = await run_in_threadpool(service.get_dataset, db, user, id, edit=True)
    noun = "clip" if dataset.media == "video" else "picture"
    await pause(db)
    async with received_files(request, store) as files:
        report = await run_in_threadpool(service.add_files, store, user, id, files)
    back = _local(next) or f"/datasets/{id}"
    if not report.rejected and not report.notes:
        return redirect(request, back)
    return await run_in_threadpool(
        render, request, "datasets/added.html", report=report, back=back, noun=noun
    )


@router.post("/{id}/example")
def example(request: Request, db: Db, store: Store, user: CurrentUser, id: str, next: str = "") -> Response:
    media = service.get_dataset(db, user, id, edit=True).media
    db.close()
    add_example(store, user, id, media)
    return redirect(request, _local(next) or f"/datasets/{id}")


@router.post("/{id}/items/{item}")
def save_label(
    request: Request, db: Db, user: CurrentUser, id: str, item: str, label: Annotated[str, Form()] = ""
) -> Response:
    service.set_label(db, user, id, item, label=label)
    return redirect(request, f"/datasets/{id}?item={item}")


@router.post("/{id}/items/{item}/delete")
def delete_item(request: Request, db: Db, user: CurrentUser, id: str, item: str) -> Response:
    service.delete_item(db, user, id, item)
    return redirect(request, f"/datasets/{id}")


@router.post("/{id}/rename")
def rename(
    request: Request, db: Db, user: CurrentUser, id: str, name: Annotated[str, Form()] = ""
) -> Response:
    service.update_dataset(db, user, id, name=name)
    return redirect(request, f"/datasets/{id}")


@router.post("/{id}/delete")
def delete(request: Request, db: Db, user: CurrentUser, id: str) -> Response:
    service.delete_dataset(db, user, id)
    return redirect(request, "/datasets")


def _local(target: str) -> str | None:
    """A path of this site, never another one."""
    return target if target.startswith("/") and not target.startswith(("//", "/\\")) else None
