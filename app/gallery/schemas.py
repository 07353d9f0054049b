"""What REST takes for models, versions and reports. An unknown field is an error that names it."""

from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

from app.images.schemas import Rating, Visibility

ModelType = Literal[
    "Checkpoint", "TextualInversion", "Hypernetwork", "AestheticGradient", "LORA", "LoCon", "DoRA",
    "Controlnet", "Upscaler", "MotionModule", "VAE", "TextEncoder", "UNet", "CLIPVision", "Poses",
    "Wildcards", "Workflows", "Detection", "Other",
]  # fmt: skip
MODEL_TYPES = get_args(ModelType)
Category = Literal["", "style", "character", "concept"]
CommercialUse = Literal["Image", "RentCivit", "Rent", "Sell"]
COMMERCIAL_USE = get_args(CommercialUse)
REASONS = {
    "rights": "It uses my work or my likeness without permission",
    "illegal": "It is illegal",
    "minor": "It shows a minor in a sexual way",
    "rating": "Its rating is too low",
    "spam": "It is spam or misleading",
    "other": "Something else",
}


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


PERMISSIONS = {
    "allowNoCredit": "allow_no_credit", "allowCommercialUse": "allow_commercial_use",
    "allowDerivatives": "allow_derivatives", "allowDifferentLicense": "allow_different_license",
}  # fmt: skip


def spread_permissions(values: Any) -> Any:
    """Permissions may stand in an object of their own, and under the names that answers give them."""
    if not isinstance(values, dict):
        return values
    inner = values.get("permissions")
    if isinstance(inner, dict):
        values = {name: value for name, value in values.items() if name != "permissions"} | inner
    return {PERMISSIONS.get(name, name): value for name, value in values.items()}


class ModelPatch(Body):
    """Every field may be left out; what is left out or null stays as it is."""

    spread = model_validator(mode="before")(spread_permissions)

    name: str | None = Field(default=None, min_length=1, max_length=200)
    category: Category | None = None
    description: str | None = Field(default=None, max_length=50_000)
    tags: list[str] | None = Field(default=None, max_length=20)
    rating: Rating | None = None
    licence: str | None = Field(default=None, max_length=100)
    poi: bool | None = None
    archived: bool | None = None
    """The page stays, its files are given to nobody but the owner."""
    allow_no_credit: bool | None = None
    allow_commercial_use: list[CommercialUse] | None = None
    allow_derivatives: bool | None = None
    allow_different_license: bool | None = None
    visibility: Visibility | None = None


class ModelIn(ModelPatch):
    name: str = Field(min_length=1, max_length=200)
    type: ModelType


class VersionPatch(Body):
    name: str | None = Field(default=None, min_length=1, max_length=200)
    base_model: str | None = Field(default=None, min_length=1, max_length=60)
    description: str | None = Field(default=None, max_length=50_000)
    trained_words: list[str] | None = Field(default=None, max_length=50)
    strength: float | None = Field(default=None, ge=-1, le=2)
    clip_skip: int | None = Field(default=None, ge=1, le=12)
    steps: int | None = Field(default=None, ge=1)
    epochs: int | None = Field(default=None, ge=1)


class Weights(Body):
    """What an owner may say of a file; what is left out is read from it."""

    fp: Literal["fp32", "fp16", "bf16", "fp8", "int8", "nf4"] | None = None
    precision: Literal["full", "pruned"] | None = None


class VersionIn(VersionPatch, Weights):
    """`upload` names a complete upload; without it the version stays a draft until it has a file.

    `base_model` and `trained_words` may be left out where the file tells them.
    """

    name: str = Field(min_length=1, max_length=200)
    upload: str | None = None


class FileIn(Weights):
    """A further file of a version: `upload` names a complete upload.

    `noise` says of models with two networks (Wan 2.2 A14B) which one it is, where its name does not.
    """

    upload: str = Field(min_length=1, max_length=40)
    noise: Literal["high", "low"] | None = None


class VersionPageIn(Body):
    """The form of a version whose file was uploaded. `publish` is whom it is shown to at once."""

    upload: str = Field(min_length=1, max_length=40)
    version_name: str = Field(default="v1", min_length=1, max_length=200)
    base_model: str | None = Field(default=None, min_length=1, max_length=60)
    trained_words: list[str] = Field(default=[], max_length=50)
    about: str = Field(default="", max_length=50_000)
    strength: float | None = Field(default=None, ge=-1, le=2)
    clip_skip: int | None = Field(default=None, ge=1, le=12)
    images: list[int] = Field(default=[], max_length=20)
    publish: Visibility = "private"


class PageIn(VersionPageIn, ModelIn):
    """The form of a new page with its first version."""

    def model(self) -> ModelIn:
        return ModelIn.model_validate(self.model_dump(include=set(ModelIn.model_fields)))


class PicturesIn(Body):
    """Ids of one's own pictures, in the order in which the page shows them."""

    images: list[int] = Field(min_length=1, max_length=20)


class PublishIn(Body):
    """`version` publishes that draft alone; otherwise all drafts that have a file."""

    visibility: Literal["unlisted", "public"] = "public"
    version: int | None = None


class ReportIn(Body):
    """`reason` is one of REASONS; words of one's own are kept with the detail, under `other`."""

    kind: Literal["model", "image"]
    id: int = Field(ge=1)
    reason: str = Field(min_length=1, max_length=200, examples=list(REASONS))
    detail: str = Field(default="", max_length=2000)

    @model_validator(mode="after")
    def keep_own_words(self) -> "ReportIn":
        if self.reason not in REASONS:
            self.detail = f"{self.reason}: {self.detail}".removesuffix(": ")
            self.reason = "other"
        return self


class ReportResolve(Body):
    action: Literal["take-down", "dismiss", "restore"]
    note: str = Field(default="", max_length=2000)
