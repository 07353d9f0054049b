"""What SDXL does and Stable Diffusion 1 does not: two encoders, cut and size told, a VAE that overflows."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDPMScheduler

from tests.worker.tiny import tiny_base, tiny_job, tiny_pictures
from worker.draws import Draws
from worker.families import catalog
from worker.families.base import Batch, Parts
from worker.families.kohya_keys import sdxl_name
from worker.inference.conditioning import encode_pair
from worker.inference.draw import Request, draw
from worker.inference.errors import SettingsError
from worker.inference.samplers import TABLE, create_scheduler
from worker.training.dataset import load_examples

CPU = torch.device("cpu")
FAMILY: Any = catalog.load("sdxl")
CAPTION = "red house, green hills"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_base(tmp_path_factory.mktemp("sdxl"), "sdxl")


@pytest.fixture(scope="module")
def pipe(base: Path) -> Any:
    return FAMILY.pipeline(base, torch.float32)


@pytest.fixture(scope="module")
def parts(base: Path) -> Parts:
    found: Parts = FAMILY.load(base, CPU, torch.float32)
    return found


def heard(model: Any, calls: list[dict[str, Any]]) -> Any:
    """Keep what the U-Net is called with."""
    return model.register_forward_pre_hook(lambda _, __, options: calls.append(options), with_kwargs=True)


def test_prompts_and_captions_are_encoded_as_diffusers_does(pipe: Any, parts: Parts) -> None:
    expected, negative, pooled, negative_pooled = pipe.encode_prompt(CAPTION, device=CPU)
    cond = FAMILY.encode_captions(parts, [CAPTION, ""], 1, live=False)
    assert torch.allclose(cond["embeddings"][:1], expected, atol=1e-6)
    assert torch.allclose(cond["pooled"][:1], pooled, atol=1e-6)
    assert torch.equal(cond["embeddings"][1:], negative)
    assert torch.equal(cond["pooled"][1:], negative_pooled)
    prompt, blank = encode_pair(pipe, CAPTION, "")
    assert torch.allclose(prompt.embeddings, expected, atol=1e-6)
    assert prompt.pooled is not None
    assert torch.allclose(prompt.pooled, pooled, atol=1e-6)
    assert blank.pooled is not None
    assert not blank.embeddings.any()
    assert not blank.pooled.any()


def test_a_trained_text_encoder_sees_the_same_texts(parts: Parts) -> None:
    texts = [CAPTION, "", "blue boat"]
    cached = FAMILY.encode_captions(parts, texts, 1, live=False)
    live = FAMILY.encode_captions(parts, texts, 1, live=True)
    again = FAMILY._embed(parts, live["tokens"], live["said"], 1)
    assert all(torch.equal(again[name], tensor) for name, tensor in cached.items())


def test_the_second_encoder_has_its_own_padding_and_exclamation_marks_stay(parts: Parts, pipe: Any) -> None:
    seen: list[torch.Tensor] = []
    hooks = [
        encoder.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
        for encoder in (parts.text_encoder, parts.text_encoder_2)
    ]
    FAMILY.encode_captions(parts, ["a!"], 1, live=False)
    for hook in hooks:
        hook.remove()
    first, second = (ids[0].tolist() for ids in seen)
    end = parts.tokenizer.eos_token_id
    length = first.index(end) + 1
    assert first[:length] == second[:length]
    assert set(first[length:]) == {parts.tokenizer.pad_token_id}
    assert set(second[length:]) == {parts.tokenizer_2.pad_token_id} == {0}
    assert 0 not in second[:length]
    assert torch.equal(
        encode_pair(pipe, "a!", "")[0].embeddings,
        FAMILY.encode_captions(parts, ["a!"], 1, live=False)["embeddings"],
    )


def test_clip_skip_counts_from_the_layer_that_sdxl_reads(pipe: Any, parts: Parts) -> None:
    one, two, three = (encode_pair(pipe, CAPTION, "x", skip)[0].embeddings for skip in (1, 2, 3))
    assert torch.equal(one, two)
    assert not torch.equal(two, three)
    assert torch.equal(FAMILY.encode_captions(parts, [CAPTION], 3, live=False)["embeddings"], three)
    with pytest.raises(SettingsError, match="between 1 and 3"):
        encode_pair(pipe, CAPTION, "x", 4)


def test_each_picture_s_size_and_cut_reach_the_model(parts: Parts, tmp_path: Path) -> None:
    (path,) = tiny_pictures(tmp_path, 1, ((200, 64),))
    job = tiny_job([path], resolution=64, enable_bucket=False)
    (example,) = load_examples(job, {job.items[0].file.sha256: path}, 8, Draws(0))
    (width, height), (left, top) = example.placement.bucket, example.placement.corner
    assert left > 0
    example = replace(example, placement=replace(example.placement, corner=(left - 1, top)))
    assert example.frame(mirrored=False) == (64, 200, top, left - 1, height, width)
    assert example.frame(mirrored=True)[3] == example.placement.scaled[0] - width - (left - 1)

    frames = torch.tensor([example.frame(mirrored=False), example.frame(mirrored=True)]).float()
    cond = FAMILY.encode_captions(parts, [CAPTION, ""], 1, live=False)
    batch = Batch(
        mean=torch.zeros(2, 6, height // 4, width // 4), std=None, cond=cond, keys=[(0,), (1,)], frames=frames
    )
    calls: list[dict[str, Any]] = []
    hook = heard(parts.model, calls)
    with_cut = FAMILY.loss(parts, batch, Draws(1))
    whole = FAMILY.loss(parts, replace(batch, frames=None), Draws(1))
    hook.remove()
    told = calls[0]["added_cond_kwargs"]
    assert torch.equal(told["time_ids"], frames)
    assert torch.equal(told["text_embeds"], cond["pooled"])
    assert calls[1]["added_cond_kwargs"]["time_ids"][0, 2:4].tolist() == [0, 0]
    assert not torch.equal(with_cut, whole)


def test_a_drawing_says_its_own_size_uncut(pipe: Any) -> None:
    request = Request(CAPTION, "", "DDIM", 2, 5.0, 24, 16, seeds=(1,))
    calls: list[dict[str, Any]] = []
    hook = heard(pipe.unet, calls)
    ((_, picture),) = draw(pipe, request)
    ((_, unguided),) = draw(pipe, replace(request, cfg_scale=1.0))
    hook.remove()
    assert picture.size == unguided.size == (24, 16)
    assert calls[0]["added_cond_kwargs"]["time_ids"].tolist() == [[16, 24, 0, 0, 16, 24]] * 2
    negative, positive = calls[0]["added_cond_kwargs"]["text_embeds"]
    assert not negative.any()
    assert positive.any()
    assert calls[-1]["encoder_hidden_states"].shape[0] == 1


def test_the_vae_runs_in_full_precision_unless_it_says_that_it_need_not(base: Path, tmp_path: Path) -> None:
    pipe = FAMILY.pipeline(base, torch.float16)
    assert (pipe.unet.dtype, pipe.text_encoder_2.dtype, pipe.vae.dtype) == (
        torch.float16,
        torch.float16,
        torch.float32,
    )
    config = base / "vae" / "config.json"
    text = config.read_text()
    config.write_text(text.replace('"force_upcast": true', '"force_upcast": false'))
    assert FAMILY.pipeline(base, torch.float16).vae.dtype == torch.float16
    config.write_text(text)
    assert FAMILY.load(base, CPU, torch.bfloat16).vae.dtype == torch.float32


def test_names_are_those_of_published_loras() -> None:
    block, flat = "transformer_blocks.0.attn1.to_q", "transformer_blocks_0_attn1_to_q"
    expected = {
        f"model.down_blocks.1.attentions.0.{block}": f"lora_unet_input_blocks_4_1_{flat}",
        "model.down_blocks.2.attentions.1.proj_in": "lora_unet_input_blocks_8_1_proj_in",
        "model.mid_block.attentions.0.proj_out": "lora_unet_middle_block_1_proj_out",
        f"model.up_blocks.0.attentions.2.{block}": f"lora_unet_output_blocks_2_1_{flat}",
        "model.up_blocks.1.attentions.2.proj_in": "lora_unet_output_blocks_5_1_proj_in",
        "model.down_blocks.0.downsamplers.0.conv": "lora_unet_input_blocks_3_0_op",
        "model.up_blocks.0.upsamplers.0.conv": "lora_unet_output_blocks_2_2_conv",
        "model.down_blocks.1.resnets.0.conv_shortcut": "lora_unet_input_blocks_4_0_skip_connection",
        "model.mid_block.resnets.1.conv2": "lora_unet_middle_block_2_out_layers_3",
        "model.up_blocks.2.resnets.0.time_emb_proj": "lora_unet_output_blocks_6_0_emb_layers_1",
        "text_encoder.encoder.layers.0.mlp.fc1": "lora_te1_text_model_encoder_layers_0_mlp_fc1",
        "text_encoder_2.text_model.encoder.layers.31.mlp.fc2": (
            "lora_te2_text_model_encoder_layers_31_mlp_fc2"
        ),
    }
    assert {module: sdxl_name(module) for module in expected} == expected


@pytest.mark.parametrize("sampler", TABLE)
@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_every_sampler_obeys_what_the_model_predicts(sampler: str, kind: str) -> None:
    """A model that is always right leads to the picture, be there signal at the start or none."""
    zero_snr = kind == "v_prediction"
    config = {
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "prediction_type": kind,
        "rescale_betas_zero_snr": zero_snr,
        "steps_offset": 1,
    }
    scheduler = create_scheduler(sampler, config, 12)
    assert (scheduler.timesteps[0] > 990) or not zero_snr  # rounded between noise levels
    goal = torch.linspace(-1, 1, 64).reshape(1, 1, 8, 8)
    generator = torch.Generator().manual_seed(3)
    latents = torch.randn(goal.shape, generator=generator) * scheduler.init_noise_sigma
    options = {"generator": generator} if sampler in ("Euler a", "DDIM") else {}
    for timestep in scheduler.timesteps:
        noisy = scheduler.scale_model_input(latents, timestep)
        alpha = scheduler.alphas_cumprod[int(timestep)].double()
        noise = (noisy - alpha.sqrt() * goal) / (1 - alpha).sqrt()
        right = noise if kind == "epsilon" else alpha.sqrt() * noise - (1 - alpha).sqrt() * goal
        latents = scheduler.step(right.float(), timestep, latents, **options, return_dict=False)[0]
    assert float((latents - goal).abs().max()) < 0.1


def test_training_without_any_signal_is_finite(parts: Parts) -> None:
    cond = FAMILY.encode_captions(parts, [CAPTION], 1, live=False)
    for kind in ("epsilon", "v_prediction"):
        schedule = DDPMScheduler.from_config(
            parts.scheduler.config, prediction_type=kind, rescale_betas_zero_snr=True
        )
        assert float(schedule.alphas_cumprod[-1]) == 0.0
        batch = Batch(
            mean=torch.ones(1, 6, 8, 8), std=None, cond=cond, keys=[(0,)], timesteps=torch.tensor([999])
        )  # fmt: skip
        plain, weighted = (
            float(FAMILY.loss(replace(parts, scheduler=schedule), given, Draws(1)).detach())
            for given in (batch, replace(batch, min_snr_gamma=5.0))
        )
        assert 0 < plain < 100
        assert weighted == pytest.approx(plain if kind == "epsilon" else 0.0, rel=1e-5, abs=1e-5)
