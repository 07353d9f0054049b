"""What a finished adapter says about itself: sd-scripts' `ss_*` keys and ModelSpec's `modelspec.*`.

Other programs read trigger words, base model, date and sizes from here, so every value is true of
this run. All values are text, as safetensors demands; lists and objects are JSON. The header has to
stay below 1 MiB (ComfyUI shows nothing of a larger one), so the tag counts are cut to the commonest.
"""

import base64
import hashlib
import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from PIL import Image

from app.contract.family import FamilySpec
from app.contract.jobs import TrainJob
from worker.families.resolve import epoch_ends, steps_for
from worker.inference.infotext import bottega_version
from worker.training.captions import kept_in_front, split_tags
from worker.training.dataset import Example
from worker.training.optim import MAX_GRAD_NORM, describe_optimizer, warmup_steps

SOFTWARE = "Bottega"
TAG_BYTES = 300 * 1024
THUMBNAIL_SIDE = 256
MODULES = {"wan": "networks.lora_wan"}
"""What musubi-tuner calls its LoRA, by `ss_base_model_version`."""


@dataclass(frozen=True)
class Moment:
    """Where the run stands when a file is written. Times are Unix seconds."""

    epoch: int
    step: int
    started_at: float
    finished_at: float
    prediction_type: str
    zero_terminal_snr: bool = False
    thumbnail: Path | None = None


def training_metadata(
    spec: FamilySpec,
    job: TrainJob,
    examples: Sequence[Example],
    moment: Moment,
    short_hashes: Mapping[str, str],
) -> dict[str, str]:
    """All `ss_*` keys, and the settings as they were resolved.

    `short_hashes` has AutoV1 by sha256 of the checkpoint and the VAE, where they are single files.
    """
    facts = (
        _identity(job, moment)
        | _base(spec, job, short_hashes)
        | _optimisation(job)
        | _network(job, MODULES.get(spec.ss_base_model_version, "networks.lora"))
        | (_flow(job, examples) if spec.clips else _noise(job, moment))
        | _loss(job)
        | (_clips(job, examples) if spec.clips else _pictures(job, examples))
        | {"bottega_type": job.type, "bottega_params": job.params.model_dump_json()}
        | ({"bottega_base_weights": "int8"} if job.quantised else {})
    )
    return {name: value if isinstance(value, str) else str(value) for name, value in facts.items()}


def model_spec(spec: FamilySpec, job: TrainJob, moment: Moment, tensor_sha256: str) -> dict[str, str]:
    """ModelSpec 1.0.1 keys of a LoRA; `tensor_sha256` is the hash of all bytes after the header."""
    side = job.params.resolution
    facts = {
        "sai_model_spec": "1.0.1",
        "architecture": spec.modelspec_architecture,
        "implementation": spec.modelspec_implementation,
        "implementation_version": f"{SOFTWARE} v{bottega_version()}",
        "title": job.name,
        "description": f"{job.type.capitalize()} LoRA for {job.base.base_model}, {_amount(job)}.",
        "date": datetime.fromtimestamp(int(moment.finished_at), UTC).isoformat(),
        "resolution": f"{side}x{side}",
        "tags": job.type,
        "hash_sha256": f"0x{tensor_sha256}",
    }
    if spec.clips is None:
        facts["prediction_type"] = "v" if moment.prediction_type == "v_prediction" else "epsilon"
        facts["encoder_layer"] = str(job.params.clip_skip)
    if job.trigger_word.strip():
        facts["trigger_phrase"] = job.trigger_word.strip()
        facts["usage_hint"] = f"Put “{job.trigger_word.strip()}” into the prompt."
    if moment.thumbnail is not None:
        facts["thumbnail"] = thumbnail(moment.thumbnail)
    return {f"modelspec.{name}": value for name, value in facts.items()}


