"""The table of base models: what each is called, who may share the name, and what can run it here.

Names are Civitai's; those of one architecture (SDXL, Pony, Illustrious, …) cannot be told apart by their
tensors, so that a person's word for one of them is taken.
"""

from dataclasses import dataclass

from app.recognition.result import Prediction

EDM: tuple[Prediction, ...] = ("edm", "edm-v")
"""Predictions that belong to another noise schedule than the families here have."""


@dataclass(frozen=True)
class Base:
    """One architecture. `names[0]` is used where nothing says more; `family` is the adapter's name."""

    title: str
    names: tuple[str, ...]
    family: str | None = None
    prediction: Prediction | None = "flow"
    note: str = ""
    """What the tensors cannot tell."""


_SD1 = ("SD 1.5", "SD 1.4", "SD 1.5 LCM", "SD 1.5 Hyper")
_SDXL = (
    "SDXL 1.0", "SDXL 0.9", "SDXL 1.0 LCM", "SDXL Turbo", "SDXL Lightning", "SDXL Hyper", "SDXL LCM", "Pony",
    "Illustrious", "NoobAI", "Playground v2",
)  # fmt: skip
BASES: dict[str, Base] = {
    "starter": Base("Bottega Starter", ("Starter 1",), "starter", "epsilon"),
    "video-starter": Base("Bottega Video Starter", ("Video Starter 1",), "video_starter"),
    "sd1": Base("Stable Diffusion 1.x", _SD1, "sd1", "epsilon"),
    "sd2": Base(
        "Stable Diffusion 2.x",
        ("SD 2.1", "SD 2.0", "SD 2.0 768", "SD 2.1 768", "SD 2.1 Unclip"),
        prediction=None,
        note="2.0 and 2.1, and their 512 and 768 pixel forms, have the same tensors.",
    ),
    "sdxl": Base("Stable Diffusion XL", _SDXL, "sdxl", "epsilon"),
    "sdxl-refiner": Base("SDXL refiner", ("SDXL 1.0", "SDXL 0.9"), prediction="epsilon"),
    "sdxl-small": Base("a smaller relative of SDXL", ("SDXL Distilled",), prediction=None),
    "kolors": Base("Kolors", ("Kolors",), prediction="epsilon"),
    "svd": Base("Stable Video Diffusion", ("SVD", "SVD XT"), prediction="edm-v"),
    "cascade": Base("Stable Cascade", ("Stable Cascade",), prediction=None),
    "sd3": Base("Stable Diffusion 3", ("SD 3",)),
    "sd35m": Base("Stable Diffusion 3.5 Medium", ("SD 3.5 Medium", "SD 3.5")),
    "sd35l": Base("Stable Diffusion 3.5 Large", ("SD 3.5 Large", "SD 3.5 Large Turbo", "SD 3.5")),
    "flux1": Base("Flux.1", ("Flux.1 D", "Flux.1 S", "Flux.1 Krea", "Flux.1 Kontext")),
    "flux2": Base("Flux.2 Dev", ("Flux.2 D",)),
    "flux2-9b": Base("Flux.2 Klein 9B", ("Flux.2 Klein 9B", "Flux.2 Klein 9B-base")),
    "flux2-4b": Base("Flux.2 Klein 4B", ("Flux.2 Klein 4B", "Flux.2 Klein 4B-base")),
    "chroma": Base("Chroma", ("Chroma",)),
    "qwen": Base("Qwen-Image", ("Qwen", "Qwen 2")),
    "zimage": Base(
        "Z-Image", ("ZImageTurbo", "ZImageBase"), note="Z-Image Turbo and Base have the same tensors."
    ),
    "lumina2": Base("Lumina Image 2", ("Lumina",)),
    "hidream": Base("HiDream", ("HiDream", "HiDream-O1")),
    "auraflow": Base("AuraFlow", ("AuraFlow", "Pony V7")),
    "pixart-a": Base("PixArt alpha", ("PixArt a",), prediction="epsilon"),
    "pixart-e": Base("PixArt sigma", ("PixArt E",), prediction="epsilon"),
    "hunyuan1": Base("Hunyuan-DiT", ("Hunyuan 1",), prediction="v"),
    "anima": Base("Anima", ("Anima",)),
    "cosmos": Base("Cosmos", ("Other",), prediction=None),
    "sana": Base("Sana", ("Other",)),
    "ace-step": Base("ACE-Step", ("ACE Audio",)),
    "wan-1.3b": Base("Wan 2.1 1.3B", ("Wan Video 1.3B t2v", "Wan Video"), "wan"),
    "wan-14b": Base(
        "Wan 14B text to video",
        ("Wan Video 14B t2v", "Wan Video"),
        "wan_14b",
        note="Wan 2.1 14B and an expert of Wan 2.2 A14B have the same tensors; say which it is.",
    ),
    "wan22-t2v": Base("Wan 2.2 A14B text to video", ("Wan Video 2.2 T2V-A14B", "Wan Video"), "wan22_a14b"),
    "wan-i2v": Base(
        "Wan 2.1 14B picture to video",
        ("Wan Video 14B i2v 480p", "Wan Video 14B i2v 720p", "Wan Video"),
        note="The 480p and the 720p model have the same tensors; say which it is.",
    ),
    "wan22-i2v": Base(
        "Wan 2.2 A14B picture to video",
        ("Wan Video 2.2 I2V-A14B", "Wan Video"),
        note="The expert for high noise and that for low noise have the same tensors; say which it is.",
    ),
    "wan22-5b": Base("Wan 2.2 5B", ("Wan Video 2.2 TI2V-5B", "Wan Video"), "wan22_5b"),
    "ltxv": Base("LTX-Video", ("LTXV",), "ltx"),
    "ltxv2": Base("LTX-2", ("LTXV2", "LTXV 2.3")),
    "hunyuan-video": Base("HunyuanVideo", ("Hunyuan Video",)),
    "hunyuan-image": Base("HunyuanImage 2.1", ("Other",)),
    "mochi": Base("Mochi", ("Mochi",)),
    "cogvideox": Base("CogVideoX", ("CogVideoX",), prediction="v"),
}


