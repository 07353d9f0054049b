"""Every family of the catalogue, on a tiny random checkpoint: load, encode, learn, export, sample."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from app.contract.events import Checkpoint, Sample
from app.contract.jobs import TrainJob
from tests.worker.tiny import tiny_base, tiny_files, tiny_job, tiny_pictures
from tests.worker.tiny_clips import clip_job, tiny_clips
from tests.worker.training.conftest import merged_deltas
from worker.draws import Draws
from worker.families import catalog
from worker.families.base import Batch, Family, Parts
from worker.inference.lora_files import LoraSwitch, LoraUse
from worker.reporter import NullReporter
from worker.training.lora import inject
from worker.training.recipe import train

CPU = torch.device("cpu")
BEHIND_WHAT_SDXL_READS = "lora_te1_text_model_encoder_layers_2_"


@pytest.fixture(params=list(catalog.specs()), scope="module")
def family(request: pytest.FixtureRequest) -> Family:
    return catalog.load(request.param)


@pytest.fixture(scope="module")
def base(family: Family, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_base(tmp_path_factory.mktemp("base"), family.spec.name)


def test_load_and_encode(family: Family, base: Path) -> None:
    parts = family.load(base, CPU, torch.float32)
    assert not any(tensor.requires_grad for tensor in parts.model.parameters())
    factor = family.latent_factor(parts)
    time, latent_time = frames_of(family, 1)
    mean, std = family.encode_images(parts, torch.zeros(2, 3, *time, 64, 32))
    channels = parts.model.config.in_channels
    assert mean.shape == std.shape == (2, channels, *latent_time, 64 // factor, 32 // factor)
    assert bool((std > 0).all())
    assert family.count_tokens(parts, "a house") < family.count_tokens(parts, "a house, a tree")
    if family.spec.clips:
        check_texts_of_clips(family, parts)
        return
    layers = parts.text_encoder.config.num_hidden_layers
    last, skipped = (family.encode_captions(parts, ["a house", ""], skip, live=False) for skip in (1, layers))
    assert last.keys() == skipped.keys()
    for tensor in last.values():
        assert len(tensor) == 2
        assert not torch.equal(tensor[0], tensor[1])
    assert not torch.equal(last["embeddings"], skipped["embeddings"])
    live = family.encode_captions(parts, ["a house"], 1, live=True)
    assert live.keys() != last.keys()
    with pytest.raises(ValueError, match="smaller"):
        family.encode_captions(parts, ["a"], 9, live=False)


def check_texts_of_clips(family: Family, parts: Parts) -> None:
    """One encoder that never learns; what stands behind a text's end says nothing."""
    cond = family.encode_captions(parts, ["a house", "", "  a\n house "], 1, live=False)
    embeddings = cond["embeddings"]
    assert embeddings.shape == (3, parts.tokenizer.model_max_length, embeddings.shape[-1])
    assert not torch.equal(embeddings[0], embeddings[1])
    assert torch.equal(embeddings[0], embeddings[2])
    for wrong in ({"clip_skip": 2, "live": False}, {"clip_skip": 1, "live": True}):
        with pytest.raises(ValueError, match="not trained"):
            family.encode_captions(parts, ["a"], **wrong)


