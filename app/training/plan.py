"""From a submitted body to the job that a worker gets: settings, snapshot, prompts, figures.

Every default is filled in here, once, so that the dry run, the form and the job agree.
"""

import os
import re
import unicodedata
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.accounts.models import User
from app.contract.clips import legal_length
from app.contract.family import FamilySpec
from app.contract.jobs import CheckpointRef, SamplePrompt, TrainItem, TrainJob, TrainParams
from app.core.config import get_settings
from app.core.errors import FieldError, Invalid
from app.datasets import service as datasets
from app.gallery.queries import get_version_by_hash
from app.gallery.refs import checkpoint_ref, get_version
from app.jobs import service as jobs
from app.jobs import workers
from app.jobs.models import Job
from app.training.cutting import plan_cut
from app.training.earlier import Earlier, find_earlier
from app.training.memory import CALIBRATED_WITH, plan_memory
from app.training.models import TrainingRun
from app.training.schemas import BaseIn, MemoryPlan, SamplePromptIn, TrainingIn, TrainingPlan, Warned
from worker.families import catalog
from worker.families.resolve import ParamErrors, resolve_params, samples_seen, steps_for

AIR = re.compile(r"^urn:air:[^:]+:[^:]+:(?:civitai|bottega):(\d{1,9})@(\d{1,9})$")
COMMON_WORDS = {
    "person", "man", "woman", "girl", "boy", "dog", "cat", "house", "town", "tree", "street", "style", "art",
    "photo", "picture", "painting", "landscape", "portrait", "face", "car", "city", "flower", "sky",
}  # fmt: skip
NOUNS = {"image": ("picture", "15 to 30"), "video": ("clip", "5 to 20")}
"""What a set holds, and how many of them are best."""
ENOUGH = {"image": 10, "video": 5}
SAMPLES = {"image": 3, "video": 2}
"""Sample prompts that are proposed and shown in the form, by what the set holds."""
LONG_ENOUGH = 10
"""A finished run tells the time of one that is up to so many times longer."""


@dataclass(frozen=True)
class Planned:
    """A training that could start now."""

    job: TrainJob
    spec: FamilySpec
    media: str
    """What the set holds: `image` or `video`."""
    steps: int
    warnings: list[Warned]
    memory: MemoryPlan | None
    owner: int
    """Id of the user: how many jobs come before it depends on whose it is."""


def plan_training(db: Session, user: User, body: TrainingIn) -> Planned:
    """Resolve everything. Errors: Invalid with one entry a wrong field, NotFound for set or base."""
    dataset = datasets.get_dataset(db, user, body.dataset)
    base = find_base(db, user, body.base)
    spec = family_spec(base)
    datasets.check_trainable(dataset, spec)
    items = tuple(datasets.snapshot(db, user, body.dataset))
    _check_items(items, body, dataset.media)
    earlier = find_earlier(db, user, body.continue_from, base)
    params = _params(spec, body, len(items), dataset.label_type, earlier)
    prompts = body.sample_prompts
    if prompts is None:
        prompts = default_prompts(items, body.trigger_word, SAMPLES[dataset.media])
    frames = _sample_frames(spec, params, items)
    job = TrainJob(
        name=body.name.strip(),
        output_name=file_stem(body.name),
        type=body.type,
        base=base,
        items=items,
        label_type=dataset.label_type,
        trigger_word=body.trigger_word.strip(),
        params=params,
        sample_prompts=tuple(_prompt(p, spec, frames) for p in prompts),
        continue_from=earlier.file if earlier else None,
        continue_low_noise=earlier.low_noise if earlier else None,
        threads=threads(),
    )
    job, memory = plan_memory(db, spec, job, fixed=chosen(body))
    return Planned(
        job=job,
        spec=spec,
        media=dataset.media,
        steps=steps_for(job.params, len(items)),
        warnings=_warnings(job, dataset.media),
        memory=memory,
        owner=user.id,
    )


def check_settings(db: Session, user: User, body: TrainingIn, images: int) -> FamilySpec:
    """What can be known of a training before its pictures are there; `images` is how many are announced.

    Errors: as plan_training, but for those of the set.
    """
    base = find_base(db, user, body.base)
    spec = family_spec(base)
    earlier = find_earlier(db, user, body.continue_from, base)
    _params(spec, body, images, datasets.LABEL_TYPES[0], earlier)
    for prompt in body.sample_prompts or ():
        _prompt(prompt, spec)
    return spec


def chosen(body: TrainingIn) -> set[str]:
    """Settings that somebody chose: they are never changed to make a training fit."""
    return {name for name, value in body.params.items() if value is not None and value != ""}


def threads() -> int:
    """torch threads of a job: part of the job, because results to the bit depend on it."""
    return get_settings().queue.threads or os.cpu_count() or 1


