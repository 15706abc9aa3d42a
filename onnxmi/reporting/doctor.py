"""What `onnxmi doctor` prints: what a bug report needs of the installation, the machine and the process."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from onnxmi.budget.units import typed_size
from onnxmi.pruning.run_cache import kept_runs
from onnxmi.quantization.processor import saturates
from onnxmi.reporting.tables import Pairs, plain
from onnxmi.runtime.cache_folder import cache_folder
from onnxmi.runtime.environment import Environment, read_environment, without_home
from onnxmi.version import versions

BESIDE = ("click", "rich", "threadpoolctl", "protobuf")  # what is installed with onnxmi, besides what `--version` tells
EXTRAS: Mapping[str, tuple[str, ...]] = {
    "images": ("pillow",),
    "text": ("tokenizers",),
    "parquet": ("pyarrow",),
    "report": ("jinja2", "matplotlib"),
    "bench": ("torch", "scikit-learn"),
    "olive": ("olive-ai",),
}
BUSY = 1.0  # processes a processor above which other work slows a run


def doctor_data() -> dict[str, Any]:
    """Look at everything, and return it as plain data: bytes, and names of folders without the user's own."""
    environment = read_environment()
    return {
        "versions": {**versions(), **_installed(BESIDE)},
        "extras": {name: _installed(packages) for name, packages in EXTRAS.items()},
        "environment": asdict(environment),
        "saturates": saturates(),
        "cache": _cache(),
        "temporary": _folder(Path(tempfile.gettempdir())),
        "remarks": list(_remarks(environment)),
    }


def show_doctor(console: Console, data: Mapping[str, Any]) -> None:
    """Print what `doctor_data` returns."""
    for title, rows in _sections(data).items():
        console.print(Text(title, style="bold"))
        console.print(Pairs([(label, plain(text)) for label, text in rows]))
    for remark in data["remarks"]:
        console.print(plain(f"note: {remark}"))


def _sections(data: Mapping[str, Any]) -> dict[str, list[tuple[str, str]]]:
    machine = data["environment"]
    variables = machine["variables"].items()
    return {
        "Versions": [("python", machine["python"]), *data["versions"].items(), *_extras(data["extras"])],
        "Machine": [
            ("system", machine["system"]),
            ("processor", f"{machine['processor'] or 'unknown'} ({machine['machine']})"),
            ("features", " ".join(machine["features"]) or "unknown"),
            ("8-bit products", "saturate: weights take 7 bits" if data["saturates"] else "exact"),
            ("memory", f"{_size(machine['memory'])}, {_size(machine['free_memory'])} available"),
        ],
        "Process": [
            ("threads", f"{machine['threads']} of {machine['processors']} processors, load {machine['load']}"),
            ("linear algebra", "; ".join(machine["linear_algebra"]) or "unknown"),
            ("onnxruntime", ", ".join(machine["providers"])),
            ("cache", _folder_text(data["cache"])),
            ("temporary", _folder_text(data["temporary"])),
            ("variables", " ".join(f"{name}={value}" for name, value in variables) or "none that matter"),
        ],
    }


def _installed(packages: Sequence[str]) -> dict[str, str | None]:
    return {name: _version(name) for name in packages}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _extras(extras: Mapping[str, Mapping[str, str | None]]) -> Iterator[tuple[str, str]]:
    for name, packages in extras.items():
        text = ", ".join(f"{package} {release or 'missing'}" for package, release in packages.items())
        yield f"extra {name}", text


def _cache() -> dict[str, Any]:
    entries = kept_runs()
    return {**_folder(cache_folder()), "runs": len(entries), "bytes": sum(entry.size for entry in entries)}


def _folder(folder: Path) -> dict[str, Any]:
    """Return where a folder is, whether it can be written to (or made), and the bytes that are free there."""
    there = next((path for path in (folder, *folder.parents) if path.exists()), Path("/"))
    try:
        free: int | None = shutil.disk_usage(there).free
    except OSError:
        free = None
    return {"folder": without_home(folder), "writable": os.access(there, os.W_OK | os.X_OK), "free": free}


def _folder_text(folder: Mapping[str, Any]) -> str:
    kept = f", {folder['runs']} runs kept, {typed_size(folder['bytes'])}" if "runs" in folder else ""
    return f"{folder['folder']}, {'' if folder['writable'] else 'not '}writable, {_size(folder['free'])} free{kept}"


def _size(size: int | None) -> str:
    return "unknown" if size is None else typed_size(size)


def _remarks(environment: Environment) -> Iterator[str]:
    if environment.load is not None and environment.load > BUSY * environment.processors:
        yield "this machine is busy: times mislead; use --threads 1, and --clock cpu with bench and check"
    if environment.threads < environment.processors:
        yield f"the process may use {environment.threads} of {environment.processors} processors"
