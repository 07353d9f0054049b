"""Programs that others published for Civitai, A1111 and OpenAI, unchanged, against a whole installation.

The catalogue is made here too: a LoRA is trained and published, and its file uploaded again as another.
"""

import base64
import csv
import hashlib
import io
import json
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.e2e.clients.packages import HERE, python_client, run, run_node, run_python
from tests.e2e.clients.proxy import Mapped, mapped
from tests.e2e.installation import Installation, running
from tests.e2e.rest import Script
from worker.starter.example_set import write_example_set

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
"""Starting, training and publishing come before the first of them, which takes minutes on a busy machine."""
TRAINED, UPLOADED = "Tuscan afternoon", "Tuscany, again"
SIZE = (128, 128)


@dataclass(frozen=True)
class Catalogue:
    """The models as our own API tells of them, and the bytes of their files."""

    installation: Installation
    token: str
    script: Script
    trained: dict[str, Any]
    uploaded: dict[str, Any]
    trained_file: bytes
    uploaded_file: bytes
    checkpoint: str
    """AIR of the starter."""

    @property
    def url(self) -> str:
        return self.installation.url

    @property
    def version(self) -> dict[str, Any]:
        return dict(self.trained["modelVersions"][0])

    @property
    def lora_name(self) -> str:
        return str(self.version["files"][0]["name"]).removesuffix(".safetensors")


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Catalogue]:
    with running(
        BOTTEGA_TRUSTED_PROXIES="127.0.0.1", BOTTEGA_LIMIT_WRITES_PER_MINUTE="10000"
    ) as installation:
        installation.bottega(
            "user", "create", "lorenzo", "--password-stdin", stdin="a password for programs\n"
        )
        scopes = "read,train,generate,publish"
        made = json.loads(installation.bottega("token", "create", "lorenzo", "--scopes", scopes, "--json"))
        script = Script(installation.url, made["token"])
        with closing(script.http):
            yield _fill(installation, made["token"], script, tmp_path_factory.mktemp("set"))


def _fill(installation: Installation, token: str, script: Script, folder: Path) -> Catalogue:
    write_example_set(folder)
    pictures = sorted(folder.iterdir())
    dataset = script.upload_set(pictures[:8], "Tuscany")
    training = script.train(dataset, name=TRAINED, trigger="tuscafternoon", max_steps=8)
    trained = script.publish(training["id"])
    file = script.download(trained["modelVersions"][0]["id"])
    again = _renamed(file)
    (folder / "again.safetensors").write_bytes(again)
    said = installation.bottega(
        "upload", str(folder / "again.safetensors"), "--name", UPLOADED, "--publish", "public", "--json",
        BOTTEGA_URL=installation.url, BOTTEGA_TOKEN=token,
    )  # fmt: skip
    listed = script.call("GET", "/api/v1/models", params={"types": "LORA", "nsfw": "true"})["items"]
    uploaded = next(model for model in listed if model["name"] == UPLOADED)
    assert str(uploaded["id"]) in said
    _until_counted(script)
    base = script.call("GET", f"/api/v1/model-versions/{script.starter_version()}")
    return Catalogue(installation, token, script, trained, uploaded, file, again, base["air"])


def _until_counted(script: Script) -> None:
    """Creators and tags are counted now and then: wait until both models are."""
    end = time.monotonic() + 120
    while True:
        people = script.call("GET", "/api/v1/creators", params={"query": "lorenzo"})["items"]
        if [person["modelCount"] for person in people] == [2]:
            return
        assert time.monotonic() < end, people
        time.sleep(0.5)


def _renamed(file: bytes) -> bytes:
    """The same tensors under another title: other bytes, the same AutoV3 of nothing but itself."""
    length = int.from_bytes(file[:8], "little")
    header = json.loads(file[8 : 8 + length])
    header["__metadata__"]["modelspec.title"] = UPLOADED
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + file[8 + length :]


@pytest.fixture
def civitai_com(catalogue: Catalogue, tmp_path: Path) -> Iterator[Mapped]:
    """https://civitai.com leads to our server, for programs that know no other address."""
    with mapped(tmp_path, catalogue.url.removeprefix("http://")) as found:
        yield found


def _image(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content))


def _png(text: str) -> Image.Image:
    return _image(base64.b64decode(text))


