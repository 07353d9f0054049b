"""A ComfyUI graph → what its first picture was made with. Further passes are told of in notes.

Of several chains of samplers the longest counts: its first sampler starts from the empty latents or
from a picture, and the first later one after an enlargement is what others call hires fix.
"""

import re
from collections.abc import Iterator
from typing import Any

from worker.inference.metadata.facts import Facts, File, number_of, size_of, stem, text_of
from worker.inference.metadata.graph import Graph, Node
from worker.inference.metadata.infotext import SecondPass, plain
from worker.inference.metadata.others import objects
from worker.inference.metadata.samplers import name_sampler
from worker.inference.metadata.walk import LATENTS, MODELS, Walk

CHECKPOINTS = (
    "ckpt_name",
    "unet_name",
    "base_ckpt_name",
    "ckpt_name_1",
    "model_name",
    "checkpoint",
    "model_path",
)
_EMBEDDING = re.compile(r"\bembedding:([^\s,():<>]{1,200})")
_NUMBERED = re.compile(r"(?:lora_name_|lora_|lora)([0-9]{1,2})")
_RESIZED = {"nearest-exact": "Latent (nearest)", "nearest": "Latent (nearest)"}
_OF_PIXELS = {"lanczos": "Lanczos", "nearest-exact": "Nearest", "nearest": "Nearest"}


def comfy(graph: Graph) -> tuple[Facts, list[str]] | None:
    """None where no node looks like a sampler."""
    walk = Walk(graph)
    samplers = [node for node in graph.values() if _is_sampler(node)]
    if not samplers:
        return None
    chains = [_passes(walk, sampler) for sampler in samplers[:50]]
    passes = max(chains, key=len)
    return _Picture(walk, passes, len(samplers)).facts()


def _is_sampler(node: Node) -> bool:
    keys = node.inputs.keys()
    draws = keys & {"steps", "sampler_name", "sampler", "sigmas"}
    starts = keys & {
        "latent_image",
        "latent",
        "samples",
        "latents",
        "image_embeds",
        "pipe",
        "basic_pipe",
        "context",
    }
    guided = keys & {"positive", "guider", "conditioning", "text_embeds", "pipe", "basic_pipe", "context"}
    return bool(draws and starts and guided)


def _passes(walk: Walk, last: Node) -> list[tuple[Node, list[Node]]]:
    """The samplers up from `last`, the first pass first, each with the nodes before it (nearest first)."""
    passes: list[tuple[Node, list[Node]]] = [(last, [])]
    for node in walk.chain(last, LATENTS):
        if _is_sampler(node):
            passes.append((node, []))
        else:
            passes[-1][1].append(node)
    return passes[::-1]


