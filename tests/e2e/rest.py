"""The loop as a script walks it, with plain REST calls: set, training, page, download, pictures."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

TERMINAL = ("succeeded", "failed", "canceled", "expired")


class Script:
    """One token, one server. Every answer that is no success ends the walk with its words."""

    def __init__(self, url: str, token: str) -> None:
        self.http = httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=300)

    def close(self) -> None:
        self.http.close()

    def call(self, method: str, path: str, **options: Any) -> Any:
        answer = self.http.request(method, path, **options)
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def upload_set(self, files: list[Path], name: str, media: str = "image") -> str:
        label_type = "tag" if media == "image" else "caption"
        dataset = self.call(
            "POST", "/api/v1/datasets", json={"name": name, "media": media, "label_type": label_type}
        )
        parts = [("files", (f.name, f.read_bytes())) for f in files]
        answer = self.call("POST", f"/api/v1/datasets/{dataset['id']}/items", files=parts)
        assert answer["rejected"] == [], answer["rejected"]
        return str(dataset["id"])

    def wait(
        self, job_id: str, on_look: Callable[[dict[str, Any]], None] = lambda job: None
    ) -> dict[str, Any]:
        while True:
            job: dict[str, Any] = self.call("GET", f"/api/v1/jobs/{job_id}")
            on_look(job)
            if job["status"] in TERMINAL:
                assert job["status"] == "succeeded", job["error"]
                return job
            time.sleep(0.5)

    def starter_version(self, base_model: str = "Starter 1") -> int:
        models = self.call("GET", "/api/v1/models", params={"types": "Checkpoint", "baseModels": base_model})
        return int(models["items"][0]["modelVersions"][0]["id"])

    def page_of(self, base_model: str) -> str:
        """Address of a starter's model page."""
        found = self.call("GET", "/api/v1/models", params={"types": "Checkpoint", "baseModels": base_model})
        return f"/models/{found['items'][0]['id']}"

    def train(
        self, dataset: str, *, name: str, trigger: str, preset: str = "quick", base: int | None = None,
        **params: Any,
    ) -> dict[str, Any]:  # fmt: skip
        body = {
            "name": name,
            "type": "style",
            "dataset": dataset,
            "base": {"model_version_id": base or self.starter_version()},
            "trigger_word": trigger,
            "preset": preset,
            "params": params,
        }
        return self.wait(self.call("POST", "/api/v1/trainings", json=body)["id"])

    def publish(self, training: str) -> dict[str, Any]:
        rows = self.call("GET", f"/api/v1/trainings/{training}/checkpoints")
        chosen = next(row for row in rows if row["recommended"])
        body = {"checkpoint": chosen["epoch"], "visibility": "public"}
        model: dict[str, Any] = self.call("POST", f"/api/v1/trainings/{training}/publish", json=body)
        return model

    def download(self, version: int) -> bytes:
        answer = self.http.get(f"/api/download/models/{version}", follow_redirects=True)
        assert answer.is_success, answer.text
        return answer.content

    def generate(
        self, prompt: str, *, seed: int, loras: dict[int, float], quantity: int = 1, base: int | None = None
    ) -> list[dict[str, Any]]:
        body = {
            "model_version_id": base or self.starter_version(),
            "prompt": prompt,
            "seed": seed,
            "quantity": quantity,
            "resources": [{"model_version_id": v, "strength": s} for v, s in loras.items()],
        }
        job = self.wait(self.call("POST", "/api/v1/generations", json=body)["id"])
        images: list[dict[str, Any]] = job["output"]["images"]
        return images