TEXTS = {"wan-1.3b": "UMT5", "wan-14b": "UMT5", "wan22-t2v": "UMT5", "wan22-5b": "UMT5", "ltxv": "T5"}
"""Architectures that can be given a text encoder from elsewhere → the kind that they learnt with."""
IN_PIECES = tuple(TEXTS)
"""Their transformers run from a file of their own, with a text encoder and a VAE from elsewhere."""
SAME_TENSORS = {"wan-14b": "wan22-t2v"}
"""What files are recognised as → the other architecture that has the very same tensors: its owner's word
decides, and nothing is said before."""


def known_names() -> dict[str, set[str]]:
    """Lower-case base model name → keys of the architectures that go by it."""
    found: dict[str, set[str]] = {}
    for key, base in BASES.items():
        for name in base.names:
            if name != "Other":
                found.setdefault(name.lower(), set()).add(key)
    return found


_NAMES = known_names()


def base_model_names() -> list[str]:
    """Every name that a person may give as base model, in the order of the table; `Other` is the last."""
    names = dict.fromkeys(name for base in BASES.values() for name in base.names if name != "Other")
    return [*names, "Other"]


def architectures_of(base_model: str) -> set[str]:
    """Keys of the architectures that go by this name; empty for a name that is not in the table."""
    return _NAMES.get(base_model.strip().lower(), set())


def family_of_base(base_model: str) -> str | None:
    """Name of the family whose checkpoints and LoRAs go by this base model name."""
    keys = sorted(architectures_of(base_model), key=lambda key: (not _is_first(key, base_model), key))
    return next((f for key in keys if (f := BASES[key].family)), None)


