"""All compatible faces in one router."""

from fastapi import APIRouter

from app.compat import civitai

router = APIRouter()
router.include_router(civitai.router)
