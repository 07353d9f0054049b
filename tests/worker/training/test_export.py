import hashlib
import json
from base64 import b64decode
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save

from app.contract.events import Checkpoint
from app.contract.jobs import BlobRef, CheckpointRef, TrainJob
from app.recognition.unet_names import ARCHITECTURES, text_modules
from tests.worker.tiny import tiny_job, tiny_pictures
from tests.worker.training.conftest import Trained, merged_deltas
from worker.draws import Draws
from worker.families import catalog
from worker.families.kohya_keys import sdxl_name
from worker.reporter import NullReporter
from worker.training.buckets import place
from worker.training.dataset import Example, load_examples
from worker.training.export import header_length, legacy_hash, serialise, short_hashes, tensor_hash
from worker.training.metadata import TAG_BYTES, Moment, model_spec, tag_counts, training_metadata

Plain = tuple[TrainJob, NullReporter, Path]
ABSENT_ON_PURPOSE = {
    "ss_sd_scripts_commit_hash",  # it was not sd-scripts
    "ss_sd_model_hash",  # AutoV1 of a single file; the base is a folder
    "ss_vae_name", "ss_vae_hash", "ss_new_vae_hash",  # no separate autoencoder
    "ss_datasets",  # folder mode is written instead
}  # fmt: skip
SD_SCRIPTS_KEYS = """
ss_session_id ss_training_started_at ss_training_finished_at ss_output_name ss_training_comment ss_steps
ss_epoch ss_num_train_images ss_num_validation_images ss_num_reg_images ss_num_batches_per_epoch ss_num_epochs
ss_max_train_steps ss_learning_rate ss_unet_lr ss_text_encoder_lr ss_lr_scheduler ss_lr_warmup_steps
ss_optimizer ss_max_grad_norm ss_gradient_accumulation_steps ss_gradient_checkpointing ss_mixed_precision
ss_full_fp16 ss_fp8_base ss_fp8_base_unet ss_seed ss_lowram ss_network_module ss_network_dim ss_network_alpha
ss_network_dropout ss_network_args ss_scale_weight_norms ss_base_model_version ss_v2 ss_sd_model_name
ss_new_sd_model_hash ss_clip_skip ss_max_token_length ss_cache_latents ss_noise_offset
ss_noise_offset_random_strength ss_multires_noise_iterations ss_multires_noise_discount
ss_adaptive_noise_scale ss_zero_terminal_snr ss_ip_noise_gamma ss_ip_noise_gamma_random_strength
ss_min_snr_gamma ss_debiased_estimation ss_prior_loss_weight ss_loss_type ss_huber_schedule ss_huber_scale
ss_huber_c ss_caption_dropout_rate ss_caption_dropout_every_n_epochs ss_caption_tag_dropout_rate
ss_face_crop_aug_range ss_resize_interpolation ss_validation_seed ss_validation_split
ss_max_validation_steps ss_validate_every_n_epochs ss_validate_every_n_steps ss_batch_size_per_device
ss_total_batch_size ss_resolution ss_color_aug ss_flip_aug ss_random_crop ss_shuffle_caption
ss_enable_bucket ss_bucket_no_upscale ss_min_bucket_reso ss_max_bucket_reso ss_keep_tokens ss_dataset_dirs
ss_reg_dataset_dirs ss_tag_frequency ss_bucket_info
""".split()


def metadata_of(path: Path) -> dict[str, str]:
    with safe_open(path, framework="pt") as opened:
        return dict(opened.metadata())


@pytest.fixture
def last(plain_run: Plain) -> tuple[Path, Checkpoint]:
    _, reporter, out = plain_run
    event = [event for event in reporter.events if isinstance(event, Checkpoint)][-1]
    return out / event.path, event


