"""From a header to an answer. Unknown is an answer too: what no table knows is never called SD 1.5."""

import re
from collections import Counter
from collections.abc import Collection
from dataclasses import replace
from typing import Any

from app.recognition.adapter_bases import find_base
from app.recognition.adapters import Module, adapter_facts, read_modules, said_base
from app.recognition.bases import BASES, EDM, IN_PIECES, RELATIVES, SAME_TENSORS
from app.recognition.components import Component, find_component, find_control, find_text_encoder
from app.recognition.denoisers import Found, find_transformer, find_unet
from app.recognition.header import BITS, Header
from app.recognition.result import MODEL_TYPES, Prediction, Recognised
from app.recognition.unplaced import MOST_NAMES, without_place, words_for
from app.recognition.view import EMA, SINGLE_FILE, View, has_vae, text_encoders
from app.recognition.words import trained_words

PRECISIONS = {
    "F32": "fp32", "F16": "fp16", "BF16": "bf16", "F64": "fp64", "F8_E4M3": "fp8", "F8_E5M2": "fp8",
    "F8_E4M3FNUZ": "fp8", "F8_E5M2FNUZ": "fp8", "I8": "int8", "U8": "int8", "F4": "fp4",
}  # fmt: skip
_FEW_STEPS = re.compile(r"\b(turbo|lcm|lightning|hyper)(?=\b|[-_ ]?sd|_)", re.IGNORECASE)
_FEW_STEP_NAMES = {
    ("sd1", "lcm"): "SD 1.5 LCM", ("sd1", "hyper"): "SD 1.5 Hyper", ("sdxl", "turbo"): "SDXL Turbo",
    ("sdxl", "lightning"): "SDXL Lightning", ("sdxl", "hyper"): "SDXL Hyper", ("sdxl", "lcm"): "SDXL LCM",
}  # fmt: skip
_ALONE = ("", SINGLE_FILE, "diffusion_model.")
"""How the names of a transformer in a file of its own may begin."""
_PIECES = (
    "It holds no text encoder: one on a page of its own, or that of a complete checkpoint of its kind (a "
    "diffusers folder) is taken. Without a VAE it also needs one, on a page of the type VAE. Both can be "
    "added to its version, too."
)
_FOLDER = (("diffusers", "unet."), ("diffusers", "transformer."))
"""Layout and prefix of what can be loaded from a folder."""
_LCM = ("time_embed.cond_proj.weight", "time_embedding.cond_proj.weight")
_VARIANTS = {
    "inpaint": "It is made for inpainting: training and generating with it are not possible here yet.",
    "refiner": "It is a refiner, which only finishes pictures of SDXL: it cannot be trained or used alone.",
    "pix2pix": "It changes pictures by instructions: training and generating are not possible here yet.",
    "depth": "It needs a depth picture: training and generating are not possible here yet.",
}


def recognise(header: Header, families: Collection[str] | None = None, *, folder: bool = False) -> Recognised:
    """What the file is. `families` are the names of those that are installed; None = all of the table.

    `folder`: the header is that of all files of a diffusers folder, names begin with those of its parts.
    """
    view = View(header)
    if control := find_control(view):
        return _component(header, control)
    if found := find_unet(view) or find_transformer(view):
        return _checkpoint(header, view, _told_apart(found, view, folder), families, folder)
    if modules := read_modules(header):
        return _adapter(header, modules, families)
    if component := find_component(view):
        return _component(header, component)
    return unknown(header)


def _told_apart(found: Found, view: View, folder: bool) -> Found:
    """Of two architectures with the same tensors, the one that a folder shows by its second network."""
    if found.architecture not in SAME_TENSORS or not folder:
        return found
    two = view.begins("transformer_2.")
    key = SAME_TENSORS[found.architecture] if two else found.architecture
    why = "its folder holds two transformers" if two else f"{found.why}, and its folder no second transformer"
    return replace(found, architecture=key, why=why, name=BASES[key].names[0])


def unknown(header: Header) -> Recognised:
    """An honest answer: it can be kept, and nothing more is said of it."""
    return Recognised(
        kind="unknown", why="its tensors are those of no model that is known here", **_common(header),
        notes=("Bottega does not know this model. It can be kept, but nothing can be made with it here.",),
    )  # fmt: skip


