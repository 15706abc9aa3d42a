"""Where a run's time and memory go: forward passes of its samples and peak memory, stage by stage.

    python tools/bench_stages.py                                   the bundled residual network, in every mode
    python tools/bench_stages.py MODEL CALIB default "--macs 0.5"  other models and modes

A forward pass is what onnxruntime takes for all samples of the file, in batches of 32, with one thread. Everything is
processor time: a busy machine changes it by some, never by as much as time. Each run is a process of its own and uses
nothing of earlier runs, neither statistics nor times of cuts. A stage's peak is the most that the process held while it
ran.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import numpy as np

import onnxmi
from onnxmi.data.calibration import load_calibration
from onnxmi.pruning.stages import stage_named
from onnxmi.runtime.cache_folder import VARIABLE
from onnxmi.runtime.memory import forget_peak, process_peak
from onnxmi.runtime.session import open_session

ROOT = Path(__file__).resolve().parent.parent
MODES = ("default", "--macs 0.5", "--keep 0.5", "sweep")
BATCH = 32


@click.command(context_settings={"ignore_unknown_options": True})  # modes look like options
@click.argument("model", default=str(ROOT / "models" / "digits-resnet.onnx"))
@click.argument("calib", required=False)
@click.argument("modes", nargs=-1)
def main(model: str, calib: str | None, modes: tuple[str, ...]) -> None:
    """Print a table for each mode: `default`, options of `prune`, or `sweep` with its options."""
    calib = calib or model.removesuffix(".onnx") + ".calib.npz"
    for mode in modes or MODES:
        command = [sys.executable, __file__, "--one", model, calib, mode]
        with TemporaryDirectory() as cache:
            environment = {**os.environ, VARIABLE: cache}
            run = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        if run.returncode:
            print(f"{mode}: {run.stderr.strip().splitlines()[-1:]}")
            continue
        print("\n".join(table(mode, json.loads(run.stdout.splitlines()[-1]))), end="\n\n", flush=True)


def table(mode: str, told: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of a Markdown table of one run."""
    one, stages = told["forward"], told["stages"]
    yield f"**{mode}** ({told['samples']} samples, a forward pass takes {one:.2f} s)"
    yield ""
    yield "| stage | CPU s | forward passes | peak MB |"
    yield "| --- | --: | --: | --: |"
    for name, seconds, peak in stages:
        yield f"| {name} | {seconds:.1f} | {seconds / one:.1f} | {peak / 1e6:,.0f} |"
    seconds, peak = sum(stage[1] for stage in stages), max(stage[2] for stage in stages)
    yield f"| all | {seconds:.1f} | {seconds / one:.1f} | {peak / 1e6:,.0f} |"


class Stages:
    """What a run's progress tells: when each stage ends, and what it took."""

    def __init__(self) -> None:
        self.taken: dict[str, list[float]] = {}
        self._last = time.process_time()
        forget_peak()

    def __call__(self, stage: str, _done: int, _total: int) -> None:
        self.end(stage)

    def end(self, stage: str) -> None:
        """Count what was taken since the last call as a stage's."""
        now = time.process_time()
        seconds, peak = self.taken.get(stage, [0.0, 0.0])
        self.taken[stage] = [seconds + now - self._last, max(peak, float(process_peak()))]
        self._last = now
        forget_peak()


def run_one(model: str, calib: str, mode: str) -> None:
    """Run one mode in this process, and print what it took as JSON."""
    how: dict[str, Any] = {"threads": 1, "fresh": True}
    command, *words = shlex.split(mode)
    options = _options(words if command in ("default", "sweep") else [command, *words])
    samples, forward = forward_pass(model, calib)
    stages = Stages()
    try:
        call = onnxmi.sweep if command == "sweep" else onnxmi.prune
        call(model, calib, **how, **options, progress=stages)
    except onnxmi.OnnxmiError as error:
        raise SystemExit(f"{type(error).__name__}: {error}") from error
    stages.end("report")
    named = [(stage_named(stage).words, *taken) for stage, taken in stages.taken.items()]
    print(json.dumps({"samples": samples, "forward": forward, "stages": named}))


def _options(words: list[str]) -> dict[str, str]:
    """Read pairs of an option and its value, as `--macs 0.5`."""
    names = [word.removeprefix("--").replace("-", "_") for word in words[::2]]
    return dict(zip(names, words[1::2], strict=True))


def forward_pass(model: str, calib: str) -> tuple[int, float]:
    """Return the number of samples, and the CPU seconds of running all of them, the faster of two turns."""
    source = onnxmi.load(model)
    data = load_calibration(calib, source.graph)
    session = open_session(source.proto, threads=1)
    times = []
    for _ in range(2):
        begin = time.process_time()
        for _, feeds in data.batches(np.arange(data.count), BATCH):
            session.run(feeds)
        times.append(time.process_time() - begin)
    return data.count, min(times)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        run_one(*sys.argv[2:5])
    else:
        main()
