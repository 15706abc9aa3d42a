"""Measure the information package: prints times on one core, and ratios that do not depend on the machine.

python tools/bench_information.py                            the package alone
python tools/bench_information.py MODEL.onnx CALIB.npz ...   capture and scoring against the plain forward pass
"""

import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np

import onnxmi
from onnxmi.budget.size_grid import uniform
from onnxmi.information import (
    JointHistogram,
    Missing,
    MomentAccumulator,
    View,
    fit_missing,
    joint,
    pairwise_gaussian,
    quantile_edges,
)
from onnxmi.pruning.collect import capture_options, sensitivities_of
from onnxmi.pruning.execute import execute_plan, make_plan
from onnxmi.pruning.options import PruneOptions
from onnxmi.pruning.session import session_statistics, start_session
from onnxmi.runtime.session import open_session
from onnxmi.statistics.capture import capture
from onnxmi.statistics.statistics import Statistics
from onnxmi.typing import silent


def seconds(work: Callable[[], object], repeats: int = 3) -> float:
    """Least CPU time of the process over a few runs: wall-clock on a shared machine says more about the others."""
    best = np.inf
    for _ in range(repeats):
        start = time.process_time()
        work()
        best = min(best, time.process_time() - start)
    return float(best)


def activations(rows: int, features: int, rank: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    mixed = rng.normal(size=(rows, rank)) @ rng.normal(size=(rank, features)) + rng.normal(size=(rows, features))
    return np.maximum(mixed, 0.0).astype(np.float32)


def measured(rows: np.ndarray) -> MomentAccumulator:
    accumulator = MomentAccumulator()
    accumulator.update(rows)
    return accumulator


def bench_moments(rows: np.ndarray) -> None:
    features = rows.shape[1]
    left, right = rows[:4096].T.copy(), rows[:4096]
    peak = 2 * features**2 * len(right) / seconds(lambda: left @ right)
    exact = rows.astype(np.float64)
    for name, data in (("float32", rows), ("float64", exact)):
        useful = 2 * features**2 * len(rows) / seconds(lambda data=data: measured(data))
        print(f"moments of {features} features from {name} rows: {useful / peak:.2f} of the float32 GEMM peak")
    error = measured(rows).moments().covariance - measured(exact).moments().covariance
    deviation = measured(exact).moments().variance ** 0.5
    print(
        f"  largest error of float32 rows, in correlations: {np.abs(error / np.outer(deviation, deviation)).max():.1e}"
    )


def bench_joint(rows: np.ndarray) -> None:
    rng = np.random.default_rng(1)
    features = rows.shape[1]
    covariance = measured(rows).moments().covariance
    view = View(covariance, rng.normal(size=(features, 384)), np.arange(features))
    for keep in (features // 2, features):
        spent = seconds(lambda keep=keep: joint([view], features, keep))
        print(f"joint, {keep} of {features} units, 384 targets: {spent:.2f} s")
    patch = View(covariance[:1152, :1152], rng.normal(size=(1152, 128)), np.repeat(np.arange(128), 9))
    spent = seconds(lambda: joint([patch], 128, 64))
    print(f"joint, 64 of 128 channels of 9 features, 128 targets: {spent:.2f} s")


def bench_repair(rows: np.ndarray) -> None:
    rng = np.random.default_rng(2)
    features, half = rows.shape[1], len(rows) // 2
    train, test = measured(rows[:half]).moments(), measured(rows[half:]).moments()
    weights, bias, kept = rng.normal(size=(features, 384)), np.zeros(384), np.arange(0, features, 2)

    def repaired() -> None:
        missing = (Missing.of_cut(moments, kept, weights) for moments in (train, test))
        fit_missing(next(missing), next(missing), weights[kept], bias)

    spent = seconds(repaired, 1)
    print(f"repair, {kept.size} of {features}, 8 ridges: {spent:.2f} s")


def gaussian(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    covariance = measured(np.concatenate([x, y], axis=1)).moments().covariance
    split = x.shape[1]
    return pairwise_gaussian(covariance[:split, :split], covariance[:split, split:], np.diagonal(covariance)[split:])


def binned(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    histogram = JointHistogram(quantile_edges(x, 8), quantile_edges(y, 8))
    histogram.update(x, y)
    return histogram.mutual_information()


def nearest(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    from sklearn.feature_selection import mutual_info_regression

    return np.stack([mutual_info_regression(x, column, random_state=0) for column in y.T], axis=1)


def rank_correlation(left: np.ndarray, right: np.ndarray) -> float:
    ranks = [np.argsort(np.argsort(values, axis=None)) for values in (left, right)]
    return float(np.corrcoef(*ranks)[0, 1])


def spread(rows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features whose correlations with the one target go evenly from 0.05 to 0.95, and the nats they share."""
    rng = np.random.default_rng(3)
    correlations = rng.permutation(np.linspace(0.05, 0.95, 61))
    y = rng.normal(size=(rows, 1))
    x = correlations * y + np.sqrt(1 - correlations**2) * rng.normal(size=(rows, correlations.size))
    return x, y, -0.5 * np.log1p(-(correlations**2))[:, None]


def faint(rows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Targets that many features make up, most of which share next to nothing with them."""
    rng = np.random.default_rng(3)
    weights = 10.0 ** rng.uniform(-2, 0, size=(31, 17))
    x = rng.normal(size=(rows, 31))
    y = x @ weights + 0.3 * rng.normal(size=(rows, 17))
    return x, y, pairwise_gaussian(np.ones(31), weights, np.square(weights).sum(axis=0) + 0.09)


def bench_pairwise() -> None:
    """On Gaussian data, where the truth is known; scikit-learn estimates it from nearest neighbours."""
    for case in (spread, faint):
        x, y, truth = case(2003)
        try:
            base, theirs = seconds(lambda x=x, y=y: nearest(x, y), 1), nearest(x, y)
        except ImportError:
            print("pairwise: scikit-learn is not installed")
            return
        about = f"pairwise, {case.__name__}, {truth.size} pairs of {len(x)} rows"
        print(f"{about}, scikit-learn: Spearman {rank_correlation(theirs, truth):.3f} with the truth")
        for name, ours in (("gaussian", gaussian), ("binned", binned)):
            faster, made = base / seconds(lambda ours=ours, x=x, y=y: ours(x, y)), ours(x, y)
            ranks = rank_correlation(made, truth), rank_correlation(made, theirs)
            print(
                f"{about}, {name}: {faster:.0f} times as fast,"
                f" Spearman {ranks[0]:.3f} with the truth, {ranks[1]:.3f} with scikit-learn"
            )


def bench_capture(model: str, calib: str) -> None:
    """Each stage on the samples it gets against the plain forward pass of them all, in turns, on one thread.

    The plain pass takes the samples as they are in the file; the stages leave padding out, as `prune` does.
    """
    study = start_session(onnxmi.load(model), calib, PruneOptions(keep=0.5, threads=1))
    found, data = study.analysis, study.data
    every, options = np.arange(data.count), capture_options(study.options)
    taps = list(dict.fromkeys(tap for linear in found.linears for tap in linear.taps))

    def forward(names: list[str] | None = None) -> None:
        session = open_session(found.model.proto, threads=1, taps=names)
        for _, feeds in data.batches(every, options.batch_size):
            session.run(feeds)

    def measure() -> Statistics:
        return capture(found, data, [every], options)[0]

    def go_back() -> object:
        return sensitivities_of(study.outputs, every)

    stages = {"plain": forward, "tapped": lambda: forward(taps), "captured": measure, "back": go_back}
    spent = {name: [] for name in stages}
    for _ in range(3):
        for name, work in stages.items():
            spent[name].append(seconds(work, 1))
    plain, tapped, captured, back = (float(np.median(times)) for times in spent.values())
    study = replace(study, measured=session_statistics(study, None, silent, selects=True))
    start = time.process_time()
    plan = make_plan(study, uniform(study.layers, 0.5))
    selected = time.process_time() - start
    start = time.process_time()
    execute_plan(study, plan)
    repaired = time.process_time() - start
    print(
        f"{model}: {data.count} samples; in units of the plain forward pass ({plain:.2f} s): with every activation"
        f" returned {tapped / plain:.2f}, moments {captured / plain:.2f}, sensitivities {back / plain:.2f}, selecting"
        f" half of every layer {selected / plain:.2f}, cutting, checking and repairing that {repaired / plain:.2f}"
    )


def main() -> None:
    if os.environ.get("OPENBLAS_NUM_THREADS") != "1":
        # The BLAS reads this when numpy is imported: start again with it.
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | {"OPENBLAS_NUM_THREADS": "1"})
    if len(sys.argv) > 1:
        for model, calib in zip(sys.argv[1::2], sys.argv[2::2], strict=True):
            bench_capture(model, calib)
        return
    rows = activations(8192, 1536, 300)
    bench_moments(rows)
    bench_joint(rows)
    bench_repair(rows)
    bench_pairwise()


if __name__ == "__main__":
    main()