def test_every_module_has_its_three_tensors_of_one_type(last: tuple[Path, Checkpoint]) -> None:
    tensors = load_file(last[0])
    stems = {name.split(".")[0] for name in tensors}
    parts = ("lora_down.weight", "lora_up.weight", "alpha")
    assert set(tensors) == {f"{stem}.{part}" for stem in stems for part in parts}
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float32}
    prefixes = {stem.split("_")[1] for stem in stems}
    assert prefixes == {"unet", "te"}
    assert all("_text_model_encoder_layers_" in stem for stem in stems if stem.startswith("lora_te"))
    assert {float(t) for n, t in tensors.items() if n.endswith("alpha")} == {1.0, 2.0}
    assert {float(t) for n, t in tensors.items() if "_resnets_" in n and n.endswith("alpha")} == {1.0}
    assert all(tensors[f"{stem}.alpha"].shape == () for stem in stems)


def test_the_reported_hashes_are_those_of_the_file(last: tuple[Path, Checkpoint]) -> None:
    path, event = last
    content = path.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    digest = hashlib.sha256(content[start:]).hexdigest()
    facts = metadata_of(path)
    assert event.sha256 == hashlib.sha256(content).hexdigest()
    assert event.tensor_sha256 == facts["sshs_model_hash"] == digest
    assert facts["modelspec.hash_sha256"] == f"0x{digest}"
    plain = save(load_file(path), {name: facts[name] for name in facts if name.startswith("ss_")})
    assert facts["sshs_legacy_hash"] == hashlib.sha256(plain[0x100000:0x110000]).hexdigest()[:8]
    assert content[8:10] == b'{"'
    assert start < 2**20


def test_the_old_hash_is_of_a_file_with_nothing_but_ss_keys(plain_run: Plain) -> None:
    """Only in files over 1 MiB has it anything to look at, and there it depends on the header's length."""
    job, _, _ = plain_run
    tensors = {"a": torch.arange(600_000, dtype=torch.float32)}
    moment = Moment(epoch=1, step=1, started_at=0.0, finished_at=1.0, prediction_type="epsilon")
    family = catalog.load("starter")
    content = serialise(tensors, {"ss_seed": "1", "bottega_type": "style"}, family, job, moment)
    header = json.loads(content[8 : 8 + header_length(content)])["__metadata__"]
    expected = save(tensors, {"ss_seed": "1"})[0x100000:0x110000]
    assert header["sshs_legacy_hash"] == hashlib.sha256(expected).hexdigest()[:8]
    assert header["bottega_type"] == "style"


def test_hashes_by_hand() -> None:
    content = save({"a": torch.zeros(300_000)})
    assert tensor_hash(content) == hashlib.sha256(bytes(1_200_000)).hexdigest()
    assert legacy_hash(content) == hashlib.sha256(bytes(0x10000)).hexdigest()[:8]
    assert header_length(content) + 8 + 1_200_000 == len(content)


def test_all_keys_of_sd_scripts_are_there_or_absent_on_purpose(last: tuple[Path, Checkpoint]) -> None:
    facts = metadata_of(last[0])
    assert set(SD_SCRIPTS_KEYS) <= set(facts)
    assert not ABSENT_ON_PURPOSE & set(facts)


