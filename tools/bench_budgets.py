"""What budgets reach: sizes chosen for each layer against one share for all, and times predicted against measured ones.

    python tools/bench_budgets.py layers --models DIR               at equal work: one share for all layers, and prices
    python tools/bench_budgets.py speed --models DIR --at 2,3       asked, reached and measured anew, and what it costs
    python tools/bench_budgets.py times --models DIR --plot t.svg   20 random cuts a model: predicted and measured time

DIR holds NAME.onnx, NAME.calib.npz and NAME.eval.npz. Accuracy and agreement are those of the evaluation file, which
nothing is chosen on. One thread, and its own time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import click
import numpy as np
import onnx

import onnxmi
from onnxmi.budget.allocate import Limit, allocate
from onnxmi.budget.latency_model import keep_first_units, sample_sizes
from onnxmi.budget.size_grid import candidate_sizes, uniform
from onnxmi.data.sources import as_calibration
from onnxmi.graph.padding_mask import packed
from onnxmi.pruning.cost_search import satisfy_cost_budgets
from onnxmi.pruning.execute import Candidate, execute_plan, make_plan
from onnxmi.pruning.latency_cache import latency_model
from onnxmi.pruning.options import PruneOptions
from onnxmi.pruning.session import PruningSession, session_statistics, start_session
from onnxmi.pruning.sizing import sizing_problem
from onnxmi.runtime.session import open_session
from onnxmi.runtime.timing import measure_latency
from onnxmi.transforms.cut import Cut
from onnxmi.transforms.prune_channels import prune_channels
from onnxmi.typing import silent

SHARES = (0.7, 0.5, 0.34, 0.25)
CUTS = 20
RULE = "| --- | --- | --- | --- | --- |"


@dataclass(frozen=True)
class Worth:
    """Accuracy, and agreement with the original, on an evaluation file."""

    accuracy: float
    agreement: float

    def __str__(self) -> str:
        return f"{self.accuracy:.4f} | {self.agreement:.4f}"


def study_named(folder: Path, name: str, **asked: float) -> PruningSession:
    """Look a model through and measure it."""
    options = PruneOptions(threads=1, **asked)  # type: ignore[arg-type]
    study = start_session(onnxmi.load(folder / f"{name}.onnx"), folder / f"{name}.calib.npz", options)
    return replace(study, measured=session_statistics(study, None, silent, selects=True))


def worth(study: PruningSession, proto: onnx.ModelProto, path: Path) -> Worth:
    """Run a model and the original on an evaluation file, without the padding of short samples."""
    data = packed(study.model, study.analysis.graph, as_calibration(path, study.model), None, 1)
    sessions = [open_session(one, threads=1) for one in (study.source.proto, proto)]
    found = np.zeros((2, data.count), dtype=np.int64)
    for chosen, feeds in data.packed(np.arange(data.count), 64):
        for row, session in enumerate(sessions):
            found[row, chosen] = session.run(feeds)[session.outputs[0]].argmax(-1)
    return Worth(float((found[1] == data.labels).mean()), float((found[0] == found[1]).mean()))


def evaluations(folder: Path, name: str) -> list[Path]:
    """The evaluation files of a model."""
    return [path for kind in ("eval", "val") if (path := folder / f"{name}.{kind}.npz").exists()]


def rows_of_worth(study: PruningSession, proto: onnx.ModelProto, folder: Path, name: str) -> str:
    """One cell group for each evaluation file."""
    return " | ".join(str(worth(study, proto, path)) for path in evaluations(folder, name))


# -- sizes for each layer ---------------------------------------------------------------------------------------------


def share_of_units(study: PruningSession, macs: float) -> float:
    """The one share for all layers that leaves so much of the work, by bisection over plain cuts."""
    whole = study.cost(study.source.proto).macs
    low, high = 0.02, 1.0
    for _ in range(12):
        middle = (low + high) / 2
        cut = prune_channels(Cut(study.analysis, keep_first_units(study.layers, uniform(study.layers, middle))))
        low, high = (low, middle) if study.cost(cut).macs > macs * whole else (middle, high)
    return low


def compared(study: PruningSession, shares: Sequence[float]) -> Iterator[tuple[str, Candidate]]:
    """Models at equal work: one share for all layers, sizes by price, and the same at sizes that pay."""
    whole = study.cost(study.source.proto).macs
    problem = {
        align: sizing_problem(replace(study, options=replace(study.options, align=align)), {"macs"})
        for align in ("none", "auto")
    }
    for share in shares:
        even = share_of_units(study, share)
        yield (
            f"x {share:.2f} | one share ({even:.2f})",
            execute_plan(study, make_plan(study, uniform(study.layers, even))),
        )
        for align, found in problem.items():
            counts = allocate(found.menus, [Limit(found.costs["macs"], share * whole)])
            if counts is not None:
                yield f"x {share:.2f} | by sizing_problem, align {align}", execute_plan(study, make_plan(study, counts))


@click.group()
def main() -> None:
    """Measure what budgets reach."""


_models = click.option("--models", "folder", type=click.Path(path_type=Path, exists=True), required=True)
_only = click.option("--only", multiple=True, help="Names of models; repeatable.")


def named(folder: Path, only: Sequence[str]) -> list[str]:
    """Models of a folder that have samples to evaluate on."""
    return [
        p.stem
        for p in sorted(folder.glob("*.onnx"))
        if (folder / f"{p.stem}.eval.npz").exists() and (not only or p.stem in only)
    ]


@main.command()
@_models
@_only
@click.option("--at", "shares", default=",".join(map(str, SHARES)), show_default=True)
def layers(folder: Path, only: tuple[str, ...], shares: str) -> None:
    """Compare one share for all layers with sizes by price, at equal work."""
    for name in named(folder, only):
        study = study_named(folder, name)
        print(
            f"\n**{name}**\n\n| MACs | layers | MACs left | speed-up | accuracy and agreement on each file |\n" + RULE
        )
        whole = study.cost(study.source.proto).macs
        for said, made in compared(study, [float(share) for share in shares.split(",")]):
            was, now = measure_latency((study.source.proto, made.proto), study.timed_feeds, threads=1, clock="cpu")
            left = study.cost(made.proto).macs / whole
            cells = rows_of_worth(study, made.proto, folder, name)
            print(f"| {said} | {left:.3f} | {now.speedup_over(was):.2f} | {cells} |", flush=True)


# -- time -------------------------------------------------------------------------------------------------------------


@main.command()
@_models
@_only
@click.option("--at", "factors", default="2,3", show_default=True)
@click.option("--batch", default="1,32", show_default=True)
def speed(folder: Path, only: tuple[str, ...], factors: str, batch: str) -> None:
    """Ask for speed-ups, and measure what was reached once more, independently."""
    for name in named(folder, only):
        print(
            f"\n**{name}**\n\n| batch | asked | reached | measured anew | accuracy and agreement on each file |\n"
            + RULE
        )
        study = study_named(folder, name)
        for size in map(int, batch.split(",")):
            here = replace(study, options=replace(study.options, batch=size))
            problem = sizing_problem(here, {"time"})
            for factor in map(float, factors.split(",")):
                asked = replace(here, options=replace(here.options, speedup=factor, best_effort=True))
                found = satisfy_cost_budgets(asked, problem)
                was, now = measure_latency(
                    (study.source.proto, found.candidate.proto),
                    here.timed_feeds,
                    threads=1,
                    runs=60,
                    seconds=8.0,
                    clock="cpu",
                )
                cells = rows_of_worth(study, found.candidate.proto, folder, name)
                print(
                    f"| {size} | {factor:.1f} | {found.goals[0].reached:.2f} | {now.speedup_over(was):.2f} | {cells} |",
                    flush=True,
                )


@main.command()
@_models
@_only
@click.option("--batch", default=1, show_default=True)
@click.option("--plot", type=click.Path(path_type=Path), help="Write a scatter plot.")
def times(folder: Path, only: tuple[str, ...], batch: int, plot: Path | None) -> None:
    """Predict the time of random cuts, and measure it."""
    found: dict[str, np.ndarray] = {}
    print("| model | cuts | median error | 90 % below | worst |\n" + RULE)
    for name in named(folder, only):
        options = PruneOptions(threads=1, batch=batch)
        study = start_session(onnxmi.load(folder / f"{name}.onnx"), folder / f"{name}.calib.npz", options)
        sizes = {layer.id: candidate_sizes(study.analysis, layer, None) for layer in study.layers}
        predicted = latency_model(study, sizes)
        pairs = []
        for draw in sample_sizes(sizes, CUTS, seed=12345):
            cut = prune_channels(Cut(study.analysis, keep_first_units(study.layers, draw)))
            was, now = measure_latency(
                (study.model.proto, cut), study.timed_feeds, threads=1, runs=60, seconds=6.0, clock="cpu"
            )
            pairs.append((predicted.cost.total(draw) / predicted.cost.total({}), 1.0 / now.speedup_over(was)))
        found[name] = np.array(pairs)
        errors = np.abs(found[name][:, 0] / found[name][:, 1] - 1)
        print(
            f"| {name} | {CUTS} | {np.median(errors):.1%} | {np.percentile(errors, 90):.1%} | {errors.max():.1%} |",
            flush=True,
        )
    if plot is not None:
        _scatter(found, plot)


def _scatter(found: dict[str, np.ndarray], path: Path) -> None:
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(5, 5))
    for name, pairs in found.items():
        axes.scatter(pairs[:, 1], pairs[:, 0], s=14, label=name)
    line = np.array([0.03, 1.0])
    axes.fill_between(line, 0.9 * line, 1.1 * line, alpha=0.15, color="grey", label="within 10 %")
    axes.set(xscale="log", yscale="log", xlabel="measured time, share of the original's", ylabel="predicted")
    axes.legend()
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    main()
