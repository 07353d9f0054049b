"""ComfyUI: whatever nodes lie between, the settings of the first picture are found."""

import json
from typing import Any

import pytest

from tests.worker.inference.metadata.graphs import Graph, node, sampler, simple
from worker.inference.metadata.infotext import SecondPass, UsedLora
from worker.inference.metadata.reading import Found, Resource, read_texts
from worker.inference.metadata.texts import Texts


def reading(graph: Graph, keyword: str = "prompt") -> Found:
    texts = Texts()
    texts.keep(keyword, json.dumps(graph))
    found = read_texts(texts)
    assert found is not None
    assert found.tool == "ComfyUI"
    return found


def test_a_plain_graph() -> None:
    found = reading(simple())
    assert found.text == (
        "a lighthouse, dawn\nNegative prompt: fog\n"
        "Steps: 24, Sampler: DPM++ 2M Karras, Schedule type: Karras, CFG scale: 6.5, Seed: 77, "
        "Size: 640x448, Model: harbour-v2, Version: ComfyUI"
    )
    assert found.resources == [Resource("checkpoint", "harbour-v2")]
    assert found.notes == ()


def test_loras_stand_in_the_order_in_which_they_were_attached() -> None:
    graph = simple(
        n8=node(
            "LoraLoader",
            lora_name="ink.safetensors",
            strength_model=0.8,
            strength_clip=0.5,
            model=["1", 0],
            clip=["1", 1],
        ),
        n9=node("LoraLoaderModelOnly", lora_name="sub\\oil.safetensors", strength_model=-0.3, model=["8", 0]),
        n5=sampler(model=["9", 0]),
    )
    found = reading(graph)
    assert found.info.prompt == "a lighthouse, dawn <lora:ink:0.5:0.8> <lora:oil:-0.3>"
    assert found.info.loras == [UsedLora("ink", 0.8, None, 0.5), UsedLora("oil", -0.3)]
    assert found.resources[1:] == [Resource("lora", "ink", "", 0.8), Resource("lora", "oil", "", -0.3)]


@pytest.mark.parametrize(
    "loader",
    [
        node(
            "Power Lora Loader (rgthree)",
            model=["1", 0],
            lora_1={"on": True, "lora": "ink.safetensors", "strength": 0.7},
            lora_2={"on": False, "lora": "oil.safetensors", "strength": 1},
        ),
        node(
            "Lora Loader Stack (rgthree)",
            model=["1", 0],
            lora_01="ink.safetensors",
            strength_01=0.7,
            lora_02="None",
            strength_02=1,
        ),
        node(
            "CR LoRA Stack",
            model=["1", 0],
            switch_1="On",
            lora_name_1="ink.safetensors",
            model_weight_1=0.7,
            switch_2="Off",
            lora_name_2="oil.safetensors",
            model_weight_2=1.0,
        ),
        node(
            "Lora Loader (LoraManager)",
            model=["1", 0],
            text="",
            loras={
                "__value__": [
                    {"name": "ink", "strength": 0.7, "active": True},
                    {"name": "oil", "active": False},
                ]
            },
        ),
    ],
)
def test_stacks_of_loras(loader: dict[str, Any]) -> None:
    found = reading(simple(n8=loader, n5=sampler(model=["8", 0])))
    assert found.info.loras == [UsedLora("ink", 0.7)]
    assert found.info.model == "harbour-v2"


def test_advanced_sampling_with_a_guider() -> None:
    graph = simple(
        n1=node("UNETLoader", unet_name="flux1-dev.safetensors", weight_dtype="default"),
        n3=None,
        n5=node(
            "SamplerCustomAdvanced",
            noise=["10", 0],
            guider=["11", 0],
            sampler=["12", 0],
            sigmas=["13", 0],
            latent_image=["4", 0],
        ),
        n10=node("RandomNoise", noise_seed=2**53 + 1),
        n11=node("BasicGuider", model=["1", 0], conditioning=["14", 0]),
        n12=node("KSamplerSelect", sampler_name="euler"),
        n13=node("BasicScheduler", scheduler="beta", steps=20, denoise=1.0, model=["1", 0]),
        n14=node("FluxGuidance", guidance=3.5, conditioning=["2", 0]),
    )
    info = reading(graph).info
    assert (info.prompt, info.negative_prompt) == ("a lighthouse, dawn", "")
    assert (info.sampler, info.schedule, info.steps, info.seed) == ("Euler Beta", "Beta", 20, 2**53 + 1)
    assert info.settings["Distilled CFG Scale"] == "3.5"
    assert (info.model, info.cfg_scale, info.denoise) == ("flux1-dev", None, None)


