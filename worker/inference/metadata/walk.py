"""Walks through a ComfyUI graph: up the links from a node to what feeds it, in a bounded number of steps.

Node types are many and new ones come daily, so names of inputs decide, not names of nodes: a chain
of models runs through inputs called `model`, texts end in inputs called `text`, and so on.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any

from worker.inference.metadata.facts import MAX_PROMPT, integer_of, number_of
from worker.inference.metadata.graph import Graph, Node, link_of
from worker.inference.metadata.infotext import clean

MAX_STEPS = 4000
"""Over all walks of one picture: a graph may have cycles, and paths that split and meet again and again."""
PIPES = ("pipe", "basic_pipe", "base_ctx", "context", "ctx", "loader_pipe", "sdxl_tuple")
PASSING = ("", "any", "input", "value", "on_true", "on_false", "any_01", "input1", "input_1")
"""Inputs of nodes that hand on whatever comes: reroutes, switches."""
MODELS = ("model", "model1", "base_model", "unet", "model_opt", "lora_stack", "optional_lora_stack")
LATENTS = (
    "latent_image", "latent", "samples", "latents", "samples_to", "samples1", "samples_destination",
    "destination", "image_embeds", "pixels", "image", "images", "optional_latent", "latent_opt",
)  # fmt: skip
TEXTS = (
    "populated_text", "text", "prompt", "string", "value", "wildcard_text", "prompt_text", "text_input",
    "result", "text_0", "STRING", "content", "positive",
)  # fmt: skip
PAIRS = (("text_g", "text_l"), ("clip_l", "clip_g", "t5xxl"), ("t5xxl", "clip_l"), ("text1", "text2"))
SIDES = (("text_positive", "text_negative"), ("positive", "negative"), ("positive_prompt", "negative_prompt"))
"""Of nodes that give both prompts as texts, the first output being the positive one."""
_PART = re.compile(r"(?:text|string|str|prompt|part|input|s|t)_?(?:[a-z]|[0-9]{1,2})", re.IGNORECASE)
_SEPARATORS = ("delimiter", "separator", "seperator", "sep")
_NEVER = (
    "clip",
    "vae",
    "model",
    "control_net",
    "image",
    "mask",
    "clip_vision_output",
    "style_model",
    "latent",
)


class Walk:
    """One graph and what is left of the steps."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.left = MAX_STEPS

    def step(self) -> bool:
        self.left -= 1
        return self.left > 0

    def follow(self, node: Node, keys: Sequence[str]) -> tuple[Node, int] | None:
        """What feeds the first of these inputs that is a link; else a pipe; else the only link there is."""
        for key in (*keys, *PIPES, *PASSING):
            if found := link_of(self.graph, node.inputs.get(key)):
                return found
        links = [found for value in node.inputs.values() if (found := link_of(self.graph, value))]
        return links[0] if len(links) == 1 else None

    def follow_only(self, node: Node | None, key: str) -> tuple[Node, int] | None:
        return link_of(self.graph, node.inputs.get(key)) if node else None

    def chain(self, start: Node, keys: Sequence[str]) -> Iterator[Node]:
        """Nodes upward from `start` (left out) along these inputs."""
        seen = {start.id}
        found = self.follow(start, keys)
        while found and found[0].id not in seen and self.step():
            yield found[0]
            seen.add(found[0].id)
            found = self.follow(found[0], keys)

    def source(self, node: Node, key: str) -> Node | None:
        found = link_of(self.graph, node.inputs.get(key))
        return found[0] if found else None

    # values

    def number(self, value: object, *keys: str, depth: int = 0) -> float | None:
        """A literal, or what the node that feeds it holds under one of these names."""
        whole = integer_of(value)
        literal = number_of(value) if whole is None else whole
        found = link_of(self.graph, value)
        if literal is not None or found is None or depth > 20 or not self.step():
            return literal
        node = found[0]
        for key in (*keys, "value", "seed", "int", "float", "number", "Number"):
            if key in node.inputs:
                return self.number(node.inputs[key], *keys, depth=depth + 1)
        upward = self.follow(node, ())
        return self.number([upward[0].id, upward[1]], *keys, depth=depth + 1) if upward else None

    def text(self, value: object, key: str = "", depth: int = 0) -> str:
        """A literal text, or what text nodes put together; `key` is what the wanted value is called."""
        if isinstance(value, dict):  # a chooser with a preview
            value = value.get("content")
        if isinstance(value, str):
            return clean(value[:MAX_PROMPT])
        found = link_of(self.graph, value)
        if found is None or depth > 30 or not self.step():
            return ""
        inputs = found[0].inputs
        both = next((pair for pair in SIDES if all(key in inputs for key in pair)), None)
        if both:
            return self.text(inputs[both[min(found[1], 1)]], key, depth + 1)
        parts = [key for key in inputs if _PART.fullmatch(key) and isinstance(inputs[key], str | list)]
        if len(parts) > 1 and not any(key in inputs for key in TEXTS[:2]):
            return self._joined(inputs, parts, depth)
        for name in (key, *TEXTS):
            if name in inputs and (text := self.text(inputs[name], key, depth + 1)):
                return text
        upward = self.follow(found[0], ())
        return self.text([upward[0].id, upward[1]], key, depth + 1) if upward else ""

    def _joined(self, inputs: dict[str, Any], parts: list[str], depth: int) -> str:
        said = next((inputs[key] for key in _SEPARATORS if isinstance(inputs.get(key), str)), None)
        between = (" " if said is None else said[:20]).replace("\\n", "\n")
        texts = [self.text(inputs[key], depth=depth + 1) for key in parts]
        return between.join(text for text in texts if text)[:MAX_PROMPT]

    # conditioning

    def prompts(self, start: tuple[Node, int], role: str) -> list[tuple[Node, str]]:
        """Every text that reaches a conditioning, with the node that encodes it. `role` is `positive` or
        `negative`: nodes that carry both have inputs of these names."""
        found: list[tuple[Node, str]] = []
        seen: set[str] = set()
        waiting = [start]
        while waiting and self.step():
            node, _ = waiting.pop()
            if node.id in seen or "zeroout" in node.type.lower().replace("_", ""):
                continue
            seen.add(node.id)
            found += [(node, text) for text in self._encoded(node, role) if text.strip()]
            waiting += reversed(self._conditions(node, role))
        return found

    def _encoded(self, node: Node, role: str) -> list[str]:
        for key in (role, f"{role}_prompt", f"text_{role}", f"{role}_text"):
            if isinstance(node.inputs.get(key), str):
                return [self.text(node.inputs[key])]
        if "clip" not in node.inputs and "text" not in node.inputs:
            return []
        for pair in PAIRS:
            if all(key in node.inputs for key in pair):
                return list(dict.fromkeys(self.text(node.inputs[key]) for key in pair))
        held = next((node.inputs[key] for key in TEXTS if key in node.inputs), None)
        return [self.text(held)]

    def _conditions(self, node: Node, role: str) -> list[tuple[Node, int]]:
        named = [key for key in node.inputs if key.lower().startswith("cond") or key == role]
        keys = named or [key for key in (*PIPES, *PASSING) if key in node.inputs]
        found = [link for key in keys if (link := link_of(self.graph, node.inputs[key]))]
        others = [
            link
            for key, value in node.inputs.items()
            if key not in _NEVER
            and key not in ("positive", "negative")
            and (link := link_of(self.graph, value))
        ]
        return found or (others if len(others) == 1 and "clip" not in node.inputs else [])