class _Picture:
    def __init__(self, walk: Walk, passes: list[tuple[Node, list[Node]]], samplers: int) -> None:
        self.walk = walk
        self.passes = passes
        self.main, self.before = passes[0]
        self.guider = walk.source(self.main, "guider")
        self.notes: list[str] = []
        self.guidance: float | None = None
        if samplers > len(passes):
            self.notes.append(
                f"The graph has {samplers} samplers; the longest chain, of {len(passes)}, is told here."
            )

    def facts(self) -> tuple[Facts, list[str]]:
        sampler, schedule = self.sampler(self.main)
        encoders = self.encoders("positive")
        checkpoint, loras = self.models()
        denoise = self.denoise(self.main)
        facts = Facts(
            prompt=self.joined(encoders),
            negative_prompt=self.joined(self.encoders("negative")),
            steps=_whole(self.value(self.main, "steps")),
            sampler=sampler,
            schedule=schedule,
            cfg_scale=self.value(self.main, "cfg", "cfg1", "true_gs", "cfg_scale"),
            distilled_cfg=self.guidance,
            seed=self.seed(),
            size=self.size(self.before),
            model=checkpoint,
            vae=self.vae(),
            loras=tuple(loras),
            embeddings=(),
            denoise=denoise if denoise is not None and denoise < 1 else None,
            clip_skip=self.clip_skip(encoders[0][0]) if encoders else 1,
            hires=self.hires(),
            frames=self.frames(),
            fps=self.of_any("fps", "frame_rate"),
            shift=self.of_any("shift"),
            version="ComfyUI",
        )
        return facts, self.notes

    def value(self, node: Node, *keys: str) -> float | None:
        """A number of a sampler, or of its guider."""
        for place in (node, self.walk.source(node, "guider")):
            for key in keys:
                if place and key in place.inputs:
                    return _short(self.walk.number(place.inputs[key], key))
        sigmas = self.sigmas(node)
        return _short(self.walk.number(sigmas.inputs.get(keys[0]), keys[0])) if sigmas else None

    def word(self, node: Node, key: str) -> str:
        return self.walk.text(node.inputs.get(key), key)

    def sigmas(self, node: Node) -> Node | None:
        """The node that lays the noise levels, for samplers that take them from outside."""
        if "sigmas" not in node.inputs:
            return None
        return next((up for up in self.walk.chain(node, ("sigmas", "sigma")) if "steps" in up.inputs), None)

    def sampler(self, node: Node) -> tuple[str, str]:
        name, schedule = self.word(node, "sampler_name"), self.word(node, "scheduler")
        if not name and (chosen := self.walk.source(node, "sampler")):
            name = self.word(chosen, "sampler_name") or chosen.type.removeprefix("Sampler")
        if not schedule and (sigmas := self.sigmas(node)):
            schedule = self.word(sigmas, "scheduler") or sigmas.type.removesuffix("Scheduler")
        return name_sampler(text_of(name), text_of(schedule) or "normal")

    def seed(self) -> int | None:
        noise = self.walk.source(self.main, "noise")
        for node in (self.main, noise):
            for key in ("seed", "noise_seed"):
                if node and key in node.inputs:
                    return _whole(self.walk.number(node.inputs[key], key, "seed", "noise_seed"))
        return None

    def denoise(self, node: Node) -> float | None:
        return self.value(node, "denoise", "denoise_strength")

    # texts

    def encoders(self, role: str) -> list[tuple[Node, str]]:
        keys = (
            (role, "conditioning", "text_embeds", "cond1")
            if role == "positive"
            else (role, "text_embeds", "neg_conditioning")
        )
        for place in (self.main, self.guider):
            for key in (*keys, "pipe", "basic_pipe", "context") if place else ():
                if start := self.walk.follow_only(place, key):
                    found = self.walk.prompts(start, role)
                    if role == "positive":
                        self.guided(start[0])
                    return found
        return []

    def guided(self, start: Node) -> None:
        """FluxGuidance on the way to the text."""
        for node in (start, *self.walk.chain(start, ("conditioning", "positive"))):
            if self.guidance is None and "guidance" in node.inputs:
                self.guidance = self.walk.number(node.inputs["guidance"], "guidance")

    def joined(self, encoders: list[tuple[Node, str]]) -> str:
        texts = list(dict.fromkeys(text.strip() for _, text in encoders))
        if len(texts) > 1:
            self.notes.append(
                f"{len(texts)} texts were combined in the graph; they stand one after the other."
            )
        return _EMBEDDING.sub(lambda found: stem(found[1]), "\n".join(texts))

    def clip_skip(self, encoder: Node) -> int:
        for node in self.walk.chain(encoder, ("clip",)):
            for key in ("stop_at_clip_layer", "clip_skip"):
                layer = self.walk.number(node.inputs[key], key) if key in node.inputs else None
                if layer is not None and -12 <= layer < -1:
                    return int(-layer)
        return 1

    # files

    def models(self) -> tuple[File | None, list[File]]:
        """Checkpoint and LoRAs, those nearest to the checkpoint first."""
        start = self.main if "model" in self.main.inputs or self.guider is None else self.guider
        loras: list[File] = []
        for node in (start, *self.walk.chain(start, MODELS)):
            loras = [*_loras(self.walk, node), *loras]
            stack = self.walk.source(node, "lora_stack")
            for up in (stack, *self.walk.chain(stack, ("lora_stack",))) if stack else ():
                loras = [*_loras(self.walk, up), *loras]
            name = next((stem(self.word(node, key)) for key in CHECKPOINTS if key in node.inputs), "")
            if name:
                return File(name), _unique(loras)
        return None, _unique(loras)

    def vae(self) -> File | None:
        for node in self.walk.graph.values():
            name = text_of(node.inputs.get("vae_name"))
            if name and not name.lower().startswith(("baked", "automatic", "none")):
                return File(stem(name))
        return None

    # size

    def size(self, nodes: list[Node]) -> tuple[int, int] | None:
        for node in nodes:
            for width, height in (("width", "height"), ("empty_latent_width", "empty_latent_height")):
                if found := size_of(self.number(node, width), self.number(node, height)):
                    return found
            written = re.search(r"([0-9]{2,5})\s?x\s?([0-9]{2,5})", text_of(node.inputs.get("resolution")))
            if written:
                return size_of(written[1], written[2])
        return None

    def number(self, node: Node, key: str) -> int | None:
        return _whole(self.walk.number(node.inputs.get(key), key))

    def frames(self) -> int | None:
        """Of a clip: how long the latents are that it began with."""
        found = (self.number(node, key) for node in self.before for key in ("length", "num_frames", "frames"))
        return next((frames for frames in found if frames and frames > 1), None)

    def of_any(self, *keys: str) -> float | None:
        """A number of the first node that has it."""
        for node in self.walk.graph.values():
            for key in keys:
                if key in node.inputs:
                    return _short(self.walk.number(node.inputs[key], key))
        return None

    def hires(self) -> SecondPass | None:
        """The first later pass that something was enlarged for; passes after the first are told of."""
        first: SecondPass | None = None
        for sampler, between in self.passes[1:]:
            found = self.enlarged(between)
            steps, denoise = _whole(self.value(sampler, "steps")), self.denoise(sampler)
            self.note(sampler, steps, denoise)
            if found and first is None:
                first = SecondPass(found.scale, found.size, found.upscaler, steps, denoise)
        return first

    def note(self, sampler: Node, steps: int | None, denoise: float | None) -> None:
        name, _ = self.sampler(sampler)
        strength = f" at denoise {plain(denoise)}" if denoise is not None else ""
        self.notes.append(
            f"A further pass drew {steps or 'some'} steps with {name or 'another sampler'}{strength}."
        )

    def enlarged(self, between: list[Node]) -> SecondPass | None:
        """How the nodes between two passes made the picture larger; a model's factor is in its name."""
        factor, by_model = 1.0, ""
        found = next((each for node in between if (each := self.resized(node))), None)
        for node in between:
            if model := self.walk.source(node, "upscale_model"):
                by_model = stem(self.word(model, "model_name"))
                digits = re.search(r"([248])x|x([248])", by_model, re.IGNORECASE)
                factor = float(digits[1] or digits[2]) if digits else 1.0
        if found is None:
            return SecondPass(scale=factor, upscaler=by_model) if factor > 1 else None
        scale = _short(found.scale * factor) if found.scale else None
        return SecondPass(scale, found.size, by_model or found.upscaler)

    def resized(self, node: Node) -> SecondPass | None:
        method = text_of(node.inputs.get("upscale_method"))
        latent = "samples" in node.inputs
        words = (_RESIZED if latent else _OF_PIXELS).get(method, "Latent" if latent else method)
        scale = self.walk.number(node.inputs.get("scale_by"), "scale_by")
        size = size_of(self.number(node, "width"), self.number(node, "height"))
        if method and (scale or size):
            return SecondPass(scale=scale, size=None if scale else size, upscaler=words)
        return None