def test_sampler_custom_takes_class_names_for_sampler_and_schedule() -> None:
    graph = simple(
        n5=node(
            "SamplerCustom",
            add_noise=True,
            noise_seed=5,
            cfg=4.0,
            model=["1", 0],
            positive=["2", 0],
            negative=["3", 0],
            sampler=["8", 0],
            sigmas=["9", 0],
            latent_image=["4", 0],
        ),
        n8=node("SamplerDPMPP_2M_SDE", solver_type="midpoint", eta=1.0),
        n9=node("KarrasScheduler", steps=18, sigma_max=14.6),
    )
    info = reading(graph).info
    assert (info.sampler, info.steps, info.cfg_scale, info.seed) == ("DPM++ 2M SDE Karras", 18, 4.0, 5)


def test_the_second_pass_is_hires_fix() -> None:
    second = {"latent_image": ["8", 0], "steps": 10, "denoise": 0.5400000000000001, "seed": 1}
    graph = simple(
        n8=node("LatentUpscaleBy", upscale_method="nearest-exact", scale_by=1.5, samples=["5", 0]),
        n9=sampler(**second),
    )
    found = reading(graph)
    assert found.info.hires == SecondPass(1.5, None, "Latent (nearest)", 10, 0.54)
    assert (found.info.seed, found.info.size) == (77, (640, 448))
    assert found.notes == ("A further pass drew 10 steps with DPM++ 2M at denoise 0.54.",)


def test_a_second_pass_over_pixels_and_an_upscaling_model() -> None:
    graph = simple(
        n8=node("ImageUpscaleWithModel", upscale_model=["9", 0], image=["6", 0]),
        n9=node("UpscaleModelLoader", model_name="4x-Sharp.pth"),
        n10=node("ImageScaleBy", upscale_method="lanczos", scale_by=0.5, image=["8", 0]),
        n11=node("VAEEncode", pixels=["10", 0], vae=["1", 2]),
        n12=sampler(latent_image=["11", 0], steps=12, denoise=0.4),
    )
    assert reading(graph).info.hires == SecondPass(2.0, None, "4x-Sharp", 12, 0.4)
    graph["10"] = node("ImageScale", upscale_method="lanczos", width=1280, height=896, image=["6", 0])
    assert reading(graph).info.hires == SecondPass(None, (1280, 896), "Lanczos", 12, 0.4)


def test_a_start_picture_has_the_size_of_the_result() -> None:
    graph = simple(
        n4=node("VAEEncode", pixels=["8", 0], vae=["1", 2]),
        n8=node("LoadImage", image="a.png"),
        n5=sampler(denoise=0.6),
    )
    texts = Texts()
    texts.size = (512, 768)
    texts.keep("prompt", json.dumps(graph))
    found = read_texts(texts)
    assert found is not None
    assert (found.info.size, found.info.denoise, found.info.hires) == ((512, 768), 0.6, None)


def test_texts_go_through_controls_areas_and_string_nodes() -> None:
    graph = simple(
        n2=node("CLIPTextEncode", text=["20", 0], clip=["25", 0]),
        n20=node("StringConcatenate", string_a="a pier", string_b=["21", 0], delimiter=", "),
        n21=node("PrimitiveStringMultiline", value="wide angle"),
        n22=node(
            "ControlNetApplyAdvanced",
            positive=["23", 0],
            negative=["3", 0],
            control_net=["24", 0],
            image=["8", 0],
        ),
        n23=node("ConditioningSetArea", conditioning=["2", 0], width=64, height=64, strength=1.0),
        n24=node("ControlNetLoader", control_net_name="depth.safetensors"),
        n25=node("CLIPSetLastLayer", stop_at_clip_layer=-2, clip=["1", 1]),
        n5=sampler(positive=["22", 0], negative=["22", 1], seed=["26", 0]),
        n26=node("PrimitiveNode", value=4242),
    )
    info = reading(graph).info
    assert (info.prompt, info.negative_prompt) == ("a pier, wide angle", "fog")
    assert (info.clip_skip, info.seed) == (2, 4242)


