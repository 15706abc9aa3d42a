"""How well is a loss of answers known from a few samples: by counting them, and by their margins?

    python tools/bench_margins.py MODEL.onnx EVAL.npz CUT.onnx ... [--samples 100] [--draws 200]

EVAL has many samples that nothing was fitted to; `labels` there are not used. What all of them lose is the truth.
Samples are drawn from them again and again, and each draw is asked. The models answer with one class a sample.
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
import onnx

from onnxmi.evaluation.output_metrics import OUTPUT_METRICS, ComparedOutput, measure_metric
from onnxmi.outputs.view import Answers, View
from onnxmi.runtime.session import open_session

HEAD = ("model", "metric", "lost", "counted", "by margins", "count is off", "margins are off")


def logits_of(path: Path, arrays: dict[str, np.ndarray]) -> np.ndarray:
    """The first output that holds a choice of one class for each sample."""
    session = open_session(onnx.load(path), threads=1)
    count, found = len(next(iter(arrays.values()))), []
    for start in range(0, count, 50):
        results = session.run({name: array[start : start + 50] for name, array in arrays.items()}).values()
        found.append(next(value for value in results if value.ndim == 2 and value.dtype.kind == "f"))
    rows = np.concatenate(found)
    chances = bool((rows >= 0).all()) and np.allclose(rows.sum(1), 1, atol=1e-3)
    return np.log(np.maximum(rows, 1e-12)) if chances else rows


def losses(metric: str, original: np.ndarray, cut: np.ndarray) -> tuple[float, float]:
    """What is counted, and what margins foretell."""
    subject = ComparedOutput("y", "classes", (View("y", "y", "y", "classes", "softmax", (1,), 0),))
    first, second = (Answers(len(rows), {"y": tuple(rows)}) for rows in (original, cut))
    found = measure_metric(OUTPUT_METRICS[metric], subject, first, second)
    assert found.foretold is not None
    return found.loss.value, found.foretold


@click.command(help=__doc__)
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("data", type=click.Path(path_type=Path))
@click.argument("cuts", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--samples", default=100, show_default=True, help="In each draw.")
@click.option("--draws", default=200, show_default=True)
@click.option("--seed", default=0, show_default=True)
def main(model: Path, data: Path, cuts: tuple[Path, ...], samples: int, draws: int, seed: int) -> None:
    """Print a row for each cut model and metric, in points; errors are root mean squares over the draws."""
    with np.load(data) as archive:
        arrays = {name: archive[name] for name in archive.files if name != "labels"}
    original, generator = logits_of(model, arrays), np.random.default_rng(seed)
    click.echo(f"| {' | '.join(HEAD)} |\n|{' --- |' * len(HEAD)}")
    for path in cuts:
        cut = logits_of(path, arrays)
        for metric in ("agreement", "certain-agreement"):
            truth = losses(metric, original, cut)[0]
            chosen = [generator.choice(len(original), samples, replace=False) for _ in range(draws)]
            told = np.array([losses(metric, original[rows], cut[rows]) for rows in chosen])
            off = np.sqrt(np.square(told - truth).mean(0))
            figures = " | ".join(f"{100 * value:.2f}" for value in (truth, *told.mean(0), *off))
            click.echo(f"| {path.stem} | {metric} | {figures} |")


if __name__ == "__main__":
    main()
