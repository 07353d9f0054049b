"""The container files, as far as they can be tried without an engine."""

import re
import shutil
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic_settings import BaseSettings

from app.core.config import Settings
from tests.ops.helpers import ROOT

OWN_SERVICES = ("web", "migrate", "worker-train", "worker-generate")
FOREIGN_VARIABLES = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}  # read by the S3 client itself


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return found


def known_variables() -> set[str]:
    """Every environment variable that some group of the settings reads."""
    names = set()
    for group in vars(Settings()).values():
        assert isinstance(group, BaseSettings)
        prefix = group.model_config.get("env_prefix", "")
        for name, field in type(group).model_fields.items():
            choices = getattr(field.validation_alias, "choices", [])
            names |= {
                f"{prefix}{name}".upper(),
                *(str(choice) for choice in choices if str(choice).isupper()),
            }
    return names


def test_the_services_are_complete(compose: dict[str, Any]) -> None:
    services = compose["services"]
    assert set(services) == {*OWN_SERVICES, "postgres", "valkey"}
    for name, service in services.items():
        assert "healthcheck" in service or name == "migrate"
        volumes = {volume.split(":")[0] for volume in service["volumes"]}
        assert volumes <= set(compose["volumes"])
        for needed in service.get("depends_on", {}):
            assert needed in services


@pytest.mark.parametrize("service", OWN_SERVICES)
def test_every_variable_is_known_to_the_settings(compose: dict[str, Any], service: str) -> None:
    given = set(compose["services"][service]["environment"])
    assert given - FOREIGN_VARIABLES <= known_variables()


def test_every_variable_of_the_help_is_known() -> None:
    text = subprocess.run([ROOT / "dev", "help"], capture_output=True, text=True, check=True).stdout
    named = set(re.findall(r"\b(?:BOTTEGA_[A-Z_]+|[A-Z]+_URL)\b", text))
    assert named - {"BOTTEGA_TORCH_INDEX", "BOTTEGA_PYTHON"} <= known_variables()


def commands(compose: dict[str, Any]) -> list[list[str]]:
    """What the containers run: compose's commands, the images' own, and the health checks of our services."""
    found = []
    for name in OWN_SERVICES:
        service = compose["services"][name]
        image = (ROOT / service["build"]["dockerfile"]).read_text()
        default = re.findall(r"^CMD (\[.*\])$", image, re.MULTILINE)[-1]
        found.append(service.get("command") or yaml.safe_load(default))
        if "healthcheck" in service:
            found.append(service["healthcheck"]["test"][1:])
    return found


def test_every_command_exists(compose: dict[str, Any]) -> None:
    """The program answers --help and knows each option; health checks of the web are Python that compiles."""
    for command in commands(compose):
        program, *rest = command
        if rest[:1] == ["-c"]:
            compile(rest[1], "healthcheck", "exec")
            continue
        module = {"bottega": ["app.cli.main"], "uvicorn": ["uvicorn"], "python": rest[1:2]}[program]
        words = rest[2:] if program == "python" else rest
        told = help_of(*module, *(word for word in words[:1] if program == "bottega"))
        for option in (word for word in words if word.startswith("--")):
            assert option.replace("--no-", "--") in told.replace("--no-", "--")


@cache
def help_of(*parts: str) -> str:
    """What `python -m PARTS --help` prints."""
    command = [sys.executable, "-m", *parts, "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_images_copy_what_is_there_and_install_known_extras() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for name in ("Dockerfile.web", "Dockerfile.worker"):
        text = (ROOT / name).read_text()
        for source in re.findall(r"^COPY (\S+) ", text, re.MULTILINE):
            assert (ROOT / source).exists()
        assert set(re.findall(r"\[(\w+)\]\"", text)) <= set(extras)
    assert "torch" not in re.sub(r"#.*", "", (ROOT / "Dockerfile.web").read_text())


def test_the_web_process_starts_without_torch() -> None:
    """In this environment everything is installed; the import must not ask for it."""
    program = (
        "import sys; from app.main import create_app; create_app(); "
        "print([n for n in ('torch', 'diffusers', 'transformers', 'peft') if n in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.slow
def test_a_clean_environment_with_extra_web_starts(tmp_path: Path) -> None:
    """The steps of Dockerfile.web: a wheel, an empty environment, the extra `web`, the application."""
    source = tmp_path / "src"
    shutil.copytree(
        ROOT,
        source,
        ignore=shutil.ignore_patterns(".git", ".venv", "data", "node_modules", "dist", "__pycache__"),
    )
    (source / "node_modules").symlink_to(ROOT / "node_modules")
    python = install_web(source, tmp_path)
    program = (
        "import importlib.util as u; from app.main import create_app; create_app(); "
        "from app.web.templating import asset; assert asset('app.css') != '/static/app.css'; "
        "import app.cli.migrate as m; assert (m.ROOT / 'migrations' / 'env.py').exists(); "
        "print([n for n in ('torch', 'diffusers', 'transformers', 'peft') if u.find_spec(n)])"
    )
    done = subprocess.run([python, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def install_web(source: Path, folder: Path) -> Path:
    """The wheel with the extra `web`, in an environment that has not even pip besides; gives its Python."""
    pip = [sys.executable, "-m", "pip", "-q"]
    build: list[str | Path] = [
        *pip,
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        folder / "wheels",
        source,
    ]
    subprocess.run(build, check=True)
    (wheel,) = (folder / "wheels").glob("bottega-*.whl")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    python = folder / "venv" / "bin" / "python"
    into: list[str | Path] = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        python,
        "-q",
        "install",
        "--no-compile",
    ]
    subprocess.run([*into, "-c", ROOT / "constraints.txt", f"{wheel}[web]"], check=True)
    return python