def _is_first(architecture: str, base_model: str) -> bool:
    return BASES[architecture].names[0].lower() == base_model.strip().lower()


def meanings(architecture: str, base_model: str) -> set[str]:
    """What a file of this architecture can be, once its owner says `base_model`: two, where tensors are
    alike and the word fits both."""
    twin = SAME_TENSORS.get(architecture)
    both = {architecture, *([twin] if twin else [])}
    return {key for key in both if _is_first(key, base_model)} or both & architectures_of(base_model) or both


def names_of(architecture: str) -> list[str]:
    """Base model names that its owner may give a file of this architecture."""
    twin = SAME_TENSORS.get(architecture)
    return list(dict.fromkeys([*BASES[architecture].names, *(BASES[twin].names if twin else ())]))


def may_be_called(architecture: str | None, base_model: str) -> bool:
    """Whether a person may say `base_model` of a file of this architecture; unknown names may be said."""
    meant = architectures_of(base_model)
    return architecture is None or not meant or bool({architecture, SAME_TENSORS.get(architecture)} & meant)


SS_VERSIONS: tuple[tuple[str, str], ...] = (
    ("bottega_starter", "starter"), ("bottega_video_starter", "video-starter"), ("sdxl", "sdxl"),
    ("sd_v2", "sd2"), ("sd2", "sd2"), ("sd_v1", "sd1"),
    ("sd1", "sd1"), ("sd_1", "sd1"), ("sd3m", "sd3"), ("sd3_m", "sd3"), ("sd3-m", "sd3"),
    ("sd3.5-l", "sd35l"), ("sd3.5-m", "sd35m"), ("chroma", "chroma"), ("flux1", "flux1"), ("flux.1", "flux1"),
    ("flux2", "flux2"), ("wan2.2_5b", "wan22-5b"), ("wan22_5b", "wan22-5b"),
    ("hunyuan_video", "hunyuan-video"), ("qwen", "qwen"), ("zimage", "zimage"), ("z_image", "zimage"),
    ("lumina", "lumina2"), ("hidream", "hidream"), ("ltx2", "ltxv2"), ("ltx", "ltxv"),
)  # fmt: skip
"""How `ss_base_model_version` begins → architecture."""
MODELSPEC: tuple[tuple[str, str], ...] = (
    ("bottega-starter", "starter"), ("bottega-video-starter", "video-starter"),
    ("wan2.2-t2v-a14b", "wan22-t2v"), ("wan2.2-ti2v-5b", "wan22-5b"), ("ltx-video", "ltxv"),
    ("stable-diffusion-xl-v1-refiner", "sdxl-refiner"),
    ("stable-diffusion-xl", "sdxl"), ("stable-diffusion-v1", "sd1"), ("stable-diffusion-v2", "sd2"),
    ("stable-diffusion-3.5-large", "sd35l"), ("stable-diffusion-3.5-medium", "sd35m"),
    ("stable-diffusion-3-medium", "sd3"), ("flux-1", "flux1"), ("flux-2", "flux2"), ("chroma", "chroma"),
    ("lumina-2", "lumina2"), ("hunyuan-image-2.1", "hunyuan-image"), ("hunyuan-video", "hunyuan-video"),
    ("qwen-image", "qwen"), ("z-image", "zimage"),
)  # fmt: skip
"""How `modelspec.architecture` begins → architecture."""
RELATIVES: tuple[tuple[str, str], ...] = (
    ("pony", "Pony"), ("illustrious", "Illustrious"), ("noob", "NoobAI"),
    # Civitai's trainer names its bases by their version; 67ab2fd8ec begins the SHA256 of Pony V6.
    ("290640", "Pony"), ("67ab2fd8ec", "Pony"), ("889818", "Illustrious"),
)  # fmt: skip
"""A word in the name or hash of the checkpoint that an SDXL LoRA was trained on → base model name."""
