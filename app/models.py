"""All tables in one import, for Alembic and for foreign keys that are found by walking the metadata."""

from app.accounts import models as accounts
from app.compat.orchestration import models as orchestration
from app.core.blobs import Blob
from app.datasets import models as datasets
from app.gallery import models as gallery
from app.images import models as images
from app.jobs import models as jobs
from app.training import models as training
from app.uploads import models as uploads

__all__ = [
    "Blob",
    "accounts",
    "datasets",
    "gallery",
    "images",
    "jobs",
    "orchestration",
    "training",
    "uploads",
]
