"""The REST API as the command line uses it: one client, errors as sentences, exit codes that mean something.

Exit codes: 0 done, 1 the job failed, 2 the request was refused (a field, a file), 3 not logged in
or not allowed, 4 the server cannot be reached.
"""

import json
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import httpx
import typer

EXIT_FAILED, EXIT_REFUSED, EXIT_LOGIN, EXIT_SERVER = 1, 2, 3, 4
TERMINAL = ("succeeded", "failed", "canceled", "expired")
PATIENCE = 10
"""Tries of a part of a large file: about three minutes, enough for a server that starts again."""
FORM_LIMIT = 16 << 20
"""Larger files go by an upload session."""


def config_path() -> Path:
    base = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(base) / "bottega" / "login.json"


def save_login(server: str, token: str) -> Path:
    """Keep address and token for this user only."""
    path = config_path()
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.touch(mode=0o600)
    path.write_text(json.dumps({"server": server.rstrip("/"), "token": token}))
    return path


def load_login() -> tuple[str, str]:
    """(address, token) from BOTTEGA_URL and BOTTEGA_TOKEN, else from the last login."""
    path = config_path()
    try:
        saved = json.loads(path.read_text()) if path.exists() else {}
    except ValueError:
        raise stop(f"{path} cannot be read. Log in again with: bottega login", EXIT_LOGIN) from None
    server = os.environ.get("BOTTEGA_URL") or saved.get("server") or "http://127.0.0.1:8000"
    return server.rstrip("/"), os.environ.get("BOTTEGA_TOKEN") or saved.get("token", "")


def stop(words: str, code: int) -> typer.Exit:
    typer.echo(words, err=True)
    return typer.Exit(code)


def connect(server: str, headers: dict[str, str]) -> httpx.Client:
    return httpx.Client(base_url=server, headers=headers, timeout=httpx.Timeout(60, read=300))


class Client:
    """One server and one token. Every refusal ends the command with its words and a code."""

    def __init__(self, server: str | None = None, token: str | None = None) -> None:
        known_server, known_token = load_login()
        self.server = (server or known_server).rstrip("/")
        token = known_token if token is None else token
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._http = connect(self.server, headers)

    def close(self) -> None:
        self._http.close()

    def call(self, method: str, path: str, **options: Any) -> httpx.Response:
        """The answer, once it is a success. Reads are tried thrice, writes only with an Idempotency-Key.

        A read that came too often waits as long as the server says.
        """
        repeatable = method == "GET" or "Idempotency-Key" in options.get("headers", {})
        for attempt in range(3 if repeatable else 1):
            try:
                answer = self._http.request(method, path, **options)
            except httpx.TransportError as error:
                failure = str(error) or type(error).__name__
            else:
                if method == "GET" and answer.status_code == 429 and attempt < 2:
                    time.sleep(min(float(answer.headers.get("Retry-After", 1)), 60.0))
                    continue
                if answer.status_code < 500 or answer.status_code == 507:
                    return self._checked(answer)
                failure = _words(answer)
            time.sleep(attempt)
        raise stop(f"{self.server} cannot be reached: {failure}", EXIT_SERVER)

    def _checked(self, answer: httpx.Response) -> httpx.Response:
        if answer.is_success or answer.is_redirect:
            return answer
        if answer.status_code in (401, 403):
            hint = "" if answer.status_code == 403 else " Log in with: bottega login"
            raise stop(_words(answer) + hint, EXIT_LOGIN)
        raise stop(_words(answer), EXIT_REFUSED)

    def get(self, path: str, **params: Any) -> Any:
        return self.call("GET", path, params=params).json()

    def post(self, path: str, body: Any = None, **options: Any) -> Any:
        return self.call("POST", path, json=body, **options).json()

    def download(self, path: str, target: Path, on_bytes: Callable[[int, int], None] | None = None) -> Path:
        """Fetch to a file; a broken download goes on where it stopped. Gives the file's path."""
        part = target.with_name(target.name + ".part")
        have = part.stat().st_size if part.exists() else 0
        headers = {"Range": f"bytes={have}-"} if have else {}
        with self._http.stream("GET", path, headers=headers, follow_redirects=True) as answer:
            if answer.status_code == 416:
                part.replace(target)
                return target
            if not answer.is_success:
                answer.read()
                self._checked(answer)
            have = have if answer.status_code == 206 else 0
            total = have + int(answer.headers.get("Content-Length", 0))
            with part.open("ab" if have else "wb") as out:
                for chunk in answer.iter_bytes(1 << 20):
                    out.write(chunk)
                    have += len(chunk)
                    if on_bytes:
                        on_bytes(have, total)
        part.replace(target)
        return target

    def follow(self, job_id: str, seconds: float = 0.7) -> Iterator[dict[str, Any]]:
        """The job as it is now, again and again, until it is over."""
        while True:
            job = self.get(f"/api/v1/jobs/{job_id}")
            yield job
            if job["status"] in TERMINAL:
                return
            time.sleep(seconds)

    def put(
        self,
        path: str,
        body: Callable[[], Iterable[bytes]],
        size: int,
        pause: Callable[[float], object] = time.sleep,
    ) -> None:
        """Send `size` bytes, tried again for some minutes; `body` gives them anew for each try."""
        headers = {"Content-Length": str(size), "Content-Type": "application/octet-stream"}
        failure = ""
        for attempt in range(PATIENCE):
            wait = min(30.0, 2.0**attempt)
            try:
                answer = self._http.request("PUT", path, content=body(), headers=headers)
            except httpx.TransportError as error:
                failure = str(error) or type(error).__name__
            else:
                if answer.status_code != 429 and (answer.status_code < 500 or answer.status_code == 507):
                    self._checked(answer)
                    return
                failure = _words(answer)
                wait = min(float(answer.headers.get("Retry-After", wait)), 60.0)
            pause(wait)
        words = f"{self.server} cannot be reached: {failure} Run the same command again to go on."
        raise stop(words, EXIT_SERVER)

    def finish(self, job: dict[str, Any]) -> dict[str, Any]:
        """The job when it is over. Ends the command with its words when it did not succeed."""
        if job["status"] not in TERMINAL:
            job = deque(self.follow(job["id"]), maxlen=1).pop()
        if job["status"] != "succeeded":
            detail = (job.get("error") or {}).get("detail") or f"The job is {job['status']}."
            raise stop(detail, EXIT_FAILED)
        return job


def _words(answer: httpx.Response) -> str:
    """The sentence of a problem+json or of a Civitai-shaped error."""
    try:
        body = answer.json()
    except ValueError:
        return f"The server answered {answer.status_code}."
    detail = (
        body.get("detail")
        or body.get("error")
        or body.get("title")
        or f"The server answered {answer.status_code}."
    )
    fields = [f"  {e['pointer'].removeprefix('#/')}: {e['detail']}" for e in body.get("errors", [])]
    return "\n".join([str(detail), *fields])