def find_base(db: Session, user: User, base: BaseIn) -> CheckpointRef:
    """The checkpoint that `base` names, with its parts. Errors: NotFound or Invalid with the reason."""
    try:
        return checkpoint_ref(
            db, user, _base_version(db, user, base), vae_version_id=base.vae_version_id,
            text_encoder_version_id=base.text_encoder_version_id,
        )  # fmt: skip
    except Invalid as error:
        within = [FieldError(f"#/base{e.pointer[1:]}", e.detail, e.code) for e in error.errors]
        raise Invalid(error.detail, within, code=error.code) from error


def _base_version(db: Session, user: User, base: BaseIn) -> int:
    if base.model_version_id is not None:
        return base.model_version_id
    if base.air is not None:
        match = AIR.match(base.air)
        if match is None:
            raise Invalid("That is not an AIR of this site.", [FieldError("#/air", "not an AIR", "air")])
        if get_version(db, user, int(match[2])).model_id != int(match[1]):
            words = "The model and the version of this AIR do not belong together."
            raise Invalid(words, [FieldError("#/air", words, "air")])
        return int(match[2])
    return get_version_by_hash(db, user, base.file_sha256 or "").id


def family_spec(base: CheckpointRef) -> FamilySpec:
    spec = catalog.specs().get(base.family)
    if spec is None:
        raise Invalid(
            f"{base.name} ({base.base_model}) cannot be trained here yet. Choose another base.",
            [FieldError("#/base", "cannot be trained here", "base-model-unsupported")],
            code="base-model-unsupported",
        )
    return spec


