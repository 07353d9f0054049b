"""BENCHMARKS.md, one section a benchmark; running one again replaces its section and no other."""

import os
import platform
import re
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[2]
TARGET = ROOT / "BENCHMARKS.md"
HEAD = "# Benchmarks\n\nEach section is written by the command that it names, on the machine that it names.\n"


def machine() -> str:
    """This machine in one line: processor, cores, memory, accelerator, Python."""
    processor = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        found = re.search(r"model name\s*:\s*(.+)", info.read_text())
        processor = found.group(1).strip() if found else processor
    parts = [
        f"{os.cpu_count()} cores of {processor}",
        f"{psutil.virtual_memory().total / 2**30:.0f} GiB memory",
        accelerator(),
        f"{platform.system()} {platform.release()}",
        f"Python {platform.python_version()}",
    ]
    return ", ".join(parts)


def accelerator() -> str:
    import torch

    name = torch.cuda.get_device_name() if torch.cuda.is_available() else "no accelerator"
    return f"{name}, torch {torch.__version__}"


def commit() -> str:
    asked = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return asked.stdout.strip() or "no commit"


def table(rows: Sequence[tuple[str, str]]) -> str:
    lines = ["| what | measured |", "|---|---|", *(f"| {what} | {value} |" for what, value in rows)]
    return "\n".join(lines)


def write_section(
    name: str,
    title: str,
    command: str,
    rows: Sequence[tuple[str, str]],
    *,
    text: str = "",
    target: Path = TARGET,
) -> None:
    """Replace section `name`, or add it at the end. `text` is Markdown that follows the table."""
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    when = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, commit {commit()}, load average {load}"
    body = [f"## {title}", f"`{command}` · {when}  \n{machine()}", table(rows), text.strip()]
    section = (
        f"<!-- {name} -->\n" + "\n\n".join(part for part in body if part) + f"\n<!-- end of {name} -->\n"
    )
    old = target.read_text() if target.exists() else HEAD
    pattern = re.compile(rf"<!-- {re.escape(name)} -->\n.*?<!-- end of {re.escape(name)} -->\n", re.DOTALL)
    new = pattern.sub(lambda _: section, old) if pattern.search(old) else f"{old}\n{section}"
    target.write_text(new)
    print(section)
