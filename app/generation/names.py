"""Models by what prompts and pictures from elsewhere call them: a file's stem, a model's name, a hash."""

import re

from sqlalchemy import ColumnElement, func, or_, select
from sqlalchemy.orm import Session

from app.accounts.models import User
from app.gallery.models import Model, ModelFile, ModelVersion
from app.gallery.picker import LORA_TYPES, usable_by

EMBEDDING = "TextualInversion"


def _stem() -> ColumnElement[str]:
    return func.lower(func.regexp_replace(ModelFile.name, r"\.[A-Za-z0-9]{2,12}$", ""))


def find_loras(db: Session, user: User, name: str) -> list[ModelVersion]:
    """LoRAs whose file or page is called so, in any case: one's own first, then the newest."""
    wanted = name.strip().lower().removesuffix(".safetensors")
    query = (
        usable_by(select(ModelVersion).join(Model).join(ModelVersion.files), user, LORA_TYPES)
        .where(or_(_stem() == wanted, func.lower(Model.name) == wanted))
        .order_by((Model.user_id == user.id).desc(), (_stem() == wanted).desc(), ModelVersion.id.desc())
        .limit(20)
    )
    return list(db.scalars(query).unique())


def stands_in(text: str, name: str) -> bool:
    """Whether `name` stands in `text` as a word of its own, in any case."""
    return re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text, re.IGNORECASE) is not None