def file_stem(name: str) -> str:
    """A file name that every tool takes: only letters, digits, `_`, `.` and `-`."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    stem = re.sub(r"[^A-Za-z0-9_.-]+", "_", plain.strip()).strip("._-")
    return stem[:60] or "lora"


def default_prompts(items: tuple[TrainItem, ...], trigger: str, count: int = 3) -> list[SamplePromptIn]:
    """Prompts from labels spread over the set, the trigger word first."""
    labels = [i.label.strip() for i in items if i.label.strip()] or [""]
    spread = [labels[(len(labels) * n) // count] for n in range(min(count, len(labels)))]
    prompts = [", ".join(part for part in (trigger.strip(), label) if part) for label in spread]
    return [SamplePromptIn(prompt=p[:2000], seed=n + 1) for n, p in enumerate(prompts) if p]


def _sample_frames(spec: FamilySpec, params: TrainParams, items: tuple[TrainItem, ...]) -> int:
    """Length of a sample unless one is given: what is trained on; a picture where there are only pictures."""
    if spec.clips is None or all(item.frames == 1 for item in items):
        return 1
    return min(spec.clips.length, params.clip_frames)


def _prompt(prompt: SamplePromptIn, spec: FamilySpec, frames: int = 1) -> SamplePrompt:
    return SamplePrompt(
        prompt=prompt.prompt,
        negative_prompt=spec.sample_negative_prompt
        if prompt.negative_prompt is None
        else prompt.negative_prompt,
        seed=1 if prompt.seed is None else prompt.seed,
        width=_side(prompt.width or spec.generation.width, spec),
        height=_side(prompt.height or spec.generation.height, spec),
        frames=_frames(prompt.frames or frames, spec),
    )


def _frames(frames: int, spec: FamilySpec) -> int:
    """Errors: Invalid with the nearest length that the family can draw."""
    if frames == 1:
        return 1
    if spec.clips is None:
        words = f"{spec.title} draws pictures. Leave the frames of a sample out."
        raise Invalid(words, [FieldError("#/sample_prompts", f"{frames} is not possible", "frames")])
    near = min(spec.clips.max_length, legal_length(frames, spec.clips.rule))
    if frames != near:
        rule, most = spec.clips.rule, spec.clips.max_length
        words = (
            f"Sample clips have a multiple of {rule.step} and 1 frames, {most} at most: {near}, for example."
        )
        raise Invalid(words, [FieldError("#/sample_prompts", f"{frames} is not possible", "frames")])
    return frames


def _side(pixels: int, spec: FamilySpec) -> int:
    limits = spec.generation
    if pixels % limits.multiple or not limits.min_side <= pixels <= limits.max_side:
        raise Invalid(
            f"Sample pictures need sides of {limits.min_side} to {limits.max_side} pixels, "
            f"in steps of {limits.multiple}.",
            [FieldError("#/sample_prompts", f"{pixels} is not possible", "size")],
        )
    return pixels


def _check_items(items: tuple[TrainItem, ...], body: TrainingIn, media: str) -> None:
    noun, best = NOUNS[media]
    if len(items) < 3:
        raise Invalid(
            f"Add at least 3 {noun}s; this set has {len(items)}. {best} work best.",
            [FieldError("#/dataset", f"too few {noun}s", "dataset-too-small")],
            code="dataset-empty" if not items else "dataset-too-small",
        )
    if not body.trigger_word.strip() and not any(item.label.strip() for item in items):
        raise Invalid(
            f"No {noun} has a label and there is no trigger word, so nothing could be learned by name. "
            f"Label the {noun}s or give a trigger word.",
            [FieldError("#/trigger_word", "needed for a set without labels", "dataset-unlabeled")],
            code="dataset-unlabeled",
        )


def _params(
    spec: FamilySpec, body: TrainingIn, images: int, label_type: str, earlier: Earlier | None
) -> TrainParams:
    given = earlier.fill(body.params) if earlier else body.params
    try:
        params = resolve_params(spec, body.type, body.preset, images, given, label_type=label_type)
    except ParamErrors as error:
        fields = [FieldError(f"#/params/{e.field}", e.message, "out-of-range") for e in error.errors]
        words = " ".join(
            f"{spec.params[e.field].label if e.field in spec.params else e.field}: {e.message}"
            for e in error.errors
        )
        raise Invalid(words, fields) from error
    if earlier:
        earlier.check(params)
    return params


def _warnings(job: TrainJob, media: str) -> list[Warned]:
    """Advice that stops nothing."""
    noun, best = NOUNS[media]
    count, side = len(job.items), job.params.resolution
    unlabelled = sum(not item.label.strip() for item in job.items)
    small = sum(item.width * item.height < side**2 / 2 for item in job.items)
    advice = [
        (unlabelled, "dataset-unlabeled", f"{unlabelled} of {count} {noun}s have no label."),
        (
            count < ENOUGH[media],
            "few-pictures",
            f"{count} {noun}s work, but the result is likely stiff. {best} are best.",
        ),
        (
            job.trigger_word.lower() in COMMON_WORDS,
            "common-trigger",
            f"“{job.trigger_word}” is a word that the model already knows. A made-up word works better.",
        ),
        (small, "small-pictures", f"{small} {noun}s are smaller than the {side} pixels of the training."),
    ]
    return [Warned(code=code, detail=words) for applies, code, words in advice if applies]


def describe_plan(db: Session, planned: Planned) -> TrainingPlan:
    eta, basis = estimate(db, planned)
    return TrainingPlan(
        steps=planned.steps,
        samples_seen=samples_seen(planned.job.params, len(planned.job.items)),
        eta_seconds=eta,
        eta_basis=basis,
        memory_bytes=planned.memory.needed_bytes if planned.memory else None,
        memory=planned.memory,
        cut=plan_cut(planned.spec, planned.job.params, planned.job.items),
        disk_bytes=_disk(planned),
        queue_position=jobs.count_ahead(db, planned.owner, "train"),
        params=planned.job.params.model_dump(),
        warnings=planned.warnings,
    )


def estimate(db: Session, planned: Planned) -> tuple[float | None, Any]:
    """(seconds, basis): from finished runs of this family, else from three timed steps, else nothing.

    Starting and sampling take their time however few the steps are, so a long run says more of a step
    than a short one, and runs far shorter than the planned one count only where nothing else is known.
    """
    work = work_of(planned.job, planned.steps)
    runs = [h for h in _history(db, planned.spec.name) if h.get("run_seconds") and h.get("work")]
    enough = [h for h in runs if h["work"] * LONG_ENOUGH >= work]
    seconds = _measured(db, planned, "seconds_per_step")
    if enough or (runs and not seconds):
        counted = enough or runs
        pace = sum(h["run_seconds"] for h in counted) / sum(h["work"] for h in counted)
        return round(pace * work, 1), "history"
    if seconds:
        timed = resolve_params(planned.spec, "style", "normal", CALIBRATED_WITH, {})
        return round(seconds * work / _step_cost(timed, timed.clip_frames), 1), "calibration"
    return None, None


def _measured(db: Session, planned: Planned, name: str) -> Any:
    """What a worker's three timed steps told of this family, None without."""
    return (workers.measured(db, [name]).get(name) or {}).get(planned.spec.name)


def _step_cost(params: TrainParams, frames: int) -> float:
    """Work of one step in pixels of all its frames: what time grows with."""
    return float(params.batch_size * params.gradient_accumulation * params.resolution**2 * frames)


def work_of(job: TrainJob, steps: int) -> float:
    """Kept with a finished run, so that later runs can be estimated from it."""
    clips = any(item.frames > 1 for item in job.items)
    return steps * _step_cost(job.params, job.params.clip_frames if clips else 1)


def _history(db: Session, family: str) -> list[dict[str, Any]]:
    query = (
        select(Job.metrics)
        .join(TrainingRun, TrainingRun.job_id == Job.id)
        .where(TrainingRun.family == family, Job.status == "succeeded")
        .order_by(Job.seq.desc())
        .limit(5)
    )
    return list(db.scalars(query))


def _disk(planned: Planned) -> int:
    """Adapters and samples, about: 16-bit weights times a size that the rank gives, for each expert."""
    params, clips = planned.job.params, planned.spec.clips
    experts = 2 if clips and clips.experts else 1
    return params.epochs * (params.network_dim * 100_000 * experts + 60_000 * len(planned.job.sample_prompts))