def frames_of(family: Family, steps: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Frames of a short clip and of its latents, as parts of a shape: nothing for families of pictures."""
    clips = family.spec.clips
    return ((1 + steps * clips.rule.step,), (1 + steps,)) if clips else ((), ())


def test_the_loss_falls(family: Family, base: Path) -> None:
    parts = family.load(base, CPU, torch.float32)
    params = tiny_job(tiny_pictures(base / "pictures", 1)).params
    adapter = inject(parts, family.lora_targets(parts), params, Draws(0))
    parameters = [tensor for part in parts.networks for tensor in adapter.parameters(part)]
    optimizer = torch.optim.AdamW(parameters, lr=3e-3)
    time, _ = frames_of(family, 1)
    pixels = torch.rand(2, 3, *time, 32, 32, generator=torch.manual_seed(0)) * 2 - 1
    latents = family.encode_images(parts, pixels)
    batch = Batch(
        mean=latents.mean.clone(),
        std=None,
        cond={n: t.clone() for n, t in family.encode_captions(parts, ["a", "b"], 1, live=False).items()},
        keys=[(0,), (1,)],
        timesteps=torch.tensor([300, 900]),
    )
    losses = []
    for _ in range(12):
        loss = family.loss(parts, batch, Draws(1))
        assert loss.shape == (2,)
        losses.append(float(loss.detach().mean()))
        loss.mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    assert losses[-1] < losses[0] * 0.98


def test_train_export_reload_and_sample(family: Family, base: Path, tmp_path: Path) -> None:
    job, files = small_set(family, tmp_path)
    reporter = NullReporter()
    finished = train(job, family, tiny_files(base, files), tmp_path / "out", reporter)
    assert finished.outcome == "succeeded"
    (checkpoint,) = [event for event in reporter.events if isinstance(event, Checkpoint)]
    samples = [event for event in reporter.events if isinstance(event, Sample)]
    assert [sample.baseline for sample in samples] == [True, False]

    assert (checkpoint.low_noise is not None) == bool(family.spec.clips and family.spec.clips.experts)
    path = tmp_path / "out" / checkpoint.path
    after = reload(family, base, path, "model")
    if checkpoint.low_noise is not None:
        low = tmp_path / "out" / checkpoint.low_noise.path
        assert [file.stem for file in (path, low)] == ["tiny-000001_high_noise", "tiny-000001_low_noise"]
        reload(family, base, low, "model_2")
    if family.spec.clips:
        return
    warm = family.pipeline(base, torch.float32)
    assert LoraSwitch(warm).attach([LoraUse(path, "ab" * 32, "mine", 1.0, 1.0)]) == []
    for name, tensor in weights(warm).items():
        assert torch.allclose(tensor, after[name], atol=1e-5), name


def small_set(family: Family, folder: Path) -> tuple[TrainJob, list[Path]]:
    """A job over two pictures, or over a picture and two clips, and the set's files."""
    pictures = tiny_pictures(folder / "pictures", 2)
    if family.spec.clips:
        clips = tiny_clips(folder / "clips", 2)
        job = clip_job(family.spec.name, clips, pictures[:1], prompts=1, epochs=1, repeats=2)
        return job, [*clips, pictures[0]]
    side = max(64, family.spec.bucket_multiple)
    more = {"text_encoder_lr": 1e-3, "conv_dim": 2, "conv_alpha": 1.0, "resolution": side}
    return tiny_job(pictures, prompts=1, epochs=1, **more), pictures


def reload(family: Family, base: Path, path: Path, part: str) -> dict[str, torch.Tensor]:
    """All weights once diffusers has put the file in; it changes what the file says, and nothing else."""
    written = merged_deltas(load_file(path))
    idle = {name for name, delta in written.items() if not delta.any()}
    assert all(name.startswith(BEHIND_WHAT_SDXL_READS) for name in idle)
    pipeline = family.pipeline(base, torch.float32)
    before = {name: weight.clone() for name, weight in weights(pipeline).items()}
    pipeline.load_lora_weights(path, **({"load_into_transformer_2": True} if part == "model_2" else {}))
    pipeline.fuse_lora(**({"components": [NETWORKS[part]]} if family.spec.clips else {}))
    pipeline.unload_lora_weights()
    after = weights(pipeline)
    changed = {name for name in before if not torch.equal(after[name], before[name])}
    reloaded = {
        exported(family, name.removesuffix(".weight")): after[name].double() - before[name].double()
        for name in changed
    }
    assert written.keys() - idle == reloaded.keys()
    if family.spec.clips:
        assert {name.partition(".")[0] for name in changed} == {part}
    for name, delta in reloaded.items():
        said = written[name]
        assert float(said.norm()) > 1e-5, name
        assert float((delta - said).norm()) <= 1e-3 * float(said.norm()) + 1e-6, name
    return after


NETWORKS = {"model": "transformer", "model_2": "transformer_2"}


def weights(pipeline: Any) -> dict[str, torch.Tensor]:
    """Weights of the network and of the text encoders by our names."""
    found: dict[str, torch.Tensor] = {}
    for ours, theirs in (
        ("model", "unet"),
        *NETWORKS.items(),
        ("text_encoder", "text_encoder"),
        ("text_encoder_2", "text_encoder_2"),
    ):
        if model := getattr(pipeline, theirs, None):
            found |= {f"{ours}.{name}": tensor.detach() for name, tensor in model.named_parameters()}
    return found


def exported(family: Family, module: str) -> str:
    """What an exported file calls a module."""
    alone = module.replace("model_2.", "model.")
    (name,) = family.export_keys({f"{alone}.lora_down.weight": torch.zeros(1, 1)})
    return name.removesuffix(".weight").rpartition(".")[0]