def test_combined_texts_stand_one_after_the_other() -> None:
    graph = simple(
        n8=node("CLIPTextEncode", text="gulls", clip=["1", 1]),
        n9=node("ConditioningCombine", conditioning_1=["2", 0], conditioning_2=["8", 0]),
        n5=sampler(positive=["9", 0]),
    )
    found = reading(graph)
    assert found.info.prompt == "a lighthouse, dawn\ngulls"
    assert found.notes == ("2 texts were combined in the graph; they stand one after the other.",)


def test_two_encoders_with_one_text_count_once_and_zeroed_texts_not() -> None:
    graph = simple(
        n2=node(
            "CLIPTextEncodeSDXL", width=1024, height=1024, text_g="a pier", text_l="a pier", clip=["1", 1]
        ),
        n8=node("ConditioningZeroOut", conditioning=["2", 0]),
        n5=sampler(negative=["8", 0]),
    )
    info = reading(graph).info
    assert (info.prompt, info.negative_prompt) == ("a pier", "")


def test_efficient_nodes_carry_everything_in_one_loader() -> None:
    loader = node(
        "Efficient Loader",
        ckpt_name="harbour.ckpt",
        lora_name="ink.safetensors",
        lora_model_strength=0.6,
        lora_clip_strength=0.6,
        positive="a pier",
        negative="fog",
        empty_latent_width=704,
        empty_latent_height=512,
        clip_skip=-2,
        vae_name="Baked VAE",
    )
    sampling = sampler(
        kind="KSampler (Efficient)",
        model=["1", 0],
        positive=["1", 1],
        negative=["1", 2],
        latent_image=["1", 3],
        sampler_name="uni_pc",
    )
    info = reading({"1": loader, "2": sampling}).info
    assert (info.prompt, info.negative_prompt) == ("a pier <lora:ink:0.6>", "fog")
    assert (info.size, info.model, info.sampler, info.vae) == ((704, 512), "harbour", "UniPC Karras", None)


def test_embeddings_and_a_vae_get_their_common_names() -> None:
    graph = simple(
        n3=node("CLIPTextEncode", text="(embedding:EasyNegative.pt:1.2), fog", clip=["1", 1]),
        n8=node("VAELoader", vae_name="kl-mse.safetensors"),
        n6=node("VAEDecode", samples=["5", 0], vae=["8", 0]),
    )
    found = reading(graph)
    assert found.info.negative_prompt == "(EasyNegative:1.2), fog"
    assert Resource("vae", "kl-mse") in found.resources


def drawing(graph: Graph) -> dict[str, Any]:
    """The graph as the page draws it: values in a bare list, links numbered."""
    nodes: list[Any] = []
    links: list[Any] = []
    for key, one in graph.items():
        values, inputs = [], []
        for name, value in one["inputs"].items():
            if isinstance(value, list):
                links.append([len(links) + 1, int(value[0]), value[1], int(key), 0, "ANY"])
                inputs.append({"name": name, "type": "ANY", "link": len(links)})
            else:
                values += [value, "randomize"] if name == "seed" else [value]
        nodes.append(
            {"id": int(key), "type": one["class_type"], "mode": 0, "inputs": inputs, "widgets_values": values}
        )
    return {"last_node_id": 99, "nodes": nodes, "links": links, "version": 0.4}


def test_a_drawing_alone_gives_the_same() -> None:
    graph = simple(
        n8=node(
            "LoraLoader",
            lora_name="ink.safetensors",
            strength_model=0.8,
            strength_clip=0.8,
            model=["1", 0],
            clip=["1", 1],
        ),
        n5=sampler(model=["8", 0]),
    )
    drawn = drawing(graph)
    assert reading(drawn, "workflow") == reading(graph)
    next(one for one in drawn["nodes"] if one["id"] == 8)["mode"] = 4
    assert reading(drawn, "workflow") == reading(simple())


