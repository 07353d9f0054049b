"""The doctor names what is broken, with the way out, and changes nothing."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from app.cli import doctor
from app.cli.doctor import Finding
from app.cli.environment import adopt, forget
from app.core.config import get_settings


def states(check: Callable[[], list[Finding]]) -> dict[str, str]:
    return {finding.what: finding.state for finding in check()}


def test_a_healthy_installation(real_db: str) -> None:
    findings = doctor.doctor()
    assert not [finding for finding in findings if finding.state == "bad"]
    words = "\n".join(finding.what for finding in findings)
    assert "tables are current" in words
    assert "Valkey answers" in words
    assert "Browser assets are built" in words


def test_every_trouble_has_a_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOTTEGA_HOME", str(tmp_path))
    monkeypatch.setenv("DATABASE_URL", "postgresql://x@127.0.0.1:1/none")
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/0")
    monkeypatch.setenv("BOTTEGA_HOST", "0.0.0.0")
    monkeypatch.setenv("PUBLIC_URL", "http://bottega.example")
    forget()
    findings = [
        f for check in (doctor.check_postgres, doctor.check_valkey, doctor.check_address) for f in check()
    ]
    forget()
    assert [f.state for f in findings] == ["bad", "note", "note", "ok"]
    assert all(f.fix for f in findings if f.state != "ok")
    assert list(tmp_path.iterdir()) == []


def test_without_any_address_the_own_servers_are_offered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BOTTEGA_HOME", str(tmp_path))
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.delenv("REDIS_URL", raising=False)
    forget()
    found: list[Finding] = [*doctor.check_postgres(), *doctor.check_valkey(), *doctor.check_storage()]
    adopt()
    assert get_settings().database.url is None
    forget()
    assert [f.state for f in found] == ["ok", "ok", "ok"]
    assert list(tmp_path.iterdir()) == []


def test_torch_is_found_without_a_device() -> None:
    found = list(doctor.check_torch())
    assert len(found) == 1
    assert found[0].what.startswith("torch 2.13.0")


def test_exit_code_tells(tmp_path: Path) -> None:
    from tests.ops.helpers import ROOT, clean_environment

    env = clean_environment(tmp_path, 8000) | {"DATABASE_URL": "postgresql://x@127.0.0.1:1/none"}
    import sys

    done = subprocess.run(
        [sys.executable, "-m", "app.cli.main", "doctor"],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "correct DATABASE_URL" in done.stdout
