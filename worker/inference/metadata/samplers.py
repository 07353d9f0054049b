"""What other programs call samplers and schedules, in the words of `app.contract.samplers`.

k-diffusion's names are ComfyUI's, Fooocus' and SwarmUI's; InvokeAI, NovelAI and stable-diffusion.cpp
have spellings of their own. What has no counterpart here keeps its name.
"""

from app.contract.samplers import AUTOMATIC, NORMAL, SAMPLERS, split_sampler

_SAMPLERS = {
    "euler": "Euler",
    "euler_a": "Euler a",
    "euler_ancestral": "Euler a",
    "heun": "Heun",
    "lms": "LMS",
    "dpm_2": "DPM2",
    "dpm2": "DPM2",
    "kdpm_2": "DPM2",
    "dpm_2_ancestral": "DPM2 a",
    "dpm2_a": "DPM2 a",
    "kdpm_2_a": "DPM2 a",
    "dpmpp_2m": "DPM++ 2M",
    "dpmpp_2m_sde": "DPM++ 2M SDE",
    "dpmpp_2m_sde_heun": "DPM++ 2M SDE Heun",
    "dpmpp_3m_sde": "DPM++ 3M SDE",
    "dpmpp_sde": "DPM++ SDE",
    "dpmpp_2s_ancestral": "DPM++ 2S a",
    "dpmpp_2s_a": "DPM++ 2S a",
    "ddim": "DDIM",
    "plms": "PLMS",
    "pndm": "PLMS",
    "unipc": "UniPC",
    "uni_pc": "UniPC",
    "uni_pc_bh2": "UniPC",
    "deis": "DEIS",
    "lcm": "LCM",
    "tcd": "TCD",
}
_SCHEDULES = {
    "normal": NORMAL,
    "discrete": NORMAL,
    "default": AUTOMATIC,
    "automatic": AUTOMATIC,
    "karras": "Karras",
    "native": "Karras",
    "exponential": "Exponential",
    "sgm_uniform": "SGM Uniform",
    "simple": "Simple",
    "beta": "Beta",
}
_BY_WORDS = {name.lower(): name for name in SAMPLERS}


def name_sampler(written: str, schedule: str = "") -> tuple[str, str]:
    """A sampler and its schedule as some program writes them → our words, or theirs where we have none."""
    name, said = split_sampler(written.strip(), _schedule(schedule))
    if name in SAMPLERS:
        return name, said
    if name.lower() in _BY_WORDS:
        return _BY_WORDS[name.lower()], said
    key = name.lower().replace("++", "pp_").replace(" ", "_").replace("-", "_").replace("__", "_")
    for start in ("sample_", "k_", "sampler_"):
        key = key.removeprefix(start)
    for end in ("_gpu", "_rf"):
        key = key.removesuffix(end)
    if key not in _SAMPLERS:
        key, said = _ending(key, said)
    return _SAMPLERS.get(key, name), said


def _schedule(written: str) -> str:
    key = written.strip().lower().replace(" ", "_")
    return _SCHEDULES.get(key, written.strip()) if key else AUTOMATIC


def _ending(key: str, said: str) -> tuple[str, str]:
    """InvokeAI's `dpmpp_2m_k` and stable-diffusion.cpp's `euler_a_karras` carry the schedule in the name."""
    if key.endswith("_k"):
        return key.removesuffix("_k"), "Karras"
    for word, schedule in _SCHEDULES.items():
        if key.endswith(f"_{word}"):
            return key.removesuffix(f"_{word}"), schedule if said == AUTOMATIC else said
    return key, said