def test_a_graph_without_a_sampler_says_so() -> None:
    found = reading({"1": node("LoadImage", image="a.png")})
    assert found.info.prompt == ""
    assert "no sampler" in found.notes[0]


def cyclic() -> Graph:
    return simple(
        n1=node("LoraLoader", lora_name="ink", model=["5", 0], clip=["1", 1]),
        n2=node("ConditioningCombine", conditioning_1=["2", 0], conditioning_2=["9", 0]),
        n9=node("ConditioningCombine", conditioning_1=["2", 0], conditioning_2=["9", 0]),
        n3=node("CLIPTextEncode", text=["3", 0], clip=["3", 0]),
        n4=node("LatentUpscale", samples=["5", 0], width=["4", 0], height=["4", 0]),
        n5=sampler(seed=["5", 0], steps=["2", 0]),
    )


def splitting(levels: int) -> Graph:
    """Texts doubled at each level: as many paths as 2 to the power of the levels."""
    graph = simple(n2=node("CLIPTextEncode", text=["100", 0], clip=["1", 1]))
    for n in range(100, 100 + levels):
        below = [str(n + 1), 0]
        graph[str(n)] = node("StringConcatenate", string_a=below, string_b=below, delimiter="")
    return graph | {str(100 + levels): node("PrimitiveString", value="x" * 1000)}


@pytest.mark.timeout(60)
def test_cycles_and_endless_splits_end() -> None:
    assert reading(cyclic()).info.size is None
    assert set(reading(splitting(28)).info.prompt) <= {"x"}
    samplers = {str(n): sampler(latent_image=[str(n + 1), 0]) for n in range(100, 900)}
    assert reading(simple() | samplers).tool == "ComfyUI"


def test_texts_and_names_may_come_from_nodes_that_hold_several() -> None:
    styled = node("SDXLPromptStyler", text_positive="a pier", text_negative="fog", style="none")
    chosen = node("Sampler Selector", sampler_name="heun", scheduler="exponential")
    graph = simple(
        n2=node("CLIPTextEncode", text=["20", 0], clip=["1", 1]),
        n3=node("CLIPTextEncode", text=["20", 1], clip=["1", 1]),
        n5=sampler(sampler_name=["21", 0], scheduler=["21", 1]),
        n20=styled,
        n21=chosen,
        n1=node("CheckpointLoader|pysssss", ckpt_name={"content": "harbour.safetensors", "image": None}),
    )
    info = reading(graph).info
    assert (info.prompt, info.negative_prompt) == ("a pier", "fog")
    assert (info.sampler, info.schedule, info.model) == ("Heun Exponential", "Exponential", "harbour")


def test_a_stack_counts_only_what_is_in_use() -> None:
    stack = node(
        "LoRA Stacker",
        input_mode="simple",
        lora_count=1,
        lora_name_1="ink.safetensors",
        lora_wt_1=0.7,
        model_str_1=1.0,
        clip_str_1=1.0,
        lora_name_2="oil.safetensors",
        lora_wt_2=1.0,
    )
    graph = simple(
        n8=stack,
        n9=node("Apply", model=["1", 0], clip=["1", 1], lora_stack=["8", 0]),
        n5=sampler(model=["9", 0]),
    )
    assert reading(graph).info.loras == [UsedLora("ink", 0.7)]


def test_an_infotext_beside_the_graph_says_more() -> None:
    texts = Texts()
    texts.keep("prompt", json.dumps(simple()))
    texts.keep(
        "parameters", "a pier\nSteps: 9, Sampler: Euler, Seed: 3, Model hash: 0123456789, Version: ComfyUI"
    )
    found = read_texts(texts)
    assert found is not None
    assert (found.tool, found.info.prompt, found.info.model_hash) == ("ComfyUI", "a pier", "0123456789")
    words = Texts()
    words.keep("prompt", json.dumps(simple()))
    words.keep("parameters", "only words")
    assert read_texts(words) == reading(simple())
