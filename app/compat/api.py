"""All compatible faces in one router."""

from fastapi import APIRouter

from app.compat import (
    a1111,
    a1111_lists,
    a1111_words,
    civitai,
    civitai_download,
    civitai_images,
    civitai_lists,
    openai_images,
    openai_models,
    pictures,
)
from app.compat.orchestration import api as orchestration

router = APIRouter()
for face in (civitai, civitai_images, civitai_lists, civitai_download, pictures, orchestration):
    router.include_router(face.router)
for face in (a1111, a1111_lists, a1111_words, openai_models, openai_images):
    router.include_router(face.router)