def _fetch(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=60) as answer:
        return bytes(answer.read())


def test_civitdl_downloads_a_model_with_its_pictures(
    catalogue: Catalogue, civitai_com: Mapped, tmp_path: Path
) -> None:
    """By its page and by its number; the file is whole, the hashes and the pictures lie beside it."""
    out = tmp_path / "models"
    model, version = catalogue.uploaded["id"], catalogue.uploaded["modelVersions"][0]
    page = f"https://civitai.com/models/{model}/anything?modelVersionId={version['id']}"
    said = run(
        [sys.executable, str(HERE / "downloader.py"), page, str(catalogue.trained["id"]), str(out),
         "--api-key", catalogue.token, "--nsfw-mode", "2", "--max-images", "9", "--with-prompt",
         "--pause-time", "0.1", "--retry-count", "0", "--cache-mode", "0"],
        {"PYTHONPATH": str(python_client("civitdl")), "HOME": str(tmp_path), **civitai_com.environment},
    )  # fmt: skip
    assert said.count("Download completed") == 2, said
    files = {path.name: path for path in out.rglob("*") if path.is_file()}
    for one, content, name in (
        (catalogue.uploaded, catalogue.uploaded_file, "again"),
        (catalogue.trained, catalogue.trained_file, catalogue.lora_name),
    ):
        first = one["modelVersions"][0]
        stem = f"{name}-mid_{one['id']}-vid_{first['id']}"
        assert files[f"{stem}.safetensors"].read_bytes() == content
        with files[f"{stem}.csv"].open() as lines:
            hashes = {row[0].strip(): row[1].strip() for row in list(csv.reader(lines))[1:]}
        assert hashes == first["files"][0]["hashes"]
        assert hashes["SHA256"] == hashlib.sha256(content).hexdigest().upper()
        told = json.loads(files[f"model_dict-mid_{one['id']}-vid_{first['id']}.json"].read_text())
        assert (told["name"], told["creator"]["username"]) == (one["name"], "lorenzo")
    pictures = [path for path in files.values() if path.suffix == ".png"]
    assert len(pictures) == len(catalogue.version["images"]) > 0
    assert {_image(path.read_bytes()).size for path in pictures} == {SIZE}
    assert f"GET /api/v1/model-versions/{version['id']}" in civitai_com.seen


def test_the_wrapper_civitai_reads(catalogue: Catalogue, civitai_com: Mapped) -> None:
    model, version = catalogue.trained, catalogue.version
    digits = version["files"][0]["hashes"]["AutoV2"].lower()
    found = run_python(
        "civitai", "wrapper.py", str(model["id"]), str(version["id"]), digits, **civitai_com.environment
    )
    assert found["listed"] == [[catalogue.uploaded["id"], UPLOADED, "lorenzo", found["listed"][0][3]]]
    assert found["paged"][:2] == [1, 1]
    assert found["paged"][2].startswith("https://civitai.com/api/v1/models?")
    assert found["model"] == [model["id"], TRAINED, "LORA", model["description"], model["tags"], 0]
    link = f"https://civitai.com/api/download/models/{version['id']}"
    assert found["versions"] == [[version["id"], link, [version["files"][0]["hashes"]]]]
    assert found["version"] == [version["id"], model["id"], version["baseModel"], ["tuscafternoon"], None]
    assert found["by_hash"] == version["id"]
    assert all(url.startswith("https://civitai.com/images/") for url, *_ in found["pictures"])
    assert found["people"] == [["lorenzo", 2, "https://civitai.com/api/v1/models?username=lorenzo"]]
    assert found["words"][1] == 1


def test_civitai_py_draws(catalogue: Catalogue) -> None:
    air = catalogue.version["air"]
    found = run_python(
        "civitai-py",
        "civitai_py.py",
        catalogue.url,
        catalogue.checkpoint,
        air,
        CIVITAI_API_TOKEN=catalogue.token,
    )
    [job] = found["made"]["jobs"]
    picture = _image(_fetch(job["result"]["blobUrl"]))
    assert (picture.format, picture.size) == ("PNG", SIZE)
    assert "Seed: 11" in picture.info["parameters"]
    assert catalogue.lora_name in picture.info["parameters"]
    assert found["again"]["jobs"][0]["result"]["blobKey"] == job["result"]["blobKey"]
    [stopped] = found["stopped"]
    assert (stopped["scheduled"], stopped["result"].get("blobUrl")) == (False, None)
    assert {job["jobId"], stopped["jobId"]} <= set(found["found"])


