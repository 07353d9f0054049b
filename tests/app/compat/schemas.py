"""Civitai's answers, field by field, as its API is described; an unknown field and a wrong type are errors.

A field with a default may be missing but is never null. What stands under “ours” is there besides: fields
that older clients read, and addresses of our own pages.
"""
# ruff: noqa: N815 -- Civitai's names

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from app.gallery.schemas import ModelType

Date = Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")]
Url = Annotated[str, Field(pattern=r"^https?://[^/\s]+/\S+$")]
Level = Annotated[int, Field(ge=1, le=63)]
Count = Annotated[int, Field(ge=0)]
Id = Annotated[int, Field(ge=1, le=2_147_483_647)]
CommercialUse = Literal["Image", "RentCivit", "Rent", "Sell"]
Availability = Literal["Public", "Unsearchable", "Private", "EarlyAccess"]
Scan = Literal["Pending", "Success", "Danger", "Error"]
Zero = Literal[0]
Hex8 = Annotated[str, Field(pattern=r"^[0-9A-F]{8}$")]
Hex10 = Annotated[str, Field(pattern=r"^[0-9A-F]{10}$")]
Hex12 = Annotated[str, Field(pattern=r"^[0-9A-F]{12}$")]
Hex64 = Annotated[str, Field(pattern=r"^[0-9A-F]{64}$")]


