"""`openai` from PyPI: models, pictures as base64 and as addresses, an edit, and a refusal."""

import json
import sys
import urllib.request
from pathlib import Path

import openai

url, token, version, picture = sys.argv[1:]
client = openai.OpenAI(base_url=f"{url}/v1", api_key=token, max_retries=0)
models = [model.id for model in client.models.list()]
beyond = {"seed": 7, "steps": 4, "loras": [{"model_version_id": int(version), "weight": 0.7}]}
made = client.images.generate(
    model=models[0], prompt="tuscafternoon, house", n=2, size="128x128", response_format="b64_json",
    extra_body=beyond,
)  # fmt: skip
linked = client.images.generate(prompt="house", size="128x128", extra_body={"seed": 8, "steps": 2})
with Path(picture).open("rb") as file:
    edited = client.images.edit(
        image=file, prompt="house, night", size="128x128", response_format="b64_json",
        extra_body={"seed": 9, "steps": 4},
    )  # fmt: skip
try:
    client.images.generate(model="nobody/nothing", prompt="house")
except openai.NotFoundError as error:
    refused = [error.status_code, error.code, error.param]
link = linked.data[0].url
print(json.dumps({
    "models": models,
    "made": [image.b64_json for image in made.data],
    "size": made.size,
    "linked": [link, len(urllib.request.urlopen(link).read())],
    "edited": [image.b64_json for image in edited.data],
    "refused": refused,
}))  # fmt: skip
