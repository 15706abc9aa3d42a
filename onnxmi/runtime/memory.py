"""How much memory a model takes: the peak of a process of its own that loads the file and runs it.

    python -m onnxmi.runtime.memory MODEL INPUTS.npz THREADS NAME...

prints the bytes by which the process grew at its peak, over what it had with onnxruntime already loaded.
"""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np

from onnxmi.errors import DataError, ModelError
from onnxmi.model.temporary import TemporaryFolder
from onnxmi.runtime.session import Feeds, open_file

if sys.platform != "win32":
    import resource

RUNS = 3  # the first run allocates, later ones may still grow an arena


def peak_memory(path: Path, feeds: Feeds, threads: int) -> int:
    """Return the bytes that loading and running a model adds to a process, at the peak.

    Raises
    ------
    ModelError
        If the process fails.
    """
    with TemporaryFolder() as folder:
        inputs = Path(folder, "inputs.npz")
        # np.savez has parameters of its own, which may have the name of an input
        np.savez(inputs, *feeds.values())
        names = list(feeds)
        command = [sys.executable, "-P", "-m", __name__, str(path), str(inputs), str(threads), *names]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or [f"it ended with {done.returncode}"]
        raise ModelError(f"{path}: the process that measures its memory failed: {last[0]}")
    return int(done.stdout)


def process_peak() -> int:
    """Return the most bytes this process has held so far.

    On Linux not by getrusage: its figure begins at what the process that started this one held.

    Raises
    ------
    DataError
        Where the system does not tell.
    """
    with suppress(OSError), open("/proc/self/status", encoding="ascii") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))
    if sys.platform == "win32":
        raise DataError("peak memory cannot be measured on Windows")
    unit = 1 if sys.platform == "darwin" else 1024
    return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * unit


def forget_peak() -> None:
    """Let the peak begin anew at what is held now, where the system can do that."""
    with suppress(OSError), open("/proc/self/clear_refs", "w", encoding="ascii") as stream:
        stream.write("5")


def main(model: str, inputs: str, threads: str, *names: str) -> None:
    """Measure, and print the result."""
    with np.load(inputs, allow_pickle=False) as archive:
        feeds = dict(zip(names, (archive[key] for key in archive.files), strict=True))
    forget_peak()
    before = process_peak()
    session = open_file(os.fspath(model), threads=int(threads))
    for _ in range(RUNS):
        session.run(feeds)
    print(process_peak() - before)


if __name__ == "__main__":
    main(*sys.argv[1:])