def _common(header: Header) -> dict[str, Any]:
    title = header.metadata.get("modelspec.title") or header.metadata.get("ss_output_name")
    return {
        "precision": _precision(header),
        "quantised": _quantised(header),
        "title": title[:200] if title and title != "None" else None,
        "trained_words": trained_words(header),
        "tensors": len(header.tensors),
        "parameters": sum(info.elements for info in header.tensors.values()),
    }


def _precision(header: Header) -> str | None:
    """What most numbers of the file are, EMA copies aside."""
    counts: Counter[str] = Counter()
    for name, info in header.tensors.items():
        if not name.startswith("model_ema."):
            counts[info.dtype] += max(1, info.elements) if BITS[info.dtype] <= 64 else 0
    return PRECISIONS.get(counts.most_common(1)[0][0]) if counts else None


def _quantised(header: Header) -> str | None:
    for name in header.tensors:
        if ".quant_state.bitsandbytes__" in name:
            return "bitsandbytes " + name.rpartition("bitsandbytes__")[2][:8]
        if name == "scaled_fp8" or name.endswith((".scaled_fp8", ".scale_weight", ".comfy_quant")):
            return "scaled fp8"
    return None


def _first_name(key: str) -> str | None:
    """What a file is called where nobody says more: nothing, where its tensors are another one's too."""
    return None if key in SAME_TENSORS else BASES[key].names[0]


def _runs(key: str | None, families: Collection[str] | None) -> str | None:
    family = BASES[key].family if key else None
    return family if family is not None and (families is None or family in families) else None


def _checkpoint(
    header: Header, view: View, found: Found, families: Collection[str] | None, folder: bool
) -> Recognised:
    key = found.architecture
    few, encoders = _distilled(header, view), text_encoders(view)
    prediction, ztsnr = prediction_of(header)
    named = (found.layout, view.prefix) in (_FOLDER if folder else (("ldm", SINGLE_FILE),))
    # A file of another variant or schedule, compressed or without text encoder cannot run as the base does.
    plain = found.variant == "base" and prediction not in EDM and _quantised(header) is None
    alone = not folder and key in IN_PIECES and not encoders and view.prefix in _ALONE
    whole = plain and ((encoders and named) or alone)
    family = _runs(key, families) if whole else None
    name = found.name or _FEW_STEP_NAMES.get((key, few or "")) or _relative(header, key, "modelspec.title")
    full = view.begins(EMA) and found.layout != "ema"
    return Recognised(
        kind="checkpoint", model_type="Checkpoint", architecture=key, base_model=name or _first_name(key),
        family=family, variant=found.variant, prediction=prediction or BASES[key].prediction,
        zero_terminal_snr=ztsnr, distilled=few, layout=found.layout, pruned="full" if full else "pruned",
        has_vae=has_vae(view), text_encoders=encoders, why=found.why, **_common(header),
        notes=_checkpoint_notes(header, found, encoders, _runs(key, families), named or alone),
    )  # fmt: skip


def _checkpoint_notes(
    header: Header, found: Found, encoders: tuple[str, ...], runs: str | None, named: bool
) -> tuple[str, ...]:
    """What its owner should know.

    `runs` is the family that runs whole files of this architecture, `named`: with such names as this one's.
    """
    base, quantised = BASES[found.architecture], _quantised(header)
    notes = ["" if found.name == base.names[0] else base.note, _VARIANTS.get(found.variant, "")]
    if found.architecture == "sd2" and prediction_of(header)[0] is None:
        notes.append("Its tensors do not say whether it predicts noise or velocity; say so on its page.")
    if found.variant == "refiner":
        return tuple(note for note in notes if note)
    if runs is None or found.variant not in ("base", *_VARIANTS):
        notes.append(not_here(base.title))
    elif prediction_of(header)[0] in EDM:
        notes.append("It learnt with a noise schedule (EDM) that cannot be used here yet.")
    elif quantised:
        notes.append(f"Its weights are compressed ({quantised}), which cannot be loaded here. Upload fp16.")
    elif found.layout == "ema":
        notes.append("It holds only the averaged weights (EMA) and cannot generate alone.")
    elif not encoders and named and found.architecture in IN_PIECES:
        notes.append(_PIECES)
    elif not encoders:
        notes.append("It holds only the denoiser, without text encoder: it cannot generate alone.")
    elif not named:
        notes.append("Its tensors are not named as those of a checkpoint: it cannot be loaded here.")
    return tuple(note for note in notes if note)


