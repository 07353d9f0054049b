"""An address under which a private picture can be had for an hour, by whoever has it.

Signed with a key of the owner's that the server derives; nothing is stored, and the picture stays private.
"""

import hashlib
import hmac
import time

from sqlalchemy.orm import Session

from app.core.errors import NotFound
from app.core.security import same
from app.images.models import Image
from app.jobs.webhooks import signing_key

LIFETIME = 3600
"""Seconds."""


def sign(db: Session, image: Image) -> tuple[int, str]:
    """Until when (seconds since 1970), and the signature over it."""
    until = int(time.time()) + LIFETIME
    return until, _signature(db, image, until)


def get_signed(db: Session, image_id: int, until: int, signature: str) -> Image:
    """Errors: NotFound for a wrong signature, one whose time is over, and a picture that was taken down."""
    image = db.get(Image, image_id)
    if image is None or image.taken_down_at is not None or until < time.time():
        raise NotFound("This address has expired, or there is no such picture.")
    if not same(signature, _signature(db, image, until)):
        raise NotFound("This address has expired, or there is no such picture.")
    return image


def _signature(db: Session, image: Image, until: int) -> str:
    said = f"picture {image.id} until {until}".encode()
    return hmac.new(signing_key(db, image.user_id), said, hashlib.sha256).hexdigest()
