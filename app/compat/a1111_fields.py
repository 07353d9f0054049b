"""What A1111's routes take, by its names: what we draw with becomes our request, the rest is told.

Left out or null is the model's default, not A1111's: 512 × 512 at 50 steps suits few models. Fields that
A1111 does not know are ignored, as it does itself.
"""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from app.contract.samplers import SAMPLERS, SCHEDULES, joined_name
from app.core.errors import FieldError, Invalid, NotFound
from worker.inference.infotext import read

KEYS = {"sd_model_checkpoint", "sd_vae", "CLIP_stop_at_last_layers", "samples_format"}
ALIASES = {
    "Euler a": ("k_euler_a", "k_euler_ancestral"), "Euler": ("k_euler",), "LMS": ("k_lms",),
    "Heun": ("k_heun",), "DPM2": ("k_dpm_2", "k_dpm2"), "DPM2 a": ("k_dpm_2_a", "k_dpm2_a"),
    "DPM++ 2M": ("k_dpmpp_2m",), "DPM++ SDE": ("k_dpmpp_sde",), "DPM++ 2M SDE": ("k_dpmpp_2m_sde",),
    "DPM++ 3M SDE": ("k_dpmpp_3m_sde",),
    "DPM++ 2M SDE Heun": ("k_dpmpp_2m_sde_heun",), "DPM++ 2S a": ("k_dpmpp_2s_a",),
}  # fmt: skip
"""Old names of samplers that programs still send."""
SAME = ("", "None", "Use same sampler", "Use same scheduler", "Use same checkpoint")


class Txt2Img(BaseModel):
    """The fields of `txt2img`. Steps and sizes as everywhere here; `batch_size` × `n_iter` pictures."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    prompt: str = ""
    negative_prompt: str | None = ""
    styles: list[str] | None = None
    seed: int | None = -1
    subseed: int | None = -1
    subseed_strength: float | None = 0
    seed_resize_from_h: int | None = -1
    seed_resize_from_w: int | None = -1
    sampler_name: str | None = None
    sampler_index: str | None = None
    scheduler: str | None = None
    batch_size: int | None = Field(default=1, ge=1)
    n_iter: int | None = Field(default=1, ge=1)
    steps: int | None = None
    cfg_scale: float | None = None
    width: int | None = None
    height: int | None = None
    restore_faces: bool | None = False
    tiling: bool | None = False
    denoising_strength: float | None = None
    override_settings: dict[str, Any] | None = None
    refiner_checkpoint: str | None = None
    enable_hr: bool | None = False
    hr_scale: float | None = 2.0
    hr_upscaler: str | None = None
    hr_second_pass_steps: int | None = 0
    hr_resize_x: int | None = 0
    hr_resize_y: int | None = 0
    hr_checkpoint_name: str | None = None
    hr_sampler_name: str | None = None
    hr_scheduler: str | None = None
    hr_prompt: str | None = ""
    hr_negative_prompt: str | None = ""
    script_name: str | None = None
    alwayson_scripts: dict[str, Any] | None = None
    send_images: bool | None = True
    infotext: str | None = Field(default=None, description="Fills what is not said beside it.")

    @property
    def pictures(self) -> int:
        return (self.batch_size or 1) * (self.n_iter or 1)


class Img2Img(Txt2Img):
    """The same with a start picture, base64 or `data:`; a mask is white where it is drawn anew."""

    init_images: list[str] | None = None
    resize_mode: int | None = 0
    mask: str | None = None
    mask_blur: int | None = None
    mask_blur_x: int | None = None
    inpainting_fill: int | None = 0
    inpaint_full_res: bool | int | None = True
    inpaint_full_res_padding: int | None = 0
    inpainting_mask_invert: int | None = 0
    include_init_images: bool | None = False


def filled(wanted: Txt2Img) -> Txt2Img:
    """With what its `infotext` says, where the request itself says nothing."""
    info = read(wanted.infotext or "")
    width, height = info.size or (None, None)
    told = {
        "prompt": info.prompt, "negative_prompt": info.negative_prompt, "steps": info.steps,
        "sampler_name": info.sampler, "cfg_scale": info.cfg_scale, "seed": info.seed, "width": width,
        "height": height,
    }  # fmt: skip
    said = wanted.model_fields_set
    return wanted.model_copy(update={name: v for name, v in told.items() if v and name not in said})


def sampler_of(wanted: Txt2Img) -> str | None:
    """The sampler by our name; the model's own where none is named. Errors: NotFound."""
    name = wanted.sampler_name or wanted.sampler_index
    if not name:
        return None
    joined = [joined_name(one.name, how) for one in SAMPLERS.values() for how in one.schedules]
    known = {each.lower(): each for each in joined}
    known |= {sampler.lower(): sampler for sampler in SAMPLERS}
    known |= {alias: sampler for sampler, aliases in ALIASES.items() for alias in aliases}
    found = known.get(name.strip().lower())
    if found is None:
        raise NotFound("Sampler not found. GET /sdapi/v1/samplers lists those that there are.")
    return found


