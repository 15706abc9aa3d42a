"""What the machine and the process are like, as far as times and results depend on it."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_info

from onnxmi.runtime.session import providers
from onnxmi.runtime.threads import available_threads

PROC = Path("/proc")
# Flags of processors that float and 8-bit kernels depend on, as Linux spells them on x86 and ARM.
FEATURES = (
    *("sse4_2", "avx", "f16c", "fma", "avx2", "avx_vnni", "avx512f", "avx512bw", "avx512vl", "avx512_vnni"),
    *("avx512_bf16", "avx512_fp16", "amx_tile", "amx_int8", "amx_bf16"),
    *("asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve", "sve2"),
)
# Variables of the environment that change threads, places or times.
VARIABLES = (
    *("ONNXMI_CACHE", "XDG_CACHE_HOME", "TMPDIR", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"),
    *("ORT_DISABLE_TELEMETRY", "ONNXMI_TRACEBACK"),
)


@dataclass(frozen=True)
class Environment:
    """The machine and the process.

    Attributes
    ----------
    system, machine, python : str
        Operating system, architecture, and version of Python.
    processor : str
        Its name; "" where the system does not say.
    features : tuple of str
        Of its instructions, those that kernels depend on.
    processors, threads : int
        Processors of the machine; those that the process may use, by its affinity and its container's quota.
    load : float or None
        Processes that wanted to run, on average over the last minute.
    memory, free_memory : int or None
        Bytes of the machine; those that are available.
    providers : tuple of str
        Execution providers of onnxruntime; onnxmi uses that of the CPU.
    linear_algebra : tuple of str
        Libraries of linear algebra with their threads.
    variables : mapping of str to str
        Those of `VARIABLES` that are set; the user's home folder is written as ``~``.
    """

    system: str
    machine: str
    python: str
    processor: str
    features: tuple[str, ...]
    processors: int
    threads: int
    load: float | None
    memory: int | None
    free_memory: int | None
    providers: tuple[str, ...]
    linear_algebra: tuple[str, ...]
    variables: Mapping[str, str]


def read_environment(proc: Path = PROC) -> Environment:
    """Look at the machine and the process.

    Parameters
    ----------
    proc : path
        Where Linux tells of processors and memory; what it does not tell is left out.
    """
    cpu, memory = _read(proc / "cpuinfo"), _read(proc / "meminfo")
    flags = set(_field(cpu, "flags", "Features").split())
    return Environment(
        system=platform.platform(),
        machine=platform.machine(),
        python=f"{platform.python_implementation()} {platform.python_version()}",
        processor=_field(cpu, "model name", "Model") or platform.processor(),
        features=tuple(name for name in FEATURES if name in flags),
        processors=os.cpu_count() or 1,
        threads=available_threads(),
        load=_load(),
        memory=_kilobytes(memory, "MemTotal"),
        free_memory=_kilobytes(memory, "MemAvailable"),
        providers=providers(),
        linear_algebra=tuple(sorted(map(_library, threadpool_info()))),
        variables={name: without_home(os.environ[name]) for name in VARIABLES if name in os.environ},
    )


def free_memory(proc: Path = PROC) -> int | None:
    """Return the bytes that processes can still take without swapping; None where the system does not tell."""
    return _kilobytes(_read(proc / "meminfo"), "MemAvailable")


def processor_identity(proc: Path = PROC) -> str:
    """Return what tells processors apart, as the operating system writes it: their names and instructions."""
    lines = _read(proc / "cpuinfo").splitlines()
    named = sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))})
    return "\n".join(named) or platform.processor() or platform.machine()


def without_home(path: str | Path) -> str:
    """Return a path with ``~`` for the home folder, whose name is often that of a person."""
    with suppress(RuntimeError, ValueError):  # without a home there is nothing to hide
        return str(Path("~") / Path(path).relative_to(Path.home()))
    return str(path)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _field(text: str, *names: str) -> str:
    return next(_values(text, names), "")


def _values(text: str, names: tuple[str, ...]) -> Iterator[str]:
    for name in names:
        match = re.search(rf"^{name}\s*:\s*(.+)$", text, re.MULTILINE)
        if match is not None:
            yield match[1].strip()


def _kilobytes(text: str, name: str) -> int | None:
    value = _field(text, name).split()
    return int(value[0]) * 1024 if value and value[0].isdigit() else None


def _load() -> float | None:
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def _library(info: Mapping[str, Any]) -> str:
    threads = info.get("num_threads")
    return f"{info.get('internal_api')} {info.get('version') or '?'}, {threads} thread{'' if threads == 1 else 's'}"