def test_webuiapi_draws(catalogue: Catalogue) -> None:
    found = run_python("webuiapi", "webui.py", catalogue.url, catalogue.token, catalogue.lora_name)
    assert found["model"] == found["chosen"]
    assert catalogue.lora_name in found["loras"]
    assert "Euler a" in found["samplers"]
    assert found["sizes"] == [[*SIZE], [*SIZE]]
    assert found["info"]["all_seeds"] == [21, 22]
    assert found["info"]["infotexts"] == [_png(text).info["parameters"] for text in found["pictures"]]
    assert found["said"] == found["info"]["infotexts"][0]
    assert f"<lora:{catalogue.lora_name}:0.7>" in found["said"]
    assert "Negative prompt: night" in found["said"]
    assert _png(found["changed"][0]).tobytes() != _png(found["pictures"][0]).tobytes()
    assert "Denoising strength: 0.6" in _png(found["changed"][0]).info["parameters"]
    assert found["progress"] == 0


def test_openai_draws(catalogue: Catalogue, tmp_path: Path) -> None:
    picture = tmp_path / "start.png"
    Image.new("RGB", SIZE, "olive").save(picture)
    found = run_python(
        "openai",
        "openai_images.py",
        catalogue.url,
        catalogue.token,
        str(catalogue.version["id"]),
        str(picture),
    )
    assert found["models"][0].partition("@")[0].count("/") == 1
    first, second = (_png(text) for text in found["made"])
    assert (first.size, second.size, found["size"]) == (SIZE, SIZE, "128x128")
    assert ["Seed: 7" in first.info["parameters"], "Seed: 8" in second.info["parameters"]] == [True, True]
    link, size = found["linked"]
    assert link.startswith(f"{catalogue.url}/v1/images/")
    assert len(_fetch(link)) == size
    assert "Seed: 9" in _png(found["edited"][0]).info["parameters"]
    assert found["refused"][0] == 404
    assert found["refused"][2] == "model"


def test_npm_civitai_draws(catalogue: Catalogue, tmp_path: Path) -> None:
    air = catalogue.version["air"]
    found = run_node("civitai.mjs", tmp_path, catalogue.url, catalogue.token, catalogue.checkpoint, air)
    assert found["begun"]["jobs"][0]["scheduled"] is True
    [job] = found["made"]["jobs"]
    picture = _image(_fetch(job["result"]["blobUrl"]))
    assert (picture.format, picture.size) == ("PNG", SIZE)
    assert "Seed: 31" in picture.info["parameters"]
    assert (found["one"]["jobId"], found["one"]["result"]["blobKey"]) == (
        job["jobId"],
        job["result"]["blobKey"],
    )
    [providers] = [found["coverage"][catalogue.checkpoint]]
    assert {provider["availability"] for provider in providers.values()} == {"Available"}
    assert found["canceled"]["status"] == 200
    assert job["jobId"] in found["found"]


def test_npm_civitai_client_runs_workflows(catalogue: Catalogue, tmp_path: Path) -> None:
    air = catalogue.version["air"]
    found = run_node("client.mjs", tmp_path, catalogue.url, catalogue.token, catalogue.checkpoint, air)
    assert found["planned"][0] == 200
    made = found["made"]
    assert (made["status"], made["steps"][0]["status"]) == ("succeeded", "succeeded")
    [blob] = made["steps"][0]["output"]["images"]
    picture = _image(_fetch(blob["url"]))
    assert (picture.format, picture.size) == ("PNG", SIZE)
    assert "Seed: 41" in picture.info["parameters"]
    assert (found["tagged"], found["stopped"]) == (204, 204)
    assert found["listed"] == [[made["id"], ["first", "second"]]]
    assert found["resource"]["hashes"]["SHA256"] == hashlib.sha256(catalogue.trained_file).hexdigest().upper()
    assert (
        hashlib.sha256(_fetch(found["resource"]["downloadUrls"][0])).digest()
        == hashlib.sha256(catalogue.trained_file).digest()
    )
    assert found["unknown"][0] == 404