def schedule_of(name: str | None) -> str | None:
    """A schedule by its label or by A1111's short name; unknown ones stay as they are."""
    known = {short_name(label): label for label in SCHEDULES}
    return known.get(short_name(name), name) if name else None


def short_name(label: str) -> str:
    """`SGM Uniform` → `sgm_uniform`."""
    return label.strip().lower().replace(" ", "_")


def hires_of(wanted: Txt2Img) -> dict[str, Any] | None:
    """The second pass. Errors: Invalid for a size that is not the picture's in another scale."""
    if not wanted.enable_hr:
        return None
    asked = {
        "scale": _hires_scale(wanted),
        "upscaler": wanted.hr_upscaler,
        "denoise": wanted.denoising_strength,
        "steps": wanted.hr_second_pass_steps or None,
    }
    return {name: value for name, value in asked.items() if value is not None}


def _hires_scale(wanted: Txt2Img) -> float | None:
    pairs = ((wanted.hr_resize_x, wanted.width), (wanted.hr_resize_y, wanted.height))
    scales = [after / before for after, before in pairs if after and before]
    if not scales:
        return wanted.hr_scale
    if max(scales) - min(scales) > 0.02:
        words = "hr_resize_x and hr_resize_y must keep the shape of width and height; or give hr_scale"
        raise Invalid(f"Please correct: {words}.", [FieldError("#/hr_resize_x", words, "not-together")])
    return round(scales[0], 4)


def refuse_scripts(wanted: Txt2Img) -> None:
    """A script changes what is drawn, so one that there is not is no small thing. Errors: NotFound."""
    if wanted.script_name and wanted.script_name != "None":
        raise NotFound(f"Script not found: {wanted.script_name[:60]}. There are no scripts here.")
    for name, said in (wanted.alwayson_scripts or {}).items():
        if _does_something(said):
            raise NotFound(f"Script not found: {name[:60]}. There are no scripts here.")


def _does_something(script: Any) -> bool:
    """Programs switch scripts off that they know by sending them without arguments, or with False."""
    said = script.get("args", script) if isinstance(script, dict) else script
    arguments = said if isinstance(said, list) else [said]
    return bool(arguments) and arguments[0] is not False and any(_is_on(one) for one in arguments)


def _is_on(argument: Any) -> bool:
    if isinstance(argument, dict):
        return argument.get("enabled", argument.get("enable", bool(argument))) is not False
    return argument not in (False, None, "", [])


def not_done(wanted: Txt2Img) -> list[str]:
    """Words for every wish that nothing here fulfils; they go into `info`."""
    asked = {
        "subseed_strength": wanted.subseed_strength,
        "seed_resize_from_w": (wanted.seed_resize_from_w or 0) > 0 or (wanted.seed_resize_from_h or 0) > 0,
        "styles": wanted.styles,
        "restore_faces": wanted.restore_faces,
        "tiling": wanted.tiling,
        "refiner_checkpoint": wanted.refiner_checkpoint not in (None, *SAME),
    }
    asked |= {f"override_settings.{key}": key not in KEYS for key in wanted.override_settings or {}}
    if wanted.enable_hr:
        hires = ("hr_checkpoint_name", "hr_sampler_name", "hr_scheduler", "hr_prompt", "hr_negative_prompt")
        asked |= {name: getattr(wanted, name) not in (None, *SAME) for name in hires}
    if isinstance(wanted, Img2Img):
        asked |= _start_not_done(wanted)
    return [f"{name} has no effect here." for name, value in asked.items() if value]


def _start_not_done(wanted: Img2Img) -> dict[str, Any]:
    masked = bool(wanted.mask)
    return {
        "resize_mode (the picture is scaled and cut to the size)": wanted.resize_mode in (2, 3),
        "inpainting_fill (the picture itself is drawn over)": masked and wanted.inpainting_fill in (0, 2, 3),
    }
