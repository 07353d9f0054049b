"""Small ComfyUI graphs as they run: number of a node → its class and inputs."""

from typing import Any

Graph = dict[str, Any]


def node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


def simple(**changes: Any) -> Graph:
    """Text to picture with one checkpoint; nodes of the same number are replaced, None takes one away."""
    graph = {
        "1": node("CheckpointLoaderSimple", ckpt_name="folder/harbour-v2.safetensors"),
        "2": node("CLIPTextEncode", text="a lighthouse, dawn", clip=["1", 1]),
        "3": node("CLIPTextEncode", text="fog", clip=["1", 1]),
        "4": node("EmptyLatentImage", width=640, height=448, batch_size=1),
        "5": node(
            "KSampler", seed=77, steps=24, cfg=6.5, sampler_name="dpmpp_2m", scheduler="karras", denoise=1.0,
            model=["1", 0], positive=["2", 0], negative=["3", 0], latent_image=["4", 0],
        ),
        "6": node("VAEDecode", samples=["5", 0], vae=["1", 2]),
        "7": node("SaveImage", images=["6", 0], filename_prefix="out"),
    }  # fmt: skip
    graph |= {key.lstrip("n"): value for key, value in changes.items()}
    return {key: value for key, value in graph.items() if value is not None}


def sampler(**changes: Any) -> dict[str, Any]:
    """The sampler of `simple` with other inputs; None takes one away."""
    inputs = simple()["5"]["inputs"] | changes
    kind = inputs.pop("kind", "KSampler")
    return node(kind, **{key: value for key, value in inputs.items() if value is not None})
