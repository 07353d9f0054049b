"""ComfyUI's two shapes as one: nodes by their id, each with its inputs, a link being [node, output].

`prompt` is the graph as it ran. `workflow` is the page's drawing of it, where values stand as a bare
list in the order of the node's widgets: names for the common nodes are kept here, newer pages say them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

MAX_NODES = 4000
_CONTROL = ("fixed", "increment", "decrement", "randomize")
"""What stands after a seed in the drawing: how it changes after each picture; once it was yes or no."""
_MUTED, _BYPASSED = 2, 4

WIDGETS = {
    "KSampler": "seed steps cfg sampler_name scheduler denoise",
    "KSamplerAdvanced": "add_noise noise_seed steps cfg sampler_name scheduler start_at_step end_at_step",
    "SamplerCustom": "add_noise noise_seed cfg",
    "RandomNoise": "noise_seed",
    "KSamplerSelect": "sampler_name",
    "BasicScheduler": "scheduler steps denoise",
    "KarrasScheduler": "steps sigma_max sigma_min rho",
    "CFGGuider": "cfg",
    "FluxGuidance": "guidance",
    "CheckpointLoaderSimple": "ckpt_name",
    "CheckpointLoader": "config_name ckpt_name",
    "unCLIPCheckpointLoader": "ckpt_name",
    "ImageOnlyCheckpointLoader": "ckpt_name",
    "UNETLoader": "unet_name weight_dtype",
    "UnetLoaderGGUF": "unet_name",
    "VAELoader": "vae_name",
    "LoraLoader": "lora_name strength_model strength_clip",
    "LoraLoaderModelOnly": "lora_name strength_model",
    "CLIPSetLastLayer": "stop_at_clip_layer",
    "CLIPTextEncode": "text",
    "CLIPTextEncodeFlux": "clip_l t5xxl guidance",
    "CLIPTextEncodeSDXL": "width height crop_w crop_h target_width target_height text_g text_l",
    "CLIPTextEncodeSDXLRefiner": "ascore width height text",
    "CLIPTextEncodeSD3": "clip_l clip_g t5xxl empty_padding",
    "EmptyLatentImage": "width height batch_size",
    "EmptySD3LatentImage": "width height batch_size",
    "EmptyHunyuanLatentVideo": "width height length batch_size",
    "EmptyLTXVLatentVideo": "width height length batch_size",
    "Wan22ImageToVideoLatent": "width height length batch_size",
    "ModelSamplingSD3": "shift",
    "CreateVideo": "fps",
    "LatentUpscale": "upscale_method width height crop",
    "LatentUpscaleBy": "upscale_method scale_by",
    "ImageScale": "upscale_method width height crop",
    "ImageScaleBy": "upscale_method scale_by",
    "UpscaleModelLoader": "model_name",
    "LoadImage": "image",
    "PrimitiveNode": "value",
    "PrimitiveString": "value",
    "PrimitiveStringMultiline": "value",
    "StringConcatenate": "string_a string_b delimiter",
}


@dataclass(frozen=True)
class Node:
    """`type` is the class of the node; a value of `inputs` is a literal or a link."""

    id: str
    type: str
    inputs: dict[str, Any] = field(default_factory=dict)


Graph = dict[str, Node]


def link_of(graph: Graph, value: object) -> tuple[Node, int] | None:
    """The node and the number of its output that a value points to."""
    if isinstance(value, list) and len(value) == 2 and isinstance(value[0], str | int):
        node = graph.get(str(value[0]))
        if node is not None and isinstance(value[1], int):
            return node, value[1]
    return None


def from_prompt(data: Mapping[str, Any]) -> Graph:
    """The graph as it ran. What is no node is left out; so are Civitai's entries `extra…`."""
    return {
        key: Node(key, node["class_type"], {str(name): value for name, value in node["inputs"].items()})
        for key, node in list(data.items())[:MAX_NODES]
        if isinstance(node, dict)
        and isinstance(node.get("class_type"), str)
        and isinstance(node.get("inputs"), dict)
    }


def from_workflow(data: Mapping[str, Any]) -> Graph:
    """The graph of a drawing: muted nodes left out, bypassed ones without their values."""
    origins = _origins(data.get("links"))
    graph: Graph = {}
    drawn = data.get("nodes")
    for node in drawn[:MAX_NODES] if isinstance(drawn, list) else []:
        if not isinstance(node, dict) or not isinstance(node.get("type"), str) or node.get("mode") == _MUTED:
            continue
        key = str(node.get("id"))
        values = {} if node.get("mode") == _BYPASSED else _values(node)
        graph[key] = Node(key, node["type"], values | _linked(node, origins))
    return graph


def _origins(links: object) -> dict[Any, list[Any]]:
    """Number of a link → [node, output] that it comes from."""
    found = {}
    for link in links if isinstance(links, list) else []:
        if isinstance(link, list) and len(link) >= 3 and isinstance(link[0], int):
            found[link[0]] = [str(link[1]), link[2]]
        elif isinstance(link, dict) and isinstance(link.get("id"), int):
            found[link["id"]] = [str(link.get("origin_id")), link.get("origin_slot")]
    return found


def _inputs(node: Mapping[str, Any]) -> list[dict[str, Any]]:
    inputs = node.get("inputs")
    return [i for i in inputs if isinstance(i, dict)] if isinstance(inputs, list) else []


def _linked(node: Mapping[str, Any], origins: Mapping[Any, list[Any]]) -> dict[str, Any]:
    return {
        str(put.get("name")): origins[put["link"]]
        for put in _inputs(node)
        if isinstance(put.get("link"), int) and put["link"] in origins
    }


def _values(node: Mapping[str, Any]) -> dict[str, Any]:
    """The node's own values by name; those of a list without known names are numbered."""
    values = node.get("widgets_values")
    if isinstance(values, dict):
        return {str(name): value for name, value in values.items()}
    if not isinstance(values, list):
        return {}
    known = WIDGETS.get(node["type"], "").split()
    names = known or [str(put.get("name")) for put in _inputs(node) if isinstance(put.get("widget"), dict)]
    named: dict[str, Any] = {}
    rest = iter(names)
    previous = ""
    for number, value in enumerate(values):
        if previous.endswith("seed") and (value in _CONTROL or isinstance(value, bool)):
            continue
        previous = next(rest, f"value_{number}")
        named[previous] = value
    return named
