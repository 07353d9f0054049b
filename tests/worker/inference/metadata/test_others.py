"""Programs with a JSON of their own: each in the shape that it writes, read into the same infotext."""

import json
from pathlib import Path

import pytest

from tests.worker.inference.metadata.graphs import simple
from tests.worker.inference.metadata.pictures import exif_picture, png, written
from worker.inference.metadata.infotext import SecondPass, UsedLora, read
from worker.inference.metadata.reading import Found, Resource, read_file

SHA = "ab" * 32

FOOOCUS = {
    "prompt": "a heron",
    "negative_prompt": "text",
    "styles": "['Fooocus V2', 'Sharp']",
    "performance": "Speed",
    "steps": 30,
    "resolution": "(768, 1280)",
    "guidance_scale": 4.0,
    "sharpness": 2.0,
    "seed": "6952411511246973023",
    "base_model": "harbourXL",
    "base_model_hash": "aeb7e9e689",
    "refiner_model": "None",
    "clip_skip": 2,
    "sampler": "dpmpp_2m_sde_gpu",
    "scheduler": "karras",
    "vae": "Default (model)",
    "metadata_scheme": "fooocus",
    "loras": [["ink", 0.4, "0123456789"]],
    "version": "Fooocus v2.4.3",
}
INVOKE = {
    "generation_mode": "sdxl_txt2img",
    "positive_prompt": "a heron",
    "negative_prompt": "text, blurry+",
    "positive_style_prompt": "",
    "width": 1024,
    "height": 832,
    "seed": 3293022630,
    "rand_device": "cpu",
    "cfg_scale": 8.0,
    "steps": 35,
    "scheduler": "dpmpp_2m_k",
    "clip_skip": 1,
    "app_version": "5.6.0",
    "model": {"key": "7", "hash": f"blake3:{SHA}", "name": "Harbour XL", "base": "sdxl", "type": "main"},
    "loras": [{"model": {"name": "ink", "hash": f"blake3:{SHA[::-1]}"}, "weight": 0.55}],
    "vae": {"name": "fixed-vae", "base": "sdxl"},
}
SWARM = {
    "sui_image_params": {
        "prompt": "a heron",
        "negativeprompt": "text",
        "model": "Official/harbour_xl",
        "seed": 11,
        "steps": 20,
        "cfgscale": 7.0,
        "width": 896,
        "height": 1152,
        "sampler": "dpmpp_3m_sde_gpu",
        "scheduler": "exponential",
        "loras": ["Lora/ink"],
        "loraweights": ["0.9"],
        "clipstopatlayer": -2,
        "automaticvae": True,
        "refinerupscale": 1.5,
        "refinercontrolpercentage": 0.4,
        "swarm_version": "0.9.3.1",
    },
    "sui_extra_data": {"date": "2025-01-25"},
    "sui_models": [
        {"name": "Official/harbour_xl.safetensors", "param": "model", "hash": f"0x{SHA}"},
        {"name": "Lora/ink.safetensors", "param": "used_loras", "hash": f"0x{'cd' * 32}"},
    ],
}
NOVELAI = {
    "Software": "NovelAI",
    "Description": "a heron, {sharp}",
    "Source": "Stable Diffusion 1D44365E",
    "Comment": {
        "steps": 28,
        "sampler": "k_euler_ancestral",
        "seed": 2253955223,
        "strength": 0.7,
        "noise": 0.0,
        "scale": 10.0,
        "uc": "text",
        "width": 512,
        "height": 768,
    },
}
DRAW_THINGS = (
    "<x:xmpmeta xmlns:x='adobe:ns:meta/'><rdf:RDF><rdf:Description><exif:UserComment><rdf:Alt>"
    '<rdf:li xml:lang="x-default">{&quot;c&quot;:&quot;a heron&quot;,&quot;uc&quot;:&quot;text&quot;,'
    "&quot;seed&quot;:5,&quot;steps&quot;:12,&quot;scale&quot;:4.5,&quot;sampler&quot;:&quot;Euler A&quot;,"
    "&quot;size&quot;:&quot;512x640&quot;,&quot;model&quot;:&quot;harbour.ckpt&quot;,&quot;lora&quot;:"
    "[{&quot;model&quot;:&quot;ink.ckpt&quot;,&quot;weight&quot;:0.3}]}</rdf:li></rdf:Alt>"
    "</exif:UserComment></rdf:Description></rdf:RDF></x:xmpmeta>"
)


