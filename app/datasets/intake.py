"""Files as people send them → pictures and labels, one list of errors, nothing in the database yet.

Zips are opened here; a label belongs to the picture of the same stem in the same folder; a kohya
folder `20_red toy` gives its words to its pictures that have no label. Pictures stay packed until
their turn comes, so a thousand of them need the room of one.
"""

import hashlib
import re
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from types import TracebackType

from app.core.config import get_settings
from app.datasets import archives
from app.datasets.labels import MAX_FILE_BYTES, UnreadableLabel, read_text

PICTURE_BYTES = 128 << 20
LABEL_SUFFIXES = (".txt", ".caption")
KOHYA_FOLDER = re.compile(r"^(\d+)_(.+)$")
CHAFF = re.compile(r"(^|/)(\.[^/]*|thumbs\.db|desktop\.ini)$|(^|/)__MACOSX(/|$)", re.IGNORECASE)
MAX_EXPANSION = 20
_LIST = (
    "is a list, which is not read. Labels are taken from a .txt file beside each picture, with the same name."
)
_SETTINGS = "holds settings of another program, which are not read. Choose them when you start the training."
_HINTS = {
    ".csv": _LIST, ".tsv": _LIST, ".json": _LIST, ".jsonl": _LIST, ".parquet": _LIST,
    ".toml": _SETTINGS, ".yaml": _SETTINGS, ".yml": _SETTINGS,
}  # fmt: skip


@dataclass(frozen=True)
class Received:
    """A file that lies in a temporary place. `name` may carry the folders that it was dropped with."""

    name: str
    path: Path


@dataclass(frozen=True)
class Rejected:
    name: str
    code: str
    detail: str


@dataclass(frozen=True)
class LabelText:
    text: str
    guessed: bool = False
    """Whether the encoding had to be guessed."""


Key = tuple[str, str]
"""(folder, stem), both in lower case."""


@dataclass(frozen=True)
class Candidate:
    """A file that may be a picture, still in the zip if it came in one."""

    name: str
    folder: str
    source: Path
    max_bytes: int = PICTURE_BYTES
    """What may come out of a zip for it."""
    packed: tuple[zipfile.ZipFile, archives.Entry, archives.Budget] | None = None

    def unpack(self, target: Path) -> Path:
        """The file itself, written to `target` when it was packed. Errors: archives.BadArchive."""
        if self.packed is None:
            return self.source
        archive, entry, budget = self.packed
        archives.extract(archive, entry, target, self.max_bytes, budget)
        return target

    @property
    def keys(self) -> tuple[Key, Key]:
        """Labels that belong to it: `x.txt` and `x.png.txt` for `x.png`."""
        folder = self.folder.casefold()
        return (folder, PurePosixPath(self.name).stem.casefold()), (folder, self.name.casefold())

    @property
    def folder_words(self) -> str:
        """`red toy` for what lies in `20_red toy`, as kohya's trainers read it."""
        match = KOHYA_FOLDER.match(PurePosixPath(self.folder).name)
        return match[2] if match else ""

    @property
    def path(self) -> str:
        """Its name with the folders in which it lay, as people find it again."""
        return f"{self.folder}/{self.name}" if self.folder else self.name


def split_name(name: str) -> tuple[str, str]:
    """(folder, file name) of a name that may be a path, short enough to keep, without control characters."""
    clean = "".join(c if c.isprintable() else "_" for c in name.replace("\\", "/"))
    parts = [part for part in clean.split("/") if part not in ("", ".", "..")]
    return "/".join(parts[:-1])[-255:], parts[-1][-255:] if parts else "file"


def label_key(name: str) -> Key:
    folder, file = split_name(name)
    return folder.casefold(), PurePosixPath(file).stem.casefold()


