"""A catalogue with every odd case: what other programs must be able to read, and what they must not see."""

from dataclasses import dataclass

from sqlalchemy.orm import Session

from app.accounts.models import User
from app.core.db import utcnow
from app.core.hashing import hash_stream
from app.gallery import service
from app.gallery.models import Model, ModelFile, ModelVersion
from app.gallery.summary import recount
from app.images.models import Image, ImageResource
from app.images.service import create_sample
from tests.app.gallery.things import published, safetensors, trained
from tests.factories import make_blob, make_image, make_model, make_user, make_version

LONG = "Tuscany ü 日本 \N{OLIVE} ".ljust(200, "x")
CLIP = {"media_type": "video/mp4", "frames": 17, "fps": 8.0}
BIG = b"\1" * (2 << 20)


@dataclass
class Catalogue:
    """`shown` may be read by anybody with the right level, `hidden` by nobody but its owner."""

    owner: User
    shown: dict[str, Model]
    hidden: dict[str, Model]
    draft: ModelVersion
    pictures: dict[str, Image]

    @property
    def hidden_versions(self) -> list[ModelVersion]:
        return [self.draft, *(v for m in self.hidden.values() for v in m.versions)]


def _picture(db: Session, user: User, version: ModelVersion, rating: int = 1, position: int = 0) -> None:
    blob = make_blob(db, f"{version.id} {rating} {position}".encode(), "image/png")
    sample = create_sample(
        db, user, blob=blob, prompt="a house", seed=3, width=128, height=104, rating=rating
    )  # fmt: skip
    service.add_picture(db, version, sample, position)


def _file(db: Session, version: ModelVersion, content: bytes, **fields: object) -> ModelFile:
    blob, hashes = make_blob(db, content), hash_stream([content])
    file = ModelFile(version=version, blob_sha256=blob.sha256, size=blob.size, hash_values=hashes, **fields)
    db.add(file)
    db.flush()
    return file


def _page(db: Session, owner: User, name: str, visibility: str = "public", **fields: object) -> Model:
    """A published page made without a training, whose version has the only file `name`."""
    model = make_model(db, owner, name, **fields)
    version = make_version(db, model, base_model="SDXL 1.0", family=None)
    _file(db, version, safetensors(name.encode()), name="model.safetensors")
    db.expire(model, ["versions"])
    service.set_visibility(db, owner, model.id, visibility)
    return model


def _shown(db: Session, owner: User) -> dict[str, Model]:
    bare = _page(db, owner, "Bare", type="Checkpoint", allow_commercial_use=[], allow_no_credit=False)
    many = _page(db, owner, "Many files", type="Checkpoint", poi=True)
    version = many.versions[0]
    _file(db, version, BIG, name="half.ckpt", type="Pruned Model", format="PickleTensor", fp="fp16",
          precision="pruned", is_primary=False)  # fmt: skip
    _file(db, version, b"vae", name="more.safetensors", type="VAE", fp="fp32", is_primary=False)
    _file(db, version, b"{}", name="c.yaml", type="Config", format="Other", is_primary=False)
    for n, rating in enumerate((1, 2, 4, 8, 16, *[1] * 8)):
        _picture(db, owner, version, rating, n)
    archived = published(db, owner, tensors=b"archived", name="Archived")
    archived.archived_at = utcnow()
    names = {"name": LONG, "version_name": LONG, "file_name": f"{LONG}.safetensors"}
    long = trained(db, owner, tensors=b"long", tags=["中文", "a b"], **names)
    long.description = long.model.description = "**bold** <script>alert(1)</script>"
    service.publish_version(db, owner, long, "public")
    adult = published(db, owner, tensors=b"adult", name="Adult", rating=8)
    fetched = published(db, owner, tensors=b"fetched", name="Fetched", tags=[], trained_words=[])
    fetched.download_count = fetched.versions[0].download_count = 7
    found = {"bare": bare, "many": many, "archived": archived, "adult": adult, "fetched": fetched}
    return found | {"long": long.model}


def _hidden(db: Session, owner: User) -> dict[str, Model]:
    unrated = published(db, owner, tensors=b"unrated", name="Unrated secret")
    unrated.rating = 0
    taken = published(db, owner, tensors=b"taken", name="Taken secret")
    taken.taken_down_at = utcnow()
    return {
        "unrated": unrated,
        "taken": taken,
        "private": trained(db, owner, tensors=b"private", name="Private secret").model,
        "unlisted": published(db, owner, "unlisted", tensors=b"unlisted", name="Unlisted secret"),
    }


def _pictures(db: Session, owner: User, version: ModelVersion) -> dict[str, Image]:
    used = ImageResource(position=0, kind="lora", name="x", model_version_id=version.id, weight=0.8)
    facts = {"meta": {"prompt": "x", "seed": 1}, "tags": ["olive", "日本"], "base_model": "SD 1.5"}
    return {
        "plain": make_image(db, owner, visibility="public", prompt=""),
        "made": make_image(db, owner, visibility="public", resources=[used], **facts),
        "mature": make_image(db, owner, visibility="public", rating=4),
        "blocked": make_image(db, owner, visibility="public", rating=32),
        "video": make_image(db, owner, visibility="public", rating=2, **CLIP),
        "unrated": make_image(db, owner, visibility="public", rating=0),
        "private": make_image(db, owner),
        "unlisted": make_image(db, owner, visibility="unlisted", share_key="key-of-it"),
    }


def make_catalogue(db: Session) -> Catalogue:
    owner = make_user(db, "lorenzo")
    shown = _shown(db, owner)
    draft = make_version(db, shown["fetched"], "secret draft", base_model="Flux.1 D")
    _file(db, draft, b"secret draft", name="draft.safetensors")
    pictures = _pictures(db, owner, shown["long"].versions[0])
    hidden = _hidden(db, owner)
    db.flush()
    recount(db)
    return Catalogue(owner, shown, hidden, draft, pictures)
