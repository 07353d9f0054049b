"""Other programs' samplers in our words."""

import pytest

from app.contract.samplers import SAMPLERS
from worker.inference.metadata.samplers import name_sampler


@pytest.mark.parametrize(
    ("written", "schedule", "expected"),
    [
        ("dpmpp_2m", "karras", ("DPM++ 2M", "Karras")),
        ("euler_ancestral", "normal", ("Euler a", "Normal")),
        ("sample_dpmpp_2m", "simple", ("DPM++ 2M", "Simple")),
        ("dpmpp_2m_sde_gpu", "sgm_uniform", ("DPM++ 2M SDE", "SGM Uniform")),
        ("k_euler_ancestral", "", ("Euler a", "Automatic")),
        ("dpmpp_3m_sde", "beta", ("DPM++ 3M SDE", "Beta")),
        ("dpmpp_2m_k", "", ("DPM++ 2M", "Karras")),
        ("kdpm_2_a", "", ("DPM2 a", "Automatic")),
        ("uni_pc_bh2", "normal", ("UniPC", "Normal")),
        ("euler_a karras", "", ("Euler a", "Karras")),
        ("euler discrete", "", ("Euler", "Normal")),
        ("dpm++2m", "", ("DPM++ 2M", "Automatic")),
        ("dpm++2s_a", "", ("DPM++ 2S a", "Automatic")),
        ("DPM++ 2M SDE Karras", "", ("DPM++ 2M SDE", "Karras")),
        ("Euler A", "", ("Euler a", "Automatic")),
        ("DPM++ 2M", "Karras", ("DPM++ 2M", "Karras")),
        ("res_multistep", "kl_optimal", ("res_multistep", "kl_optimal")),
        ("", "", ("", "Automatic")),
    ],
)
def test_names(written: str, schedule: str, expected: tuple[str, str]) -> None:
    assert name_sampler(written, schedule) == expected


def test_our_own_names_stay() -> None:
    assert all(name_sampler(name, "Karras") == (name, "Karras") for name in SAMPLERS)