class Thing(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Hashes(Thing):
    AutoV1: Hex8 = ""
    AutoV2: Hex10 = ""
    AutoV3: Hex12 = ""
    SHA256: Hex64 = ""
    CRC32: Hex8 = ""
    BLAKE3: Hex64 = ""


class FileMetadata(Thing):
    format: Literal["SafeTensor", "PickleTensor", "GGUF", "Diffusers", "Core ML", "ONNX", "Other"] = "Other"
    size: Literal["full", "pruned"] = "full"
    fp: Annotated[str, Field(min_length=1, max_length=64)] = ""


class File(Thing):
    id: Id
    sizeKB: Annotated[float, Field(gt=0)]
    name: Annotated[str, Field(min_length=1)]
    type: Literal[
        "Model", "Text Encoder", "Vision Encoder", "Pruned Model", "Negative", "Training Data", "VAE",
        "Config", "Archive", "UNet", "Diffusion Model", "CLIPVision", "ControlNet", "Workflow", "Upscaler",
        "Enhancement LoRA", "Other",
    ]  # fmt: skip
    pickleScanResult: Scan
    pickleScanMessage: str | None
    virusScanResult: Scan
    virusScanMessage: str | None
    scannedAt: Date | None
    metadata: FileMetadata
    hashes: Hashes
    downloadUrl: Url
    primary: bool


class Picture(Thing):
    """A picture inside a version of /models/:id."""

    url: Url
    nsfwLevel: Level
    width: Count
    height: Count
    hash: str | None
    type: Literal["image", "video", "audio"]
    minor: bool
    poi: bool
    hasMeta: bool
    hasPositivePrompt: bool
    onSite: bool
    remixOfId: int | None


class ListedPicture(Picture):
    id: Id


class PictureMetadata(Thing):
    hash: str | None
    width: Count
    height: Count
    size: Count


class VersionPicture(ListedPicture):
    meta: dict[str, Any] | None
    metadata: PictureMetadata
    availability: Availability


class VersionStats(Thing):
    downloadCount: Count
    thumbsUpCount: Zero
    thumbsDownCount: Zero
    # ours, for older clients
    ratingCount: Zero
    rating: Zero


class _Version(Thing):
    id: Id
    name: Annotated[str, Field(min_length=1)]
    baseModel: Annotated[str, Field(min_length=1)]
    publishedAt: Date
    availability: Availability
    nsfwLevel: Level
    description: str
    flags: int
    stats: VersionStats
    # ours, for older clients
    earlyAccessConfig: Annotated[dict[str, Any], Field(max_length=0)]
    air: Annotated[str, Field(pattern=r"^urn:air:[\w-]+:[\w-]+:civitai:\d+@\d+$")]
    uploadType: Literal["Created", "Trained"]
    usageControl: Literal["Download", "Generation", "InternalGeneration", "ExternalGeneration"]


def _one_primary(files: list[File]) -> None:
    assert [f.primary for f in files].count(True) == (1 if files else 0)


class ListedVersion(_Version):
    index: Count
    baseModelType: Literal["Standard", "Inpainting", "Refiner", "Pix2Pix"] | None
    trainedWords: list[str]
    vaeId: int | None
    supportsGeneration: bool
    paidAccess: dict[str, Any] | None
    files: list[File]
    images: Annotated[list[ListedPicture], Field(max_length=10)]
    downloadUrl: Url = ""
    earlyAccessEndsAt: Date | None

    @model_validator(mode="after")
    def check(self) -> "ListedVersion":
        _one_primary(self.files)
        assert bool(self.files) == bool(self.downloadUrl)
        return self


class VersionOfModel(_Version):
    """Of /models/:id: neither null nor an empty list."""

    index: Count
    createdAt: Date
    updatedAt: Date
    status: Literal["Published"]
    covered: bool
    baseModelType: Literal["Standard", "Inpainting", "Refiner", "Pix2Pix"] = "Standard"
    trainedWords: Annotated[list[str], Field(min_length=1)] = []
    files: Annotated[list[File], Field(min_length=1)] = []
    images: Annotated[list[Picture], Field(min_length=1, max_length=10)] = []
    downloadUrl: Url = ""

    @model_validator(mode="after")
    def check(self) -> "VersionOfModel":
        _one_primary(self.files)
        return self


class ModelOfVersion(Thing):
    name: str
    type: ModelType
    nsfw: bool
    poi: bool
    mode: Literal["Archived", "TakenDown"] = "Archived"


class Version(_Version):
    """GET /model-versions/:id, and by hash."""

    modelId: Id
    createdAt: Date
    updatedAt: Date
    status: Literal["Published"]
    trainedWords: list[str]
    trainingStatus: Literal["Pending", "Submitted", "Processing", "InReview", "Failed", "Approved"] | None
    trainingDetails: dict[str, Any] | None
    baseModelType: Literal["Standard", "Inpainting", "Refiner", "Pix2Pix"] | None
    licensingFee: float | None
    paidAccess: dict[str, Any] | None
    vaeId: int | None
    model: ModelOfVersion
    files: list[File]
    images: Annotated[list[VersionPicture], Field(max_length=10)]
    downloadUrl: Url = ""
    earlyAccessEndsAt: Date | None

    @model_validator(mode="after")
    def check(self) -> "Version":
        _one_primary(self.files)
        return self


class ModelStats(Thing):
    downloadCount: Count
    thumbsUpCount: Zero
    thumbsDownCount: Zero
    commentCount: Zero
    tippedAmountCount: Zero
    # ours, for older clients
    favoriteCount: Zero
    ratingCount: Zero
    rating: Zero


class Creator(Thing):
    username: Annotated[str, Field(min_length=1)]
    image: Url | None


class _Model(Thing):
    id: Id
    name: Annotated[str, Field(min_length=1)]
    description: str
    type: ModelType
    allowNoCredit: bool
    allowCommercialUse: list[CommercialUse]
    allowDerivatives: bool
    allowDifferentLicense: bool
    minor: bool
    sfwOnly: bool
    poi: bool
    nsfw: bool
    nsfwLevel: Level
    mode: Literal["Archived", "TakenDown"] = "Archived"
    availability: Availability
    userId: Id
    cosmetic: dict[str, Any] | None
    baseModels: list[str]
    supportsGeneration: bool
    stats: ModelStats
    creator: Creator
    tags: list[str]
    # ours
    url: Url


class ListedModel(_Model):
    modelVersions: Annotated[list[ListedVersion], Field(min_length=1)]


class Model(_Model):
    """GET /models/:id."""

    modelVersions: Annotated[list[VersionOfModel], Field(min_length=1)]


class CursorMetadata(Thing):
    nextCursor: Annotated[str, Field(min_length=1)] = ""
    nextPage: Url = ""
    currentPage: Id = 1
    pageSize: Id = 1

    @model_validator(mode="after")
    def check(self) -> "CursorMetadata":
        assert bool(self.nextCursor) == bool(self.nextPage)
        return self


class Models(Thing):
    items: list[ListedModel]
    metadata: CursorMetadata


class Fee(Thing):
    role: Literal["baseModel", "version"]
    amount: float
    type: Literal["perImageBuzz"]
    settlementCurrency: str
    recipientModelVersionId: int
    recipientUserId: int


class Mini(Thing):
    air: str
    versionName: str
    modelName: str
    userId: Id
    baseModel: str
    availability: Availability
    publishedAt: Date
    size: Annotated[float, Field(gt=0)]
    fileType: str
    fileName: str
    hashes: Hashes
    downloadUrls: Annotated[list[Url], Field(min_length=1)]
    format: str
    canGenerate: bool
    isFeatured: bool
    requireAuth: bool
    checkPermission: bool
    earlyAccessEndsAt: Date = ""
    freeTrialLimit: int = 0
    additionalResourceCharge: bool
    minor: bool
    sfwOnly: bool
    fees: list[Fee]
    payoutEnabled: bool


class HashIds(Thing):
    modelVersionId: Id
    modelId: Id
    hash: Hex64


class ImageStats(Thing):
    cryCount: Zero
    laughCount: Zero
    likeCount: Zero
    dislikeCount: Zero
    heartCount: Zero
    commentCount: Zero


class Tag(Thing):
    id: Count
    name: str


class Image(Thing):
    """An item of GET /images."""

    id: Id
    url: Url
    hash: str | None
    width: Count
    height: Count
    nsfwLevel: Literal["None", "Soft", "Mature", "X", "Blocked"]
    nsfw: bool
    browsingLevel: Level
    type: Literal["image", "video", "audio"]
    createdAt: Date
    postId: int | None
    stats: ImageStats
    meta: dict[str, Any] | None
    username: str
    baseModel: str | None
    modelVersionIds: list[Id]
    tags: list[Tag] = []
    # ours
    thumbnailUrl: Url
    pageUrl: Url
    # ours, of clips
    posterUrl: Url | None = None
    frames: Count | None = None
    fps: float | None = None
    duration: float | None = None

    @model_validator(mode="after")
    def check(self) -> "Image":
        is_clip = {"posterUrl", "frames", "fps", "duration"} <= self.model_fields_set
        assert is_clip == (self.type == "video")
        words = {1: "None", 2: "Soft", 4: "Mature", 8: "X", 16: "X", 32: "Blocked"}
        assert self.nsfwLevel == words[self.browsingLevel]
        assert self.nsfw == (self.nsfwLevel != "None")
        return self


class Images(Thing):
    items: list[Image]
    metadata: CursorMetadata


class NumberedMetadata(Thing):
    totalItems: Count
    currentPage: Id
    pageSize: Id
    totalPages: Count
    nextPage: Url = ""
    prevPage: Url = ""


class TagOfModels(Thing):
    name: str
    link: Url
    modelCount: Id


class Tags(Thing):
    items: list[TagOfModels]
    metadata: NumberedMetadata


class CreatorOfModels(Thing):
    username: str
    link: Url
    modelCount: Id
    image: Url = ""


class Creators(Thing):
    items: list[CreatorOfModels]
    metadata: NumberedMetadata


class Person(Thing):
    id: Id
    username: str
    avatarNsfw: int


class People(Thing):
    items: list[Person]


class Enums(Thing):
    ModelType: Annotated[list[str], Field(min_length=19)]
    ModelFileType: Annotated[list[str], Field(min_length=17)]
    ActiveBaseModel: Annotated[list[str], Field(min_length=1)]
    BaseModel: Annotated[list[str], Field(min_length=30)]
    BaseModelType: Annotated[list[str], Field(min_length=4)]


class Me(Thing):
    id: Id
    username: str
    tier: Literal["free", "founder", "bronze", "silver", "gold"]
    status: Literal["active", "muted", "banned"]
    isMember: bool
    subscriptions: list[str]
    # ours
    role: Literal["admin", "member"]
    scopes: list[str]
    limits: dict[str, Any]


class ZodIssue(Thing):
    code: str
    path: list[str]
    message: str


class ZodError(Thing):
    name: Literal["ZodError"]
    message: str
    issues: Annotated[list[ZodIssue], Field(min_length=1)]


class Error(Thing):
    error: ZodError | Annotated[str, Field(min_length=1)]
    message: str = ""
    error_description: str = ""