def _loras(walk: Walk, node: Node) -> Iterator[File]:
    """LoRAs that one node attaches, whatever its way of listing them."""
    inputs = node.inputs
    if "lora_name" in inputs:
        unet = _first(walk, inputs, "strength_model", "lora_model_strength", "strength", "lora_wt", "weight")
        text = _first(walk, inputs, "strength_clip", "lora_clip_strength")
        yield from _lora(walk.text(inputs["lora_name"], "lora_name"), unet, text)
    for key, value in inputs.items():
        if isinstance(value, dict) and isinstance(value.get("lora"), str) and value.get("on", True):
            unet, text = number_of(value.get("strength")), number_of(value.get("strengthTwo"))
            yield from _lora(value["lora"], unet, text)
        elif (number := _NUMBERED.fullmatch(key)) and isinstance(value, str):
            yield from _numbered(walk, inputs, value, number[1])
    listed = inputs.get("loras")
    listed = listed.get("__value__") if isinstance(listed, dict) else listed
    for entry in objects(listed):
        if entry.get("active", True):
            unet, text = number_of(entry.get("strength")), number_of(entry.get("clipStrength"))
            yield from _lora(entry.get("name"), unet, text)


def _numbered(walk: Walk, inputs: dict[str, Any], name: str, n: str) -> Iterator[File]:
    """One place of a stack. Places behind its count, and those switched off, hold what was chosen once."""
    count = walk.number(inputs.get("lora_count"))
    if inputs.get(f"switch_{n}") == "Off" or (count is not None and int(n) > count):
        return
    if inputs.get("input_mode") == "simple":
        yield from _lora(name, _first(walk, inputs, f"lora_wt_{n}"), None)
        return
    unet = _first(walk, inputs, f"model_weight_{n}", f"strength_{n}", f"model_str_{n}", f"lora_wt_{n}")
    yield from _lora(name, unet, _first(walk, inputs, f"clip_weight_{n}", f"clip_str_{n}"))


def _lora(name: object, unet: float | None, text: float | None) -> Iterator[File]:
    strength = 1.0 if unet is None else round(unet, 4)
    if found := stem(name):
        yield File(found, strength=strength, text_encoder_strength=None if text is None else round(text, 4))


def _first(walk: Walk, inputs: dict[str, Any], *keys: str) -> float | None:
    return next((walk.number(inputs[key], key) for key in keys if key in inputs), None)


def _unique(loras: list[File]) -> list[File]:
    return list({lora.name: lora for lora in loras}.values())


def _short(number: float | None) -> float | None:
    """ComfyUI's sliders leave 0.8700000000000001."""
    return number if number is None or isinstance(number, int) else round(number, 4)


def _whole(number: float | None) -> int | None:
    return int(number) if number is not None and number == int(number) else None