def test_metadata_is_true_of_the_run(plain_run: Plain, last: tuple[Path, Checkpoint]) -> None:
    job, _, _ = plain_run
    facts = metadata_of(last[0])
    spec = catalog.specs()["starter"]
    expected = {
        "ss_output_name": "tiny",
        "ss_base_model_version": spec.ss_base_model_version,
        "ss_sd_model_name": job.base.file.name,
        "ss_new_sd_model_hash": job.base.file.sha256,
        "ss_steps": "4",
        "ss_epoch": "2",
        "ss_num_epochs": "2",
        "ss_max_train_steps": "4",
        "ss_num_train_images": "4",
        "ss_num_batches_per_epoch": "2",
        "ss_network_dim": "4",
        "ss_network_alpha": "2.0",
        "ss_network_module": "networks.lora",
        "ss_unet_lr": "0.001",
        "ss_text_encoder_lr": "0.001",
        "ss_mixed_precision": "no",
        "ss_min_snr_gamma": "5.0",
        "ss_noise_offset": "None",
        "ss_flip_aug": "False",
        "ss_v2": "False",
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.architecture": "bottega-starter-1/lora",
        "modelspec.implementation": "diffusers",
        "modelspec.title": "Tiny",
        "modelspec.resolution": "64x64",
        "modelspec.prediction_type": "epsilon",
        "modelspec.trigger_phrase": "brushwork",
        "modelspec.encoder_layer": "1",
    }
    assert {name: facts.get(name) for name in expected} == expected
    assert json.loads(facts["bottega_params"]) == job.params.model_dump()
    assert json.loads(facts["ss_network_args"]) == {"conv_dim": 2, "conv_alpha": 1.0}
    assert facts["ss_optimizer"].startswith("torch.optim.adamw.AdamW(weight_decay=0.01")
    assert float(facts["ss_training_started_at"]) < float(facts["ss_training_finished_at"])
    tags = json.loads(facts["ss_tag_frequency"])["1_tiny"]
    assert tags["brushwork"] == 4
    assert (tags["day"], tags["red house"]) == (2, 1)
    assert json.loads(facts["ss_dataset_dirs"]) == {"1_tiny": {"n_repeats": 1, "img_count": 4}}
    buckets = json.loads(facts["ss_bucket_info"])["buckets"]
    assert sum(bucket["count"] for bucket in buckets.values()) == 4
    assert [64, 64] in [bucket["resolution"] for bucket in buckets.values()]
    assert len(buckets) == 2


def test_checkpoint_and_vae_of_single_files_are_named_with_all_their_hashes(tmp_path: Path) -> None:
    contents = {"base.safetensors": bytes(range(256)) * 5000, "vae.safetensors": b"vae" * 400_000}
    blobs, files = {}, {}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        blobs[name] = BlobRef(sha256=digest, size=len(content), name=name)
        files[digest] = tmp_path / name
    pictures = tiny_pictures(tmp_path, 1)
    base = CheckpointRef(
        file=blobs["base.safetensors"], vae=blobs["vae.safetensors"], format="SafeTensor", family="sdxl",
        name="Base of mine", base_model="Pony",
    )  # fmt: skip
    job = tiny_job(pictures, base=base)
    moment = Moment(epoch=1, step=1, started_at=0.0, finished_at=1.0, prediction_type="v_prediction")
    examples = load_examples(job, {job.items[0].file.sha256: pictures[0]}, 8, Draws(0))
    spec = catalog.specs()["sdxl"]
    facts = training_metadata(spec, job, examples, moment, short_hashes(job, files))
    expected = {"ss_base_model_version": "sdxl_base_v1-0", "ss_v2": "False"}
    for name, kind in (("base.safetensors", "sd_model"), ("vae.safetensors", "vae")):
        content = contents[name]
        expected |= {
            f"ss_{kind}_name": name,
            f"ss_{kind}_hash": hashlib.sha256(content[0x100000:0x110000]).hexdigest()[:8],
            f"ss_new_{kind}_hash": hashlib.sha256(content).hexdigest(),
        }
    assert {name: facts.get(name) for name in expected} == expected
    spec_facts = model_spec(spec, job, moment, "ab" * 32)
    assert spec_facts["modelspec.prediction_type"] == "v"
    assert spec_facts["modelspec.architecture"] == "stable-diffusion-xl-v1-base/lora"
    assert short_hashes(job, {blobs["base.safetensors"].sha256: tmp_path}) == {}  # a folder has none


