"""What pruning costs and saves: every score with and without repair, on the trained models of a folder.

Each prune is a process of its own, so that its time and peak memory are those of a whole run. A model NAME is three
files: NAME.onnx, NAME.calib.npz (to prune with) and NAME.eval.npz (with labels, to judge by; nothing is chosen on it).

    python tools/bench_prune.py                             the bundled models, at --keep 0.5
    python tools/bench_prune.py --models DIR --keep 0.25    those of another folder
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby, product
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx

from onnxmi import Calibration, load, load_calibration
from onnxmi.evaluation.quality import Quality, compare, outputs
from onnxmi.selection.scores import SCORERS

ROOT = Path(__file__).resolve().parent.parent
SCORES = [score if estimator == "gaussian" else f"{score}/{estimator}" for score, estimator in SCORERS]


@dataclass(frozen=True)
class Setting:
    """What to run; `score` is SCORE or SCORE/ESTIMATOR."""

    model: str
    keep: float
    repair: bool
    score: str
    seed: int

    def arguments(self) -> list[str]:
        score, _, estimator = self.score.partition("/")
        repair = "--repair" if self.repair else "--no-repair"
        chosen = ["--score", score, "--estimator", estimator or "gaussian", "--seed", str(self.seed)]
        return ["--keep", str(self.keep), repair, *chosen]


@dataclass(frozen=True)
class Outcome:
    """What came of it; accuracies and the agreement with the dense model are on the evaluation file."""

    accuracy: float
    dense_accuracy: float
    agreement: float
    parameters: float
    macs: float
    seconds: float
    peak_mb: float


class Bench:
    """A folder of models, the dense outputs computed once each."""

    def __init__(self, folder: Path, threads: int) -> None:
        self.folder, self.threads = folder, threads
        self._dense: dict[str, tuple[Calibration, np.ndarray]] = {}

    def run(self, setting: Setting) -> Outcome:
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder) / "pruned.onnx"
            report, seconds, peak = self._prune(setting, target)
            quality = self._judge(setting.model, target)
        ratios = {key: report["after"][key] / report["before"][key] for key in ("parameters", "macs")}
        if quality.accuracy is None or quality.original_accuracy is None or quality.agreement is None:
            raise click.ClickException(
                f"{setting.model}.eval.npz has no labels for outputs of shape (samples, classes)"
            )
        return Outcome(
            quality.accuracy, quality.original_accuracy, quality.agreement, **ratios, seconds=seconds, peak_mb=peak
        )

    def _prune(self, setting: Setting, target: Path) -> tuple[dict[str, Any], float, float]:
        """Report, seconds and peak memory in MB of a whole run."""
        files = [str(self.folder / f"{setting.model}.{ending}") for ending in ("onnx", "calib.npz")]
        options = [*setting.arguments(), "--threads", str(self.threads), "--json", "--overwrite", "-o", str(target)]
        start = time.perf_counter()
        with tempfile.TemporaryFile() as out:
            process = subprocess.Popen([sys.executable, "-m", "onnxmi", "prune", *files, *options], stdout=out)
            _, status, usage = os.wait4(process.pid, 0)
            seconds = time.perf_counter() - start
            if os.waitstatus_to_exitcode(status):
                raise click.ClickException(f"pruning failed: {setting}")
            out.seek(0)
            return json.load(out), seconds, usage.ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)

    def _judge(self, name: str, target: Path) -> Quality:
        if name not in self._dense:
            model = load(self.folder / f"{name}.onnx")
            samples = load_calibration(self.folder / f"{name}.eval.npz", model.graph)
            self._dense[name] = samples, self._outputs(model.proto, samples)
        samples, dense = self._dense[name]
        return compare(dense, self._outputs(load(target).proto, samples), samples.labels, samples.count)

    def _outputs(self, proto: onnx.ModelProto, samples: Calibration) -> np.ndarray:
        return outputs(proto, samples, np.arange(samples.count), 32, self.threads)


def names(folder: Path) -> list[str]:
    """Models of a folder that have both files of samples."""
    found = (path.name.removesuffix(".eval.npz") for path in sorted(folder.glob("*.eval.npz")))
    return [n for n in found if (folder / f"{n}.onnx").is_file() and (folder / f"{n}.calib.npz").is_file()]


Results = Sequence[tuple[Setting, Outcome]]


def markdown(results: Results) -> Iterator[str]:
    """A table a model and share; several seeds give the mean and the range."""
    for (model, keep), found in groupby(results, key=lambda r: (r[0].model, r[0].keep)):
        rows = list(found)
        first = rows[0][1]
        sizes = f"parameters x {first.parameters:.2f}, MACs x {first.macs:.2f}"
        yield f"**{model}**, `--keep {keep:g}`: original accuracy {first.dense_accuracy:.3f}, {sizes}"
        yield ""
        yield "| score | repair | accuracy | agreement with dense | seconds | peak memory |"
        yield "| --- | --- | --- | --- | --- | --- |"
        for (score, repair), group in groupby(rows, key=lambda r: (r[0].score, r[0].repair)):
            outcomes = [outcome for _, outcome in group]
            accuracy, agreement = (_spread([getattr(o, key) for o in outcomes]) for key in ("accuracy", "agreement"))
            seconds, peak = (np.mean([getattr(o, key) for o in outcomes]) for key in ("seconds", "peak_mb"))
            repaired = "yes" if repair else "no"
            yield f"| {score} | {repaired} | {accuracy} | {agreement} | {seconds:.1f} | {peak:.0f} MB |"
        yield ""


def _spread(values: Sequence[float]) -> str:
    if min(values) == max(values):
        return f"{values[0]:.3f}"
    return f"{np.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})"


@click.command()
@click.option("--models", type=click.Path(exists=True, file_okay=False, path_type=Path), default=ROOT / "models")
@click.option("--only", multiple=True, metavar="NAME", help="Run these models of the folder; repeatable.")
@click.option("--keep", type=float, multiple=True, default=(0.5,), show_default=True, help="Repeatable.")
@click.option("--score", type=click.Choice(SCORES), multiple=True, default=SCORES, help="Repeatable [default: all].")
@click.option("--seed", type=int, multiple=True, default=(0,), show_default=True, help="Repeatable.")
@click.option("--threads", type=int, default=0, help="Of onnxruntime [default: its choice].")
@click.option("--json", "as_json", is_flag=True, help="Print every run as JSON instead of Markdown tables.")
def main(
    models: Path,
    only: tuple[str, ...],
    keep: tuple[float, ...],
    score: tuple[str, ...],
    seed: tuple[int, ...],
    threads: int,
    as_json: bool,
) -> None:
    """Prune every model in every way and judge the results."""
    if missing := [name for name in only if name not in names(models)]:
        raise click.UsageError(f"{models} has no model {', '.join(missing)} with both files of samples")
    bench = Bench(models, threads)
    results = []
    for setting in [Setting(*s) for s in product(only or names(models), keep, (True, False), score, seed)]:
        click.echo(f"{setting}", err=True)
        results.append((setting, bench.run(setting)))
    if as_json:
        click.echo(json.dumps([{**asdict(setting), **asdict(outcome)} for setting, outcome in results], indent=1))
    else:
        click.echo("\n".join(markdown(results)))


if __name__ == "__main__":
    main()