@pytest.fixture
def found(tmp_path: Path, request: pytest.FixtureRequest) -> Found:
    seen = read_file(written(tmp_path, request.param))
    assert seen is not None
    return seen


def of(content: bytes) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("found", [content], indirect=True, ids=["picture"])


@of(png(parameters=FOOOCUS, fooocus_scheme="fooocus"))
def test_fooocus(found: Found) -> None:
    assert found.tool == "Fooocus"
    assert found.text == (
        "a heron <lora:ink:0.4>\nNegative prompt: text\nSteps: 30, Sampler: DPM++ 2M SDE Karras, "
        "Schedule type: Karras, CFG scale: 4, Seed: 6952411511246973023, Size: 768x1280, Model: harbourXL, "
        'Clip skip: 2, Hashes: {"model": "aeb7e9e689", "lora:ink": "0123456789"}, Version: Fooocus v2.4.3'
    )
    assert found.resources == [
        Resource("checkpoint", "harbourXL", "aeb7e9e689"),
        Resource("lora", "ink", "0123456789", 0.4),
    ]
    assert "its styles ['Fooocus V2', 'Sharp']" in found.notes[0]


@of(exif_picture("JPEG", comment=b"UNICODE\0" + json.dumps(FOOOCUS).encode("utf-16-be")))
def test_fooocus_in_a_jpeg(found: Found) -> None:
    assert (found.tool, found.info.seed) == ("Fooocus", 6952411511246973023)


def test_fooocus_with_the_labels_of_its_log_and_with_a1111s_text(tmp_path: Path) -> None:
    log = {
        "Prompt": "a heron",
        "Negative Prompt": "",
        "Steps": 30,
        "Resolution": "(768, 1280)",
        "Seed": 7,
        "Guidance Scale": 4,
        "Sampler": "euler",
        "Scheduler": "normal",
        "Base Model": "harbourXL.safetensors",
        "LoRA 1": "ink.safetensors : 0.25",
        "Version": "v2.1.865",
    }
    found = read_file(written(tmp_path, png(parameters=log)))
    assert found is not None
    assert (found.tool, found.info.model, found.info.size) == ("Fooocus", "harbourXL", (768, 1280))
    assert found.info.loras == [UsedLora("ink", 0.25)]
    text = (
        "a heron, cinematic\nSteps: 30, Sampler: DPM++ 2M SDE Karras, Scheduler: karras, Seed: 7, "
        "Size: 768x1280, "
        'Raw prompt: "a heron,\\nsharp", Lora hashes: "ink: 0123456789", Lora weights: "ink: 0.25", '
        "User: Ann, Version: Fooocus v2.4.3"
    )
    found = read_file(written(tmp_path, png(parameters=text, fooocus_scheme="a1111")))
    assert found is not None
    assert (found.tool, found.info.prompt) == ("Fooocus", "a heron,\nsharp <lora:ink:0.25>")
    assert (found.info.sampler, found.info.loras) == (
        "DPM++ 2M SDE Karras",
        [UsedLora("ink", 0.25, "0123456789")],
    )
    assert "Ann" not in found.text


@of(png(invokeai_metadata=INVOKE))
def test_invoke(found: Found) -> None:
    info = found.info
    assert (found.tool, info.prompt, info.negative_prompt) == (
        "InvokeAI",
        "a heron <lora:ink:0.55>",
        "text, blurry+",
    )
    assert (info.sampler, info.steps, info.cfg_scale, info.seed) == ("DPM++ 2M Karras", 35, 8.0, 3293022630)
    assert (info.size, info.clip_skip, info.settings["RNG"]) == ((1024, 832), 2, "CPU")
    assert found.resources == [
        Resource("checkpoint", "Harbour XL", SHA),
        Resource("lora", "ink", SHA[::-1], 0.55),
        Resource("vae", "fixed-vae"),
    ]
    assert info.settings["Version"] == "InvokeAI 5.6.0"


def test_invoke_3_has_other_names_for_models(tmp_path: Path) -> None:
    old = {
        "positive_prompt": "a (heron)1.2",
        "seed": 1,
        "model": {"model_name": "harbour", "base_model": "sd-1"},
        "loras": [{"lora": {"model_name": "ink"}, "weight": 1.5}],
    }
    found = read_file(written(tmp_path, png(invokeai_metadata=old)))
    assert found is not None
    assert (found.info.model, found.info.loras) == ("harbour", [UsedLora("ink", 1.5)])
    assert "InvokeAI's way" in found.notes[0]


