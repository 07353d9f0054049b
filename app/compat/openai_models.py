"""OpenAI's list of models: checkpoints that draw here, called `owner/name@version`."""

import re
from typing import Annotated, Any

from fastapi import APIRouter
from sqlalchemy.orm import Session

from app.accounts.deps import CompatScoped, LenientlyIdentified
from app.accounts.models import User
from app.compat import a1111_options as options
from app.compat.openai_answers import NoSuchModel, OpenAIRoute
from app.gallery.models import ModelFile
from app.gallery.picker import Choice
from app.gallery.shapes import slug
from app.generation.names import find_version
from app.web.deps import Db

router = APIRouter(prefix="/v1/models", tags=["openai"], route_class=OpenAIRoute)
Reader = Annotated[User, CompatScoped("read", "generate")]
THEIRS = re.compile(r"(dall-e|gpt-image|chatgpt-image)[\w.-]*|auto|default", re.IGNORECASE)
"""OpenAI's own names, which many programs send whatever they talk to: they mean the chosen model."""
_NUMBERED = re.compile(r"(?:[^@]{0,300}@)?(\d{1,9})")


def model_id(choice: Choice, file: ModelFile) -> str:
    """Only the number behind the `@` counts; the words before it are for people."""
    return f"{file.version.model.username}/{slug(choice.name)}@{choice.version_id}"


def find_model(db: Session, user: User, identity: LenientlyIdentified, name: str | None) -> Choice:
    """The checkpoint of this id, file name, hash or page name. Errors: NoSuchModel, NotFound without any."""
    if not name or THEIRS.fullmatch(name.strip()):
        return options.current(db, user, options.get_options(identity))[0]
    numbered = _NUMBERED.fullmatch(name.strip())
    version = None if numbered else find_version(db, user, "Checkpoint", name)
    wanted = [int(numbered[1])] if numbered else [version.id] if version else []
    found = options.list_checkpoints(db, user, wanted) if wanted else []
    if not found:
        raise NoSuchModel(name)
    return found[0][0]


def _shown(choice: Choice, file: ModelFile) -> dict[str, Any]:
    return {
        "id": model_id(choice, file),
        "object": "model",
        "created": int(file.version.created_at.timestamp()),
        "owned_by": file.version.model.username,
    }


@router.get("")
def list_models(db: Db, user: Reader) -> dict[str, Any]:
    """Every checkpoint that draws here and that you may use."""
    found = options.list_checkpoints(db, user)
    return {"object": "list", "data": [_shown(choice, file) for choice, file in found]}


@router.get("/{name:path}")
def get_model(db: Db, user: Reader, identity: LenientlyIdentified, name: str) -> dict[str, Any]:
    """One of them."""
    choice = find_model(db, user, identity, name)
    return _shown(*options.list_checkpoints(db, user, [choice.version_id])[0])
