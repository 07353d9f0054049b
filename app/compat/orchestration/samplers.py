"""Civitai's words for samplers and schedules → ours, for each of its three dialects.

What would be drawn in another way than the word says is not in these tables, and so refused.
"""

from app.contract.samplers import NORMAL, SAMPLERS

KARRAS = "Karras"
DEFAULT = ("", "")
"""The family's own."""
SCHEDULERS: dict[str, tuple[str, str]] = {
    "eulera": ("Euler a", NORMAL), "euler": ("Euler", NORMAL), "lms": ("LMS", NORMAL),
    "heun": ("Heun", NORMAL), "dpm2": ("DPM2", NORMAL), "dpm2a": ("DPM2 a", NORMAL),
    "dpm2sa": ("DPM++ 2S a", NORMAL), "dpm2m": ("DPM++ 2M", NORMAL), "dpmsde": ("DPM++ SDE", NORMAL),
    "lmskarras": ("LMS", KARRAS), "dpm2karras": ("DPM2", KARRAS), "dpm2akarras": ("DPM2 a", KARRAS),
    "dpm2sakarras": ("DPM++ 2S a", KARRAS), "dpm2mkarras": ("DPM++ 2M", KARRAS),
    "dpmsdekarras": ("DPM++ SDE", KARRAS), "ddim": ("DDIM", NORMAL), "plms": ("PLMS", NORMAL),
    "unipc": ("UniPC", NORMAL), "undefined": DEFAULT, "lcm": ("LCM", NORMAL), "deis": ("DEIS", NORMAL),
    "dpm3msde": ("DPM++ 3M SDE", SAMPLERS["DPM++ 3M SDE"].automatic),
}  # fmt: skip
"""Of textToImage, in lower case: version 1 writes `DPM2MKarras`, version 2 `dpM2MKarras`."""
SAMPLE_METHODS = {
    "euler": "Euler", "heun": "Heun", "dpm2": "DPM2", "dpm++2s_a": "DPM++ 2S a", "dpm++2m": "DPM++ 2M",
    "euler_a": "Euler a", "lcm": "LCM", "tcd": "TCD",
}  # fmt: skip
"""Of imageGen's engine sdcpp."""
COMFY_SAMPLERS = {
    "euler": "Euler", "euler_ancestral": "Euler a", "heun": "Heun", "dpm_2": "DPM2",
    "dpm_2_ancestral": "DPM2 a", "lms": "LMS", "dpmpp_2s_ancestral": "DPM++ 2S a",
    "dpmpp_sde": "DPM++ SDE", "dpmpp_sde_gpu": "DPM++ SDE", "dpmpp_2m": "DPM++ 2M",
    "dpmpp_2m_sde": "DPM++ 2M SDE", "dpmpp_2m_sde_gpu": "DPM++ 2M SDE", "dpmpp_3m_sde": "DPM++ 3M SDE",
    "dpmpp_3m_sde_gpu": "DPM++ 3M SDE", "lcm": "LCM", "deis": "DEIS", "ddim": "DDIM", "uni_pc": "UniPC",
}  # fmt: skip
"""Of imageGen's engine comfy."""
SCHEDULES = {
    "discrete": NORMAL, "normal": NORMAL, "karras": KARRAS, "exponential": "Exponential",
    "sgm_uniform": "SGM Uniform", "simple": "Simple", "beta": "Beta",
}  # fmt: skip
"""Of both engines."""
