"""Stored files as local paths: whole, right, bounded, and safe to unpack."""

import hashlib
import io
import os
import threading
import zipfile
from pathlib import Path

import pytest
from obstore.store import MemoryStore

from app.contract.jobs import (
    BlobRef,
    Cell,
    CheckpointRef,
    EmbeddingRef,
    GenerateJob,
    Grid,
    LoraRef,
    StartPicture,
)
from app.core.storage import ObjectStorage, Storage
from worker import models_cache
from worker.models_cache import CacheError, ModelsCache


def far_storage() -> ObjectStorage:
    """A store that has no local files, as S3."""
    return ObjectStorage(MemoryStore())


def near_storage(folder: Path) -> ObjectStorage:
    from obstore.store import LocalStore

    folder.mkdir()
    return ObjectStorage(LocalStore(prefix=str(folder)), folder)


def put(storage: Storage, content: bytes, name: str = "a.safetensors") -> BlobRef:
    sha256 = hashlib.sha256(content).hexdigest()
    storage.put(f"blobs/{sha256}", content)
    return BlobRef(sha256=sha256, size=len(content), name=name)


def zipped(files: dict[str, bytes], link: str = "") -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
        if link:
            info = zipfile.ZipInfo(link)
            info.external_attr = 0o120777 << 16
            archive.writestr(info, "/etc/passwd")
    return out.getvalue()


def test_a_local_storage_costs_no_copy(tmp_path: Path) -> None:
    storage = near_storage(tmp_path / "storage")
    ref = put(storage, b"weights", "Tuscany.SafeTensors")
    path = ModelsCache(storage, tmp_path / "cache").file(ref)
    assert path.name == f"{ref.sha256}.safetensors"
    assert path.samefile(tmp_path / "storage" / "blobs" / ref.sha256)


def test_a_far_file_is_fetched_once_and_checked(tmp_path: Path) -> None:
    storage = far_storage()
    ref = put(storage, b"weights")
    cache = ModelsCache(storage, tmp_path)
    path = cache.file(ref)
    storage.delete([f"blobs/{ref.sha256}"])
    assert cache.file(ref).read_bytes() == b"weights"
    assert path == cache.file(ref)
    storage.put(f"blobs/{'0' * 64}", b"something else")
    with pytest.raises(CacheError) as refused:
        cache.file(BlobRef(sha256="0" * 64, size=14, name="b.safetensors"))
    assert refused.value.code == "file-damaged"
    assert not [p for p in tmp_path.iterdir() if p.suffix == ".part"]


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    for storage in (far_storage(), near_storage(tmp_path / "near")):
        with pytest.raises(CacheError) as refused:
            ModelsCache(storage, tmp_path / "cache").file(BlobRef(sha256="1" * 64, size=1, name="gone"))
        assert refused.value.code == "file-missing"


def test_the_least_recently_used_goes_first(tmp_path: Path) -> None:
    storage = far_storage()
    refs = [put(storage, bytes([n]) * 100) for n in range(4)]
    cache = ModelsCache(storage, tmp_path, limit=250)
    paths = [cache.file(refs[0]), cache.file(refs[1])]
    os.utime(paths[1], (1, 1))
    os.utime(cache.file(refs[0]), (2, 2))
    cache.file(refs[2])
    assert [p.exists() for p in paths] == [True, False]
    cache.file(refs[3])
    assert not paths[0].exists()