def thumbnail(picture: Path) -> str:
    """A data address with a JPEG of 256 pixels a side, as ModelSpec wants it."""
    with Image.open(picture) as opened:
        small = opened.convert("RGB").resize((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.LANCZOS)
    packed = io.BytesIO()
    small.save(packed, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(packed.getvalue()).decode()


def _identity(job: TrainJob, moment: Moment) -> dict[str, Any]:
    digest = hashlib.sha256(f"{job.model_dump_json()}/{moment.started_at}".encode()).digest()
    return {
        "ss_session_id": int.from_bytes(digest[:4], "big"),
        "ss_training_started_at": moment.started_at,
        "ss_training_finished_at": moment.finished_at,
        "ss_output_name": job.output_name,
        "ss_training_comment": f"{job.name} ({job.type}), trained with {SOFTWARE}",
        "ss_steps": moment.step,
        "ss_epoch": moment.epoch,
    }


def _base(spec: FamilySpec, job: TrainJob, short_hashes: Mapping[str, str]) -> dict[str, Any]:
    file, vae = job.base.file, job.base.vae
    facts: dict[str, Any] = {
        "ss_sd_model_name": file.name,
        "ss_sd_model_hash": short_hashes.get(file.sha256),
        "ss_new_sd_model_hash": file.sha256,
    }
    if vae:
        facts |= {
            "ss_vae_name": vae.name,
            "ss_vae_hash": short_hashes.get(vae.sha256),
            "ss_new_vae_hash": vae.sha256,
        }
    return {name: value for name, value in facts.items() if value} | {
        "ss_base_model_version": spec.ss_base_model_version,
        "ss_v2": "False",
        "ss_clip_skip": job.params.clip_skip,
        "ss_max_token_length": spec.token_limit,
        "ss_cache_latents": True,
    }


def _optimisation(job: TrainJob) -> dict[str, Any]:
    p = job.params
    steps = steps_for(p, len(job.items))
    return {
        "ss_learning_rate": p.unet_lr,
        "ss_unet_lr": p.unet_lr,
        "ss_text_encoder_lr": p.text_encoder_lr or None,
        "ss_lr_scheduler": p.lr_scheduler,
        "ss_lr_warmup_steps": warmup_steps(p, steps),
        "ss_lr_scheduler_num_cycles": p.lr_cycles,
        "ss_optimizer": describe_optimizer(p),
        "ss_max_grad_norm": MAX_GRAD_NORM,
        "ss_gradient_accumulation_steps": p.gradient_accumulation,
        "ss_gradient_checkpointing": p.gradient_checkpointing,
        "ss_mixed_precision": "bf16" if p.precision == "bf16" else "no",
        "ss_full_fp16": False,
        "ss_fp8_base": False,
        "ss_fp8_base_unet": False,
        "ss_seed": p.seed,
        "ss_lowram": False,
        "ss_num_epochs": p.epochs,
        "ss_max_train_steps": steps,
    }


def _network(job: TrainJob, module: str) -> dict[str, Any]:
    p = job.params
    convolutions = {"conv_dim": p.conv_dim, "conv_alpha": p.conv_alpha} if p.conv_dim else {}
    return {
        "ss_network_module": module,
        "ss_network_dim": p.network_dim,
        "ss_network_alpha": p.network_alpha,
        "ss_network_dropout": None,
        "ss_network_args": json.dumps(convolutions),
        "ss_scale_weight_norms": None,
    }


def _loss(job: TrainJob) -> dict[str, Any]:
    p = job.params
    return {
        "ss_prior_loss_weight": 1.0,
        "ss_loss_type": "l2",
        "ss_caption_dropout_rate": p.caption_dropout,
        "ss_caption_dropout_every_n_epochs": 0,
        "ss_caption_tag_dropout_rate": 0.0,
        "ss_resize_interpolation": "lanczos",
    }


def _noise(job: TrainJob, moment: Moment) -> dict[str, Any]:
    """What only a noise schedule has."""
    p = job.params
    unused = (
        "noise_offset_random_strength", "ip_noise_gamma_random_strength",
        "debiased_estimation",
    )  # fmt: skip
    absent = (
        "multires_noise_iterations", "multires_noise_discount", "adaptive_noise_scale", "ip_noise_gamma",
        "huber_schedule", "huber_scale", "huber_c", "face_crop_aug_range",
    )  # fmt: skip
    return {
        "ss_noise_offset": p.noise_offset or None,
        "ss_min_snr_gamma": p.min_snr_gamma or None,
        "ss_zero_terminal_snr": moment.zero_terminal_snr,
        **{f"ss_{name}": False for name in unused},
        **{f"ss_{name}": None for name in absent},
    }


def _flow(job: TrainJob, examples: Sequence[Example]) -> dict[str, Any]:
    """What musubi-tuner says of a flow, in its words: `shift` draws levels by the logistic normal."""
    p = job.params
    return {
        "ss_timestep_sampling": "shift" if p.timestep_density == "logit_normal" else "uniform",
        "ss_weighting_scheme": "none",
        "ss_sigmoid_scale": 1.0,
        "ss_logit_mean": 0.0,
        "ss_logit_std": 1.0,
        "ss_mode_scale": None,
        "ss_guidance_scale": None,
        "ss_discrete_flow_shift": p.flow_shift,
        "ss_num_train_items": len([e for e in examples if not e.held_out]),
        "ss_num_validation_items": len([e for e in examples if e.held_out]),
        "ss_full_bf16": p.precision == "bf16",
    }


def _pictures(job: TrainJob, examples: Sequence[Example]) -> dict[str, Any]:
    """The set as sd-scripts' folder mode describes it: one folder `<repeats>_<name>`."""
    p = job.params
    trained = [example for example in examples if not example.held_out]
    folder = f"{p.repeats}_{job.output_name}"
    sides = [side for example in trained for side in example.placement.bucket]
    epochs = epoch_ends(p, len(job.items))
    return {
        "ss_num_train_images": len(trained) * p.repeats,
        "ss_num_validation_images": len(examples) - len(trained),
        "ss_num_reg_images": 0,
        "ss_num_batches_per_epoch": max(1, round(max(epochs.values()) * p.gradient_accumulation / p.epochs)),
        "ss_batch_size_per_device": p.batch_size,
        "ss_total_batch_size": p.batch_size,
        "ss_resolution": str((p.resolution, p.resolution)),
        "ss_color_aug": False,
        "ss_flip_aug": p.flip,
        "ss_random_crop": False,
        "ss_shuffle_caption": p.shuffle_tags,
        "ss_keep_tokens": kept_in_front(p.keep_tokens, job.trigger_word) if p.shuffle_tags else 0,
        "ss_enable_bucket": p.enable_bucket,
        "ss_bucket_no_upscale": False,
        "ss_min_bucket_reso": min(sides),
        "ss_max_bucket_reso": max(sides),
        "ss_dataset_dirs": json.dumps({folder: {"n_repeats": p.repeats, "img_count": len(trained)}}),
        "ss_reg_dataset_dirs": "{}",
        "ss_tag_frequency": json.dumps({folder: tag_counts(trained)}, ensure_ascii=False),
        "ss_bucket_info": json.dumps(_buckets(trained, p.repeats)),
        "ss_validation_seed": p.seed,
        "ss_validation_split": round(1 - len(trained) / len(examples), 6),
        "ss_max_validation_steps": None,
        "ss_validate_every_n_epochs": 1 if len(trained) < len(examples) else None,
        "ss_validate_every_n_steps": None,
    }


def _clips(job: TrainJob, examples: Sequence[Example]) -> dict[str, Any]:
    """The set as musubi-tuner describes it: one of `ss_datasets`."""
    p = job.params
    trained = [example for example in examples if not example.held_out]
    return {
        "ss_batch_size_per_device": p.batch_size,
        "ss_total_batch_size": p.batch_size,
        "ss_resolution": str((p.resolution, p.resolution)),
        "ss_flip_aug": p.flip,
        "ss_shuffle_caption": p.shuffle_tags,
        "ss_keep_tokens": kept_in_front(p.keep_tokens, job.trigger_word) if p.shuffle_tags else 0,
        "ss_enable_bucket": p.enable_bucket,
        "ss_datasets": json.dumps(
            [
                {
                    "is_video_dataset": True,
                    "batch_size": p.batch_size,
                    "num_repeats": p.repeats,
                    "enable_bucket": p.enable_bucket,
                    "bucket_no_upscale": False,
                    "resolution": [p.resolution, p.resolution],
                    "target_frames": sorted({len(example.shown) for example in trained}),
                    "frame_extraction": p.clip_windows,
                    "buckets": {
                        " × ".join(map(str, bucket)): count
                        for bucket, count in sorted(Counter(e.bucket for e in trained).items())
                    },
                }
            ],
            ensure_ascii=False,
        ),
        "ss_tag_frequency": json.dumps(
            {f"{p.repeats}_{job.output_name}": tag_counts(trained)}, ensure_ascii=False
        ),
    }


def _amount(job: TrainJob) -> str:
    """How much it was trained on, in words."""
    clips = sum(item.frames > 1 for item in job.items)
    pictures = len(job.items) - clips
    told = [(clips, "clip"), (pictures, "picture")]
    return " and ".join(f"{count} {word}{'s' if count > 1 else ''}" for count, word in told if count)


def tag_counts(examples: Sequence[Example]) -> dict[str, int]:
    """In how many pictures each tag occurs, lower case, commonest first, cut to `TAG_BYTES`."""
    counts = Counter(
        tag for example in examples for tag in dict.fromkeys(split_tags(example.caption.lower()))
    )
    kept: dict[str, int] = {}
    size = 0
    for tag, count in counts.most_common():
        size += len(json.dumps(tag)) + 12
        if size > TAG_BYTES:
            break
        kept[tag] = count
    return kept


def _buckets(examples: Sequence[Example], repeats: int) -> dict[str, Any]:
    counts = Counter(example.placement.bucket for example in examples)
    errors = [
        abs(e.item.width / e.item.height - e.placement.bucket[0] / e.placement.bucket[1]) for e in examples
    ]
    return {
        "buckets": {
            str(index): {"resolution": list(size), "count": counts[size] * repeats}
            for index, size in enumerate(sorted(counts))
        },
        "mean_img_ar_error": sum(errors) / len(errors),
    }
