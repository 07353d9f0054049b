"""All compatible faces in one router."""

from fastapi import APIRouter

from app.compat import civitai, pictures

router = APIRouter()
router.include_router(civitai.router)
router.include_router(pictures.router)
