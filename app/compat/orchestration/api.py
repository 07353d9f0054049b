"""All routes of orchestration in one router."""

from fastapi import APIRouter

from app.compat.orchestration import blobs_api, jobs_api, workflows_api

router = APIRouter()
for part in (jobs_api, workflows_api, blobs_api):
    router.include_router(part.router)
