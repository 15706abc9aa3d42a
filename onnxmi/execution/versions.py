"""A worker with another version of what results depend on would give other results: it is refused by name."""

from __future__ import annotations

from collections.abc import Mapping

from onnxmi.execution.executor import WorkerError
from onnxmi.runtime.session import version as onnxruntime_version
from onnxmi.version import __version__


def own_versions() -> dict[str, str]:
    """Return the versions of this process."""
    return {"onnxmi": __version__, "onnxruntime": onnxruntime_version()}


def require_same(asked: Mapping[str, str], there: Mapping[str, str | None], where: str) -> None:
    """Refuse a worker.

    Parameters
    ----------
    asked : mapping
        Versions of whoever hands in the work.
    there : mapping
        Versions of the worker; None for what is not installed.
    where : str
        Name of the worker.

    Raises
    ------
    WorkerError
        Naming the first that differs.
    """
    for name, version in asked.items():
        if there.get(name) != version:
            has = f"has {name} {there[name]}" if there.get(name) else f"lacks {name}"
            raise WorkerError(f"worker {where} {has}; this is {name} {version}: results would differ")
