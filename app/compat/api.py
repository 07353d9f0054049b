"""All compatible faces in one router."""

from fastapi import APIRouter

from app.compat import civitai, civitai_download, civitai_images, civitai_lists, pictures

router = APIRouter()
for face in (civitai, civitai_images, civitai_lists, civitai_download, pictures):
    router.include_router(face.router)