def test_a_zip_becomes_a_folder_once(tmp_path: Path) -> None:
    storage = far_storage()
    ref = put(storage, zipped({"model_index.json": b"{}", "unet/config.json": b"1"}), "base.zip")
    cache = ModelsCache(storage, tmp_path)
    found: list[Path] = []
    threads = [threading.Thread(target=lambda: found.append(cache.folder(ref))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1
    assert (found[0] / "unet" / "config.json").read_bytes() == b"1"


def test_what_was_deleted_leaves_the_cache_too(tmp_path: Path) -> None:
    for number, storage in enumerate((far_storage(), near_storage(tmp_path / "near"))):
        cache = ModelsCache(storage, tmp_path / f"cache{number}")
        kept, gone = put(storage, b"kept", "a.png"), put(storage, b"gone", "b.png")
        folder = put(storage, zipped({"model_index.json": b"{}"}), "base.zip")
        paths = [cache.file(kept), cache.file(gone), cache.folder(folder)]
        storage.delete([f"blobs/{ref.sha256}" for ref in (gone, folder)])
        assert cache.forget_deleted() == 0, "somebody may be about to open them"
        assert cache.forget_deleted(unused=0) == 3  # the zip, what was unpacked of it, and the picture
        assert [p.exists() for p in paths] == [True, False, False]


def test_tidying_now_and_then_never_fails(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    storage = far_storage()
    cache = ModelsCache(storage, tmp_path / "cache")
    cache.file(put(storage, b"kept"))
    (tmp_path / "cache").rename(tmp_path / "away")
    cache.tidy()
    assert "could not be compared" in caplog.text
    caplog.clear()
    cache.tidy()
    assert caplog.text == ""


def test_a_full_disk_is_seen_before_fetching(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = far_storage()
    ref = put(storage, b"weights")
    monkeypatch.setattr(models_cache, "SPARE_BYTES", 1 << 60)
    with pytest.raises(CacheError) as refused:
        ModelsCache(storage, tmp_path / "cache").file(ref)
    assert refused.value.code == "disk-full"


def test_a_bomb_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models_cache, "ZIP_FREE", 1000)
    storage = far_storage()
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("unet/weights.safetensors", bytes(1 << 20))
    ref = put(storage, packed.getvalue(), "base.zip")
    with pytest.raises(CacheError) as refused:
        ModelsCache(storage, tmp_path / "cache").folder(ref)
    assert refused.value.code == "base-model-broken"
    assert not [p for p in (tmp_path / "cache").iterdir() if p.is_dir()]


@pytest.mark.parametrize(
    "content",
    [
        zipped({"../out": b"x"}),
        zipped({"/etc/x": b"x"}),
        zipped({"a\\..\\b": b"x"}),
        zipped({"a": b"x"}, link="b"),
        b"no zip at all",
        zipped({"a": b"x" * 1000})[:-30],
    ],
    ids=["slip", "absolute", "backslash", "link", "text", "truncated"],
)
def test_bad_archives_are_refused(tmp_path: Path, content: bytes) -> None:
    storage = far_storage()
    ref = put(storage, content, "base.zip")
    cache = ModelsCache(storage, tmp_path / "cache")
    with pytest.raises(CacheError) as refused:
        cache.folder(ref)
    assert refused.value.code == "base-model-broken"
    assert not (tmp_path / "out").exists()
    assert not [p for p in (tmp_path / "cache").iterdir() if p.is_dir()]


def test_every_file_of_a_job_is_brought(tmp_path: Path) -> None:
    """Both files of a LoRA for two experts, those of single cells, parts beside the checkpoint."""
    storage = far_storage()
    names = (
        "base",
        "vae",
        "text",
        "low",
        "lora",
        "lora-low",
        "cell",
        "cell-low",
        "embedding",
        "start",
        "mask",
    )
    refs = {name: put(storage, name.encode(), f"{name}.safetensors") for name in names}
    refs["text"] = put(storage, zipped({"text_encoder/config.json": b"{}"}), "text.zip")

    def lora(name: str) -> LoraRef:
        return LoraRef(
            file=refs[name], low_noise=refs[f"{name}-low"], name=name, strength=1.0, base_model="Any"
        )

    base = CheckpointRef(
        file=refs["base"], format="SafeTensor", family="wan22_a14b", name="film", base_model="Any",
        vae=refs["vae"], text_encoder=refs["text"], low_noise=refs["low"],
    )  # fmt: skip
    job = GenerateJob(
        base=base, prompt="a boat", sampler="Euler", steps=2, cfg_scale=4, width=64, height=64, seeds=(1,),
        loras=(lora("lora"),),
        embeddings=(EmbeddingRef(file=refs["embedding"], name="ink", base_model="Any"),),
        start=StartPicture(file=refs["start"], mask=refs["mask"]),
        grid=Grid(x_axis="LoRA", x_labels=("a",), cells=(Cell(x=0, y=0, loras=(lora("cell"),)),)),
    )  # fmt: skip
    found = ModelsCache(storage, tmp_path).job_files(job)
    text = found.pop(refs.pop("text").sha256)
    assert (text / "text_encoder" / "config.json").read_bytes() == b"{}"
    assert {digest: path.read_bytes() for digest, path in found.items()} == {
        ref.sha256: name.encode() for name, ref in refs.items()
    }
