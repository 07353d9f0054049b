"""`webuiapi` from PyPI: lists, drawing with a LoRA, drawing from a picture, what a picture says of itself."""

import json
import sys

import webuiapi

url, token, lora = sys.argv[1:]
api = webuiapi.WebUIApi(baseurl=f"{url}/sdapi/v1", username="anybody", password=token, sampler="Euler a")
title = api.get_sd_models()[0]["title"]
api.set_options({"sd_model_checkpoint": title})
drawn = api.txt2img(
    prompt=f"tuscafternoon, tower <lora:{lora}:0.7>", negative_prompt="night", seed=21, steps=4, cfg_scale=5,
    width=128, height=128, batch_size=2,
)  # fmt: skip
changed = api.img2img(
    images=[drawn.image], prompt="tower, night", seed=5, steps=4, cfg_scale=5, width=128, height=128,
    denoising_strength=0.6,
)  # fmt: skip
api.interrupt()
print(json.dumps({
    "model": title,
    "chosen": api.get_options()["sd_model_checkpoint"],
    "loras": [found["name"] for found in api.get_loras()],
    "samplers": [found["name"] for found in api.get_samplers()],
    "sizes": [image.size for image in drawn.images],
    "pictures": drawn.json["images"],
    "info": drawn.info,
    "parameters": drawn.parameters,
    "changed": changed.json["images"],
    "said": api.png_info(drawn.image).info,
    "progress": api.get_progress()["progress"],
}))  # fmt: skip