def test_the_older_invokes(tmp_path: Path) -> None:
    image = {
        "prompt": [{"prompt": "a heron, [text, fog], dawn", "weight": 1.0}],
        "steps": 50,
        "cfg_scale": 5,
        "sampler": "k_lms",
        "seed": 2980747362,
        "width": 512,
        "height": 768,
    }
    meta = {
        "model": "stable diffusion",
        "model_weights": "harbour_v08",
        "model_hash": SHA,
        "app_version": "2.3.0",
        "image": image,
    }
    dream = '"a heron, [text, fog], dawn" -s 50 -S 2980747362 -W 512 -H 768 -C 5.0 -A k_lms -G 0.9 -U 4 0.95'
    for texts in ({"sd__metadata": meta, "Dream": dream}, {"Dream": dream}):
        found = read_file(written(tmp_path, png(**texts)))
        assert found is not None
        info = found.info
        assert (found.tool, info.prompt, info.negative_prompt) == ("InvokeAI", "a heron, dawn", "text, fog")
        assert (info.steps, info.seed, info.size, info.cfg_scale) == (50, 2980747362, (512, 768), 5.0)
        assert info.sampler == "LMS"
        assert info.model == ("harbour_v08" if "sd__metadata" in texts else None)
        assert info.model_hash == (SHA if "sd__metadata" in texts else None)


@of(png(parameters=SWARM))
def test_swarm(found: Found) -> None:
    info = found.info
    assert (found.tool, info.prompt, info.negative_prompt) == ("SwarmUI", "a heron <lora:ink:0.9>", "text")
    assert (info.sampler, info.seed, info.size, info.clip_skip) == (
        "DPM++ 3M SDE Exponential",
        11,
        (896, 1152),
        2,
    )
    assert info.hires == SecondPass(1.5, None, "", None, 0.4)
    assert found.resources == [
        Resource("checkpoint", "harbour_xl", SHA[:12]),
        Resource("lora", "ink", "cd" * 6, 0.9),
    ]


@of(png(**NOVELAI))
def test_novelai(found: Found) -> None:
    info = found.info
    assert (found.tool, info.prompt, info.negative_prompt) == ("NovelAI", "a heron, {sharp}", "text")
    assert (info.sampler, info.steps, info.cfg_scale, info.size) == ("Euler a", 28, 10.0, (512, 768))
    assert (info.model, info.model_hash, info.denoise) == ("Stable Diffusion", "1d44365e", None)
    assert "1.05" in found.notes[0]


def test_novelai_4_has_people_apart(tmp_path: Path) -> None:
    people = {"base_caption": "two herons", "char_captions": [{"char_caption": "one white"}]}
    comment = {
        "prompt": "two herons",
        "v4_prompt": {"caption": people},
        "steps": 23,
        "noise_schedule": "karras",
        "sampler": "k_dpmpp_2m",
    }
    found = read_file(
        written(tmp_path, png(Software="NovelAI", Comment=comment, Source="NovelAI Diffusion V4"))
    )
    assert found is not None
    assert found.info.prompt == "two herons\none white"
    assert (found.info.sampler, found.info.model) == ("DPM++ 2M Karras", "NovelAI Diffusion V4")


@of(png(**{"XML:com.adobe.xmp": DRAW_THINGS}))
def test_draw_things(found: Found) -> None:
    info = found.info
    assert (found.tool, info.prompt, info.negative_prompt) == (
        "Draw Things",
        "a heron <lora:ink:0.3>",
        "text",
    )
    assert (info.sampler, info.steps, info.seed, info.size) == ("Euler a", 12, 5, (512, 640))
    assert (info.model, info.cfg_scale) == ("harbour", 4.5)


CIVITAI_GRAPH = simple(
    n1={
        "class_type": "CheckpointLoaderSimple",
        "inputs": {"ckpt_name": "urn:air:sdxl:checkpoint:civitai:101055@128078"},
    }
) | {
    "extra": {"airs": ["urn:air:sdxl:checkpoint:civitai:101055@128078", "urn:air:sdxl:lora:civitai:7@222"]},
    "extraMetadata": json.dumps(
        {
            "prompt": "a heron",
            "negativePrompt": "text",
            "steps": 25,
            "cfgScale": 7,
            "sampler": "DPM++ 2M Karras",
            "clipSkip": 2,
            "width": 832,
            "height": 1216,
            "workflowId": "txt2img",
            "resources": [
                {"modelVersionId": 128078, "strength": 1},
                {"modelVersionId": 222, "strength": 0.6},
            ],
        }
    ),
}


