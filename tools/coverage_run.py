"""One model of a zoo put through one mode, in a process with limits on time and memory: a task for any worker."""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from coverage_one import Record

WAITING = 20  # times as long by the clock as in processor time, on a machine that others use, too


def run_one(name: str, mode: str, zoo: Path, unpacked: Path | None, seed: int, seconds: int, gigabytes: int) -> Record:
    """Unpack a model, examine it, and return its record; a crash is one, too."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = unpacked or Path(scratch)
        if not (folder / f"{name}.onnx").exists():
            subprocess.run([sys.executable, zoo / "zoo.py", "unpack", name, "--to", folder], check=True)
        tool = Path(__file__).with_name("coverage.py")
        command = [sys.executable, tool, "--one", folder / f"{name}.onnx", "--seed", str(seed), "--mode", mode]

        def limit() -> None:
            resource.setrlimit(resource.RLIMIT_AS, (gigabytes << 30, gigabytes << 30))
            resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))

        started = time.perf_counter()
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=WAITING * seconds, preexec_fn=limit)
            record = json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else _crash(done)
        except subprocess.TimeoutExpired:
            record = {"status": "crashed", "why": f"took longer than {WAITING * seconds} s"}
        return {"model": name, **record, "total_s": round(time.perf_counter() - started, 1)}


def _crash(done: subprocess.CompletedProcess[str]) -> Record:
    ended = "was ended at the limit of processor time" if done.returncode == -signal.SIGXCPU else "ended"
    lines = done.stderr.strip().splitlines() or [f"{ended}, exit code {done.returncode}"]
    return {"status": "crashed", "why": lines[-1][:300]}
