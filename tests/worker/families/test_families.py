"""Every family of the catalogue, on a tiny random checkpoint: load, encode, learn, export, sample."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from app.contract.events import Checkpoint, Sample
from tests.worker.tiny import tiny_base, tiny_files, tiny_job, tiny_pictures
from tests.worker.training.conftest import merged_deltas
from worker.draws import Draws
from worker.families import catalog
from worker.families.base import Batch, Family
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
    mean, std = family.encode_images(parts, torch.zeros(2, 3, 64, 32))
    channels = parts.model.config.in_channels
    assert mean.shape == std.shape == (2, channels, 64 // factor, 32 // factor)
    assert bool((std > 0).all())
    layers = parts.text_encoder.config.num_hidden_layers
    last, skipped = (family.encode_captions(parts, ["a house", ""], skip, live=False) for skip in (1, layers))
    assert last.keys() == skipped.keys()
    for tensor in last.values():
        assert len(tensor) == 2
        assert not torch.equal(tensor[0], tensor[1])
    assert not torch.equal(last["embeddings"], skipped["embeddings"])
    live = family.encode_captions(parts, ["a house"], 1, live=True)
    assert live.keys() != last.keys()
    assert family.count_tokens(parts, "a house") < family.count_tokens(parts, "a house, a tree")
    with pytest.raises(ValueError, match="smaller"):
        family.encode_captions(parts, ["a"], 9, live=False)


def test_the_loss_falls(family: Family, base: Path) -> None:
    parts = family.load(base, CPU, torch.float32)
    params = tiny_job(tiny_pictures(base / "pictures", 1)).params
    adapter = inject(parts, family.lora_targets(parts), params, Draws(0))
    optimizer = torch.optim.AdamW(adapter.parameters("model"), lr=3e-3)
    latents = family.encode_images(parts, torch.rand(2, 3, 32, 32, generator=torch.manual_seed(0)) * 2 - 1)
    batch = Batch(
        mean=latents.mean.clone(),
        std=None,
        cond={n: t.clone() for n, t in family.encode_captions(parts, ["a", "b"], 1, live=False).items()},
        keys=[(0,), (1,)],
        timesteps=torch.tensor([300, 700]),
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
    pictures = tiny_pictures(tmp_path / "pictures", 2)
    side = family.spec.bucket_multiple
    job = tiny_job(
        pictures,
        prompts=1,
        epochs=1,
        text_encoder_lr=1e-3,
        conv_dim=2,
        conv_alpha=1.0,
        resolution=max(64, side),
    )
    reporter = NullReporter()
    finished = train(job, family, tiny_files(base, pictures), tmp_path / "out", reporter)
    assert finished.outcome == "succeeded"
    (checkpoint,) = [event for event in reporter.events if isinstance(event, Checkpoint)]
    samples = [event for event in reporter.events if isinstance(event, Sample)]
    assert [sample.baseline for sample in samples] == [True, False]

    path = tmp_path / "out" / checkpoint.path
    written = merged_deltas(load_file(path))
    idle = {name for name, delta in written.items() if not delta.any()}
    assert all(name.startswith(BEHIND_WHAT_SDXL_READS) for name in idle)
    pipeline = family.pipeline(base, torch.float32)
    before = {name: weight.clone() for name, weight in weights(pipeline).items()}
    pipeline.load_lora_weights(path)
    pipeline.fuse_lora()
    pipeline.unload_lora_weights()
    after = weights(pipeline)
    reloaded = {
        exported(family, name.removesuffix(".weight")): after[name].double() - before[name].double()
        for name in before
        if not torch.equal(after[name], before[name])
    }
    assert written.keys() - idle == reloaded.keys()
    for name in reloaded:
        delta = written[name]
        assert float(delta.norm()) > 1e-5, name
        assert float((reloaded[name] - delta).norm()) <= 1e-3 * float(delta.norm()) + 1e-6, name
    warm = family.pipeline(base, torch.float32)
    assert LoraSwitch(warm).attach([LoraUse(path, "ab" * 32, "mine", 1.0, 1.0)]) == []
    for name, tensor in weights(warm).items():
        assert torch.allclose(tensor, after[name], atol=1e-5), name


def weights(pipeline: Any) -> dict[str, torch.Tensor]:
    """Weights of the network and of the text encoders by our names."""
    found: dict[str, torch.Tensor] = {}
    for ours, theirs in (
        ("model", "unet"),
        ("text_encoder", "text_encoder"),
        ("text_encoder_2", "text_encoder_2"),
    ):
        if model := getattr(pipeline, theirs, None):
            found |= {f"{ours}.{name}": tensor.detach() for name, tensor in model.named_parameters()}
    return found


def exported(family: Family, module: str) -> str:
    """What an exported file calls a module."""
    (name,) = family.export_keys({f"{module}.alpha": torch.zeros(())})
    return name.removesuffix(".alpha")