@of(exif_picture("JPEG", comment=b"UNICODE\0" + json.dumps(CIVITAI_GRAPH).encode("utf-16-le")))
def test_civitais_jpeg_with_a_graph(found: Found) -> None:
    info = found.info
    assert (found.tool, info.prompt, info.negative_prompt) == ("Civitai", "a heron", "text")
    assert (info.sampler, info.seed, info.size, info.clip_skip) == ("DPM++ 2M Karras", 77, (832, 1216), 2)
    assert found.resources == [
        Resource("checkpoint", "Civitai version 128078"),
        Resource("lora", "Civitai version 222", "", 0.6),
    ]
    assert read(found.text) == info


def test_resources_that_civitai_lists() -> None:
    text = (
        "a heron\nSteps: 20, Sampler: Euler, Seed: 1, "
        'Civitai resources: [{"type":"checkpoint","modelVersionId":12,"modelName":"Harbour",'
        '"versionName":"v2"},'
        '{"air":"urn:air:sd1:lora:civitai:7@222","weight":0.5},'
        '{"type":"embed","modelVersionId":3},{"type":"upscaler","modelVersionId":4},7]'
    )
    info = read(text)
    assert Found("Civitai", info).resources == [
        Resource("checkpoint", "Harbour v2"),
        Resource("lora", "Civitai version 222", "", 0.5),
        Resource("embedding", "Civitai version 3"),
    ]
    named = read(text.replace("a heron", "a heron <lora:ink:0.7>").replace("Seed: 1", "Seed: 1, Model: own"))
    kinds = [(one.kind, one.name) for one in Found("Civitai", named).resources]
    assert kinds == [("checkpoint", "own"), ("lora", "ink"), ("embedding", "Civitai version 3")]


@pytest.mark.parametrize(
    ("text", "tool"),
    [
        ("Version: v1.10.1", "A1111"),
        ("Version: f2.0.1v1.10.1-previous-313", "Forge"),
        ("Version: neo", "Forge"),
        ("App: SD.Next, Version: 0b4f9bc", "SD.Next"),
        ("Version: stable-diffusion.cpp", "stable-diffusion.cpp"),
        ("Version: ComfyUI", "ComfyUI"),
        ("Version: Bottega v0.1.0", "Bottega"),
        ("Created Date: 2025-02-24", "Civitai"),
    ],
)
def test_who_wrote_a_text(tmp_path: Path, text: str, tool: str) -> None:
    found = read_file(written(tmp_path, png(parameters=f"x\nSteps: 1, Sampler: Euler, Seed: 2, {text}")))
    assert found is not None
    assert found.tool == tool


@pytest.mark.parametrize("name", ["Default", "Undefined"])
def test_a_sampler_that_is_not_said_is_none(tmp_path: Path, name: str) -> None:
    text = f"a heron\nSteps: 20, Size: 512x512, Sampler: {name}, Seed: 3, App: SD.Next, Version: 0b4f9bc"
    found = read_file(written(tmp_path, png(parameters=text)))
    assert found is not None
    assert (found.tool, found.info.sampler, found.info.steps) == ("SD.Next", None, 20)


def test_stable_diffusion_cpp_has_names_of_its_own(tmp_path: Path) -> None:
    text = (
        "a heron<lora:ink:1>\nSteps: 4, CFG scale: 1.500000, Guidance: 3.500000, Seed: 42, Size: 512x512, "
        "Model: , RNG: cuda, Sampler: dpm++2m karras, Unet: flux-Q8_0.gguf, VAE: ae.safetensors, "
        "Version: stable-diffusion.cpp"
    )
    found = read_file(written(tmp_path, png(parameters=text)))
    assert found is not None
    assert (found.info.sampler, found.info.model, found.info.vae) == ("DPM++ 2M Karras", "flux-Q8_0", "ae")
    assert found.info.settings["CFG scale"] == "1.5"
    assert found.info.loras == [UsedLora("ink", 1.0)]