@dataclass
class Intake:
    """What came in one go. Use as a context manager: it holds the zips open."""

    candidates: list[Candidate] = field(default_factory=list)
    labels: dict[Key, LabelText] = field(default_factory=dict)
    label_names: dict[Key, str] = field(default_factory=dict)
    rejected: list[Rejected] = field(default_factory=list)
    media: str = "image"
    """Of the set: what moves becomes a clip in a set of `video`."""
    _open: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> "Intake":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._open.close()

    def reject(self, name: str, code: str, words: str) -> None:
        self.rejected.append(Rejected(name, code, f"{PurePosixPath(name).name or name} {words}"))

    def refuse(self, candidate: Candidate, code: str, words: str) -> None:
        """As `reject`; what is no picture may be another trainer's list or settings, and is told so."""
        hint = _HINTS.get(PurePosixPath(candidate.name).suffix.casefold())
        self.reject(candidate.path, code, hint if hint and code in ("not-a-picture", "not-a-clip") else words)

    @property
    def notes(self) -> list[str]:
        """What people with kohya folders should know: the numbers of the folders mean nothing here."""
        folders = {PurePosixPath(candidate.folder).name for candidate in self.candidates}
        found = [(name, KOHYA_FOLDER.match(name)) for name in sorted(folders)]
        return [
            f"The {match[1]} of the folder “{name}” is not used: all pictures are shown equally often. "
            "Repeats for the whole set are an advanced setting of the training."
            for name, match in found
            if match and int(match[1]) > 1
        ]

    def label_for(self, candidate: Candidate) -> LabelText | None:
        found = next((self.labels[key] for key in candidate.keys if key in self.labels), None)
        if found is None and candidate.folder_words:
            return LabelText(candidate.folder_words)
        return found

    @property
    def max_bytes(self) -> int:
        """Of one file."""
        return get_settings().limits.clip_bytes if self.media == "video" else PICTURE_BYTES

    def _add_candidate(self, file: Received, folder: str, name: str) -> None:
        if self.media == "video" and file.path.stat().st_size > self.max_bytes:
            words = f"is larger than {self.max_bytes >> 20} MB. Cut it, or export it at 1080p."
            self.reject(file.name, "too-large", words)
            return
        self.candidates.append(Candidate(name, folder, file.path))

    def _add_label(self, name: str, data: bytes) -> None:
        try:
            text, guessed = read_text(data)
        except UnreadableLabel as error:
            self.reject(name, "label-unreadable", str(error))
            return
        self.labels[label_key(name)] = LabelText(text, guessed)
        self.label_names[label_key(name)] = name

    def _add_file(self, file: Received) -> None:
        if is_label(file.name):
            with file.path.open("rb") as text:
                self._add_label(file.name, text.read(MAX_FILE_BYTES + 1))
            return
        with file.path.open("rb") as head:
            if archives.is_zip(head.read(8)):
                self._add_zip(file)
                return
        folder, name = split_name(file.name)
        if not self._is_regularisation(file.name, folder):
            self._add_candidate(file, folder, name)

    def _add_zip(self, file: Received) -> None:
        limits = get_settings().limits
        try:
            archive = self._open.enter_context(archives.open_zip(file.path, 3 * limits.dataset_items + 500))
        except archives.BadArchive as error:
            self.reject(file.name, error.code, error.words)
            return
        size = file.path.stat().st_size
        budget = archives.Budget(min(limits.zip_bytes, MAX_EXPANSION * size + self.max_bytes))
        for entry in archives.list_entries(archive):
            if isinstance(entry, tuple):
                self.reject(entry[0], entry[1].code, entry[1].words)
            else:
                self._add_entry(file, archive, entry, budget)

    def _add_entry(
        self, file: Received, archive: zipfile.ZipFile, entry: archives.Entry, budget: archives.Budget
    ) -> None:
        try:
            if is_label(entry.name):
                self._add_label(entry.name, read_packed(archive, entry, budget, MAX_FILE_BYTES + 1))
                return
            if archives.is_zip(read_packed(archive, entry, budget, 8)):
                self.reject(entry.name, "zip-nested", "is a zip inside a zip. Add it by itself.")
                return
        except archives.BadArchive as error:
            self.reject(entry.name, error.code, error.words)
            return
        folder, name = split_name(entry.name)
        if not self._is_regularisation(entry.name, folder):
            self.candidates.append(
                Candidate(name, folder, file.path, self.max_bytes, (archive, entry, budget))
            )

    def _is_regularisation(self, name: str, folder: str) -> bool:
        """kohya's `reg` folders hold pictures of the class, not of the thing that is to be learnt."""
        if not any(
            part.casefold() in ("reg", "reg_data", "regularization", "class_images")
            for part in folder.split("/")
        ):
            return False
        self.reject(
            name,
            "regularisation-picture",
            "lies in a folder of regularisation pictures, which are not used here.",
        )
        return True


def read_packed(archive: zipfile.ZipFile, entry: archives.Entry, budget: archives.Budget, size: int) -> bytes:
    """The first `size` bytes of an entry. Errors: archives.BadArchive."""
    try:
        with archive.open(entry.info) as source:
            data = source.read(size)
    except Exception as error:  # zipfile, zlib and bz2 raise many kinds on damaged input
        raise archives.BadArchive("zip-unreadable", "is damaged inside the zip. Pack it again.") from error
    budget.take(len(data))
    return data


def is_label(name: str) -> bool:
    return name.casefold().endswith(LABEL_SUFFIXES)


def collect(files: Iterable[Received], media: str = "image") -> Intake:
    """Sort what came into pictures, labels and errors. Reads zips' contents, not yet their pictures."""
    intake = Intake(media=media)
    for file in files:
        if not CHAFF.search(file.name.replace("\\", "/")):
            intake._add_file(file)
    return intake


def batches(candidates: list[Candidate], size: int) -> Iterator[list[Candidate]]:
    for start in range(0, len(candidates), size):
        yield candidates[start : start + size]


def hash_source(path: Path) -> str:
    """sha256 of the file as it came."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