def test_the_header_stays_small_enough_for_comfyui(tmp_path: Path) -> None:
    """Every layer of SDXL, as many tags as are kept, and a thumbnail; with more than that, less is said."""
    modules = [f"model.{name}" for name in ARCHITECTURES["sdxl"].unet.modules() if "norm" not in name]
    modules += [f"text_encoder_2.{name}" for name in text_modules(44) if ".layers." in name]
    tensors = {
        f"{sdxl_name(module)}.{part}": torch.zeros(1)
        for module in modules
        for part in ("lora_down.weight", "lora_up.weight", "alpha")
    }
    assert len(modules) > 722 + 6 * 44
    (path,) = tiny_pictures(tmp_path, 1)
    item: Any = None
    label = ", ".join(f"tag {number}" for number in range(50_000))
    counts = tag_counts([Example(0, item, path, place(64, 64, [(64, 64)]), (label,), held_out=False, clip=0)])
    moment = Moment(1, 1, 0.0, 1.0, "epsilon", thumbnail=path)
    job, family = tiny_job([path]), catalog.load("sdxl")
    facts = {"ss_tag_frequency": json.dumps({"1_tiny": counts}), "ss_seed": "1"}
    content = serialise(tensors, facts, family, job, moment)
    header = json.loads(content[8 : 8 + header_length(content)])["__metadata__"]
    assert header_length(content) < 2**20
    assert {"ss_tag_frequency", "modelspec.thumbnail", "sshs_model_hash"} <= header.keys()
    room, picture = 2**20 - header_length(content), len(header["modelspec.thumbnail"])
    for more, lost in (
        (room, {"modelspec.thumbnail"}),
        (room + picture + 100, {"modelspec.thumbnail", "ss_tag_frequency"}),
    ):
        content = serialise(tensors, facts | {"ss_training_comment": "x" * more}, family, job, moment)
        assert header_length(content) <= 2**20
        fewer = json.loads(content[8 : 8 + header_length(content)])["__metadata__"]
        assert header.keys() - fewer.keys() == lost


def test_counts_agree_where_pictures_are_kept_out(tmp_path: Path) -> None:
    """Folders, buckets and the total count the same pictures; the one for measuring is told apart."""
    pictures = tiny_pictures(tmp_path, 9, ((64, 64), (120, 60)))
    job = tiny_job(
        pictures, repeats=3, trigger_word="brushwork", shuffle_tags=True, keep_tokens=2, output_name="nine"
    )
    files = {item.file.sha256: path for item, path in zip(job.items, pictures, strict=True)}
    moment = Moment(epoch=1, step=1, started_at=0.0, finished_at=1.0, prediction_type="epsilon")
    examples = load_examples(job, files, 8, Draws(0))
    facts = training_metadata(catalog.specs()["starter"], job, examples, moment, {})
    (folder,) = json.loads(facts["ss_dataset_dirs"]).values()
    assert folder == {"n_repeats": 3, "img_count": 8}
    assert facts["ss_num_train_images"] == "24"
    assert facts["ss_num_validation_images"] == "1"
    assert sum(b["count"] for b in json.loads(facts["ss_bucket_info"])["buckets"].values()) == 24
    assert facts["ss_keep_tokens"] == "3"  # the trigger word stays in front too


def test_the_first_sample_is_the_thumbnail(last: tuple[Path, Checkpoint]) -> None:
    address = metadata_of(last[0])["modelspec.thumbnail"]
    kind, _, data = address.partition(";base64,")
    assert kind == "data:image/jpeg"
    with Image.open(BytesIO(b64decode(data))) as picture:
        assert picture.size == (256, 256)


def test_half_a_size_where_training_was_in_bf16(run_tiny: Callable[..., Trained]) -> None:
    _, reporter, out = run_tiny(precision="bf16", epochs=1)
    (event,) = [event for event in reporter.events if isinstance(event, Checkpoint)]
    tensors = load_file(out / event.path)
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float16}
    assert any(delta.any() for delta in merged_deltas(tensors).values())


def test_tag_counts_stay_small(tmp_path: Path) -> None:
    (path,) = tiny_pictures(tmp_path, 1)
    label = ", ".join(f"a tag with a rather long name, number {number}" for number in range(20_000))
    item: Any = None
    example = Example(0, item, path, place(64, 64, [(64, 64)]), (label,), held_out=False, clip=0)
    counts = tag_counts([example, example])
    assert len(json.dumps(counts)) <= TAG_BYTES
    assert counts["a tag with a rather long name"] == 2
