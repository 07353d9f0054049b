"""Names of adapter tensors, the noise maths, and layers of true size."""

from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

from tests.worker.tiny import tiny_job, tiny_pictures
from worker.draws import Draws
from worker.families import catalog
from worker.families.base import Batch, Parts
from worker.families.epsilon import add_noise, denoising_loss, min_snr_weights, target
from worker.families.kohya_keys import SD1_UNET, from_any, kohya_name, to_kohya
from worker.training.lora import inject


def test_names_are_those_of_sd_scripts() -> None:
    assert (
        kohya_name("model.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_out.0")
        == "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_out_0"
    )
    expected = "lora_te_text_model_encoder_layers_0_self_attn_q_proj"
    assert kohya_name("text_encoder.encoder.layers.0.self_attn.q_proj") == expected
    assert kohya_name("text_encoder.text_model.encoder.layers.0.self_attn.q_proj") == expected


def test_names_go_there_and_back() -> None:
    state = {
        "model.a.b.lora_down.weight": torch.ones(2, 3),
        "model.a.b.lora_up.weight": torch.ones(3, 2),
        "model.a.b.alpha": torch.tensor(1.0),
    }
    written = to_kohya(state)
    assert set(written) == {
        f"lora_unet_a_b.{part}" for part in ("lora_down.weight", "lora_up.weight", "alpha")
    }
    assert from_any(written, ["model.a.b"], SD1_UNET, {}).keys() == state.keys()
    with pytest.raises(ValueError, match="other layers"):
        from_any(written, ["model.a.c"], SD1_UNET, {})
    with pytest.raises(ValueError, match="Not a name"):
        to_kohya({"model.a.weight": torch.ones(1)})


def test_weights_of_min_snr_by_hand() -> None:
    snr = torch.tensor([0.5, 5.0, 20.0])
    assert min_snr_weights(snr, 5.0, "epsilon").tolist() == pytest.approx([1.0, 1.0, 0.25])
    assert min_snr_weights(snr, 5.0, "v_prediction").tolist() == pytest.approx([1 / 3, 5 / 6, 5 / 21])
    assert min_snr_weights(snr, 0.0, "epsilon").tolist() == [1.0, 1.0, 1.0]


def test_a_perfect_prediction_has_no_loss() -> None:
    alphas = torch.linspace(0.99, 0.01, 10)
    batch = Batch(
        mean=torch.randn(2, 3, 4, 4), std=None, cond={}, keys=[(0,), (1,)], timesteps=torch.tensor([2, 7])
    )
    alpha = alphas[torch.tensor([2, 7])]
    noise = Draws(5).normal("noise", batch.keys, (3, 4, 4))
    for kind in ("epsilon", "v_prediction"):
        goal = target(batch.mean, noise, alpha, kind)

        def perfect(noisy: torch.Tensor, timesteps: torch.Tensor, goal: torch.Tensor = goal) -> torch.Tensor:
            assert torch.allclose(noisy, add_noise(batch.mean, noise, alpha))
            return goal

        assert denoising_loss(batch, Draws(5), alphas, kind, perfect).tolist() == [0.0, 0.0]
    with pytest.raises(ValueError, match="magic"):
        target(batch.mean, noise, alpha, "magic")


def test_layers_of_stable_diffusion_s_true_size(tmp_path: Path) -> None:
    """One attention block and one text layer with SD1.5's widths: every tensor has kohya's shape."""
    unet = UNet2DConditionModel(
        block_out_channels=(320,), down_block_types=("CrossAttnDownBlock2D",),
        up_block_types=("CrossAttnUpBlock2D",), mid_block_type=None, layers_per_block=1,
        cross_attention_dim=768, attention_head_dim=8,
    )  # fmt: skip
    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=100,
            hidden_size=768,
            intermediate_size=3072,
            num_hidden_layers=1,
            num_attention_heads=12,
        )
    )
    family = catalog.load("sd1")
    parts = Parts(tmp_path, torch.device("cpu"), unet, tokenizer=None, scheduler=None, text_encoder=text)
    params = tiny_job(tiny_pictures(tmp_path, 1), network_dim=16, text_encoder_lr=1e-4, conv_dim=4).params
    state = family.export_keys(inject(parts, family.lora_targets(parts), params, Draws(0)).state())
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    block = "lora_unet_down_blocks_0_attentions_0"
    layer = "lora_te_text_model_encoder_layers_0"
    expected = {
        f"{block}_proj_in.lora_down.weight": (16, 320, 1, 1),
        f"{block}_proj_in.lora_up.weight": (320, 16, 1, 1),
        f"{block}_transformer_blocks_0_attn2_to_k.lora_down.weight": (16, 768),
        f"{block}_transformer_blocks_0_ff_net_0_proj.lora_up.weight": (2560, 16),
        f"{block}_transformer_blocks_0_ff_net_2.lora_down.weight": (16, 1280),
        "lora_unet_down_blocks_0_resnets_0_conv1.lora_down.weight": (4, 320, 3, 3),
        "lora_unet_down_blocks_0_resnets_0_conv1.lora_up.weight": (320, 4, 1, 1),
        "lora_unet_down_blocks_0_resnets_0_time_emb_proj.lora_down.weight": (4, 1280),
        f"{layer}_self_attn_out_proj.lora_up.weight": (768, 16),
        f"{layer}_mlp_fc1.lora_up.weight": (3072, 16),
        f"{layer}_mlp_fc2.alpha": (),
    }
    assert {name: shapes.get(name) for name in expected} == expected
    attention = [name for name in shapes if name.startswith(block) and name.endswith("alpha")]
    assert len(attention) == 12