def not_here(title: str) -> str:
    return f"{title} cannot generate here yet; the file can be kept and downloaded."


def prediction_of(header: Header) -> tuple[Prediction | None, bool]:
    """(what it predicts, whether the last step is pure noise) by marker tensors, then by metadata."""
    marks, said = header.tensors, header.metadata
    ztsnr = "ztsnr" in marks or said.get("ss_zero_terminal_snr") == "True"
    if "v_pred" in marks:
        return "v", ztsnr
    if "edm_vpred.sigma_max" in marks:
        return "edm-v", ztsnr
    if "edm_mean" in marks:
        return "edm", ztsnr
    word = (said.get("modelspec.prediction_type") or said.get("modelspec.predict_key") or "").lower()
    if word in ("v", "v_prediction", "v-prediction", "vpred") or said.get("ss_v_parameterization") == "True":
        return "v", ztsnr
    if word in ("epsilon", "eps", "noise"):
        return "epsilon", ztsnr
    return None, ztsnr


def _distilled(header: Header, view: View) -> str | None:
    """A tensor that LCMs have, or the word in the title that the file gives itself."""
    if any(view.has(mark) for mark in _LCM):
        return "lcm"
    said = " ".join(header.metadata.get(f"modelspec.{name}", "") for name in ("title", "architecture"))
    match = _FEW_STEPS.search(said[:500])
    return match[1].lower() if match else None


def _relative(header: Header, architecture: str, *fields: str) -> str | None:
    """The name of SDXL's descendant that these fields of the metadata point to."""
    if architecture != "sdxl":
        return None
    said = " ".join(header.metadata.get(name, "")[:200] for name in fields).lower()
    return next((name for word, name in RELATIVES if word in said), None)


def _adapter(header: Header, modules: list[Module], families: Collection[str] | None) -> Recognised:
    facts = adapter_facts(header, modules)
    told, why = find_base(modules, facts.naming)
    said = said_base(header)
    key = told or said
    notes = []
    if told is None and said is not None:
        why = f"its metadata says so; by its tensors, {why}"
    elif told is not None and said not in (None, told):
        notes.append(f"Its metadata says {BASES[said or ''].title}, but its tensors fit {BASES[told].title}.")
    if (told, said) == ("flux1", "chroma") or SAME_TENSORS.get(told or "") == said is not None:
        key, notes = said, []
    if facts.naming == "unknown":
        notes.append("Its names are those of no program that is known here; other programs may not read it.")
    if key is None:
        notes.append("The base model cannot be told. Say for which one it was made.")
    elif _runs(key, families) is None:
        notes.append(not_here(BASES[key].title))
    if key in SAME_TENSORS:
        notes.append(BASES[key].note)
    lost = without_place(header, key)
    if key is not None and lost:
        notes.append(words_for(lost, BASES[key].title))
        facts = facts.model_copy(update={"unplaced": len(lost), "unplaced_names": tuple(lost[:MOST_NAMES])})
    relative = _relative(header, key or "", "ss_sd_model_name", "ss_new_sd_model_hash")
    kind = facts.algorithm
    return Recognised(
        kind="lora", model_type="DoRA" if kind == "DoRA" else "LORA" if kind == "LoRA" else "LoCon",
        architecture=key, base_model=(relative or _first_name(key)) if key else None,
        family=_runs(key, families), prediction=prediction_of(header)[0],
        zero_terminal_snr=header.metadata.get("ss_zero_terminal_snr") == "True", adapter=facts, why=why,
        notes=tuple(notes), **_common(header),
    )  # fmt: skip


def recognise_text(header: Header, said: str) -> Recognised:
    """The text encoder of a folder, `said` being what its configuration calls it."""
    return _component(header, find_text_encoder(View(header), said))


def _component(header: Header, found: Component) -> Recognised:
    key = found.architecture
    return Recognised(
        kind=found.kind, model_type=MODEL_TYPES[found.kind][0], architecture=key,
        base_model=found.name or (BASES[key].names[0] if key else None), layout=found.layout,
        component=found.component, embedding=found.embedding, why=found.why,
        notes=(found.note,) if found.note else (), **_common(header),
    )  # fmt: skip
