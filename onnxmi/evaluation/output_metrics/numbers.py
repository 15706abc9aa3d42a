"""Metrics of numbers: values, signals, embeddings and states."""

from __future__ import annotations

import numpy as np

from onnxmi.evaluation.output_metrics.output_metric import (
    ComparedOutput,
    Contributions,
    OutputMetric,
    average,
    row_pairs,
    rows_of,
)
from onnxmi.outputs.view import Answers
from onnxmi.typing import Array, Bools, Floats

STILL = 1e-8  # share of a column's mean square below which its variance is rounding
WORST = 64  # columns among which a resample's worst is looked for
LOUDEST = 140.0  # dB: what float32 can tell from silence
NEIGHBORS = 512  # samples among which each one's neighbors are looked for


def explained(parts: Floats, draws: Floats) -> Floats:
    """Return the least share of variance that is explained among columns, (draws,).

    Parameters
    ----------
    parts : (samples, 4 columns) float64
        Of each column rows, sum, sum of squares, and sum of squared errors.
    draws : (draws, samples) float64
        How often each sample is drawn.
    """
    count, total, squares, errors = np.split(draws @ parts, 4, axis=1)
    # Every resample has its own mean, and its own variance round it.
    scatter = squares - np.square(total) / count
    return np.asarray((1 - errors / scatter).min(1))


def _worst(subject: ComparedOutput, original: Answers, cut: Answers, _labels: Array | None) -> Contributions:
    """Sums of each column that moves, but only of those that are explained worst."""
    mean, moving = _moving(subject, original)
    if not moving.any():
        return _nothing(original.count)
    was = np.stack([_sums(rows[:, moving] - mean[moving], None) for rows in rows_of(subject.view, original)])
    now = np.stack(
        [
            _sums(first[:, moving] - mean[moving], second[:, moving] - first[:, moving])
            for first, second in row_pairs(subject.view, original, cut)
        ]
    )
    scatter, errors = now[:, 2].sum(0), now[:, 3].sum(0)
    # A resample's worst column is nearly always among the worst of all samples: the others are not resampled.
    worst = np.sort(np.argsort(-errors / scatter, kind="stable")[:WORST])
    was, now = (side[:, :, worst].reshape(original.count, -1) for side in (was, now))
    return Contributions(was, now)


def _pooled(subject: ComparedOutput, original: Answers, cut: Answers, _labels: Array | None) -> Contributions:
    """All columns as one, each round its own mean."""
    mean, moving = _moving(subject, original)
    if not moving.any():
        return _nothing(original.count)
    pairs = [
        (first[:, moving] - mean[moving], second[:, moving] - first[:, moving])
        for first, second in row_pairs(subject.view, original, cut)
    ]
    was = [_sums(first.reshape(-1, 1), None)[:, 0] for first, _ in pairs]
    now = [_sums(first.reshape(-1, 1), error.reshape(-1, 1))[:, 0] for first, error in pairs]
    return Contributions(np.stack(was), np.stack(now))


def _even(subject: ComparedOutput, original: Answers, cut: Answers, _labels: Array | None) -> Contributions:
    """Squared error of each sample over each column's variance, in the mean over columns."""
    mean, moving = _moving(subject, original)
    if not moving.any():
        return Contributions(np.ones((original.count, 1)), np.ones((original.count, 1)))
    scatter, count = np.zeros(int(moving.sum())), 0
    for rows in rows_of(subject.view, original):
        scatter, count = scatter + np.square(rows[:, moving] - mean[moving]).sum(0), count + len(rows)
    now = [
        1 - float((np.square(second[:, moving] - first[:, moving]).mean(0) / (scatter / count)).mean())
        for first, second in row_pairs(subject.view, original, cut)
    ]
    return Contributions(np.ones((len(now), 1)), np.array(now)[:, None])


def _moving(subject: ComparedOutput, original: Answers) -> tuple[Floats, Bools]:
    """Return each column's mean over all rows, and which columns move by more than rounding."""
    total = sum(rows.sum(0) for rows in rows_of(subject.view, original))
    count = sum(len(rows) for rows in rows_of(subject.view, original))
    mean = np.asarray(total / max(count, 1), dtype=np.float64)
    scatter = sum(np.square(rows - mean).sum(0) for rows in rows_of(subject.view, original))
    variance = np.asarray(scatter / max(count, 1), dtype=np.float64)
    # Relative to the mean square: a column that is constant in float32 has the variance of its rounding.
    return mean, variance > STILL * (variance + np.square(mean))


def _sums(rows: Floats, errors: Floats | None) -> Floats:
    """Return (4, columns): rows, sum, sum of squares, and sum of squared errors."""
    lost = np.zeros(rows.shape[1]) if errors is None else np.square(errors).sum(0)
    return np.stack([np.full(rows.shape[1], float(len(rows))), rows.sum(0), np.square(rows).sum(0), lost])


def _nothing(samples: int) -> Contributions:
    """Nothing moves, so nothing can be explained, or lost."""
    parts = np.tile([1.0, 0.0, 1.0, 0.0], (samples, 1))
    return Contributions(parts, parts)


# -- signals ----------------------------------------------------------------------------------------------------------


def noise_ratio(parts: Floats, draws: Floats) -> Floats:
    """Return dB of the signal over what is wrong with it, (draws,)."""
    squares, errors = (draws @ parts).T
    # An exact copy would have infinitely many dB.
    return np.asarray(np.minimum(10 * np.log10(squares / errors), LOUDEST))


def _energies(subject: ComparedOutput, original: Answers, cut: Answers, _labels: Array | None) -> Contributions:
    now = np.array(
        [
            (np.square(first).sum(), np.square(second - first).sum())
            for first, second in row_pairs(subject.view, original, cut)
        ]
    )
    return Contributions(now * [1.0, 0.0], now)


# -- embeddings -------------------------------------------------------------------------------------------------------


def _cosines(subject: ComparedOutput, original: Answers, cut: Answers, _labels: Array | None) -> Contributions:
    """Cosine of each sample's rows, both round the original's mean: what all samples share tells nothing."""
    mean, _ = _moving(subject, original)
    now = [
        float(_cosine(first - mean, second - mean).mean()) for first, second in row_pairs(subject.view, original, cut)
    ]
    return Contributions(np.ones((len(now), 1)), np.array(now)[:, None])


def _cosine(first: Floats, second: Floats) -> Floats:
    lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    inner = np.einsum("nd, nd -> n", first, second)
    cosine = np.where(lengths > 0, inner / np.where(lengths > 0, lengths, 1.0), 0.0)
    return np.asarray(np.where((first == second).all(1), 1.0, cosine))


def _neighbors(subject: ComparedOutput, original: Answers, cut: Answers, _labels: Array | None) -> Contributions:
    """Spearman's correlation, for each sample, of its nearness to the others."""
    mean, _ = _moving(subject, original)
    pairs = list(row_pairs(subject.view, original, cut))
    near = []
    for side in zip(*pairs, strict=True):
        vectors = np.nan_to_num(np.stack([(rows - mean).mean(0) for rows in side]))
        unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-300)
        near.append(unit @ unit[:NEIGHBORS].T)
    now = [_order(first, second, number) for number, (first, second) in enumerate(zip(*near, strict=True))]
    return Contributions(np.ones((len(now), 1)), np.array(now)[:, None])


def _order(first: Floats, second: Floats, number: int) -> float:
    others = np.arange(len(first)) != number
    # Ranks; a correlation of ranks is Spearman's.
    a, b = (np.argsort(np.argsort(side[others], kind="stable"), kind="stable") for side in (first, second))
    a, b = a - a.mean(), b - b.mean()
    return float((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()))


# -- the table --------------------------------------------------------------------------------------------------------

WORST_R2 = OutputMetric("worst-r2", _worst, explained, "resampled")
R2 = OutputMetric("r2", _even, average, "mean")
EXPLAINED = OutputMetric("explained-variance", _pooled, explained, "resampled")
SNR = OutputMetric("snr", _energies, noise_ratio, "resampled", unit="dB")
COSINE = OutputMetric("centered-cosine", _cosines, average, "mean")
NEIGHBOR_ORDER = OutputMetric("neighbor-order", _neighbors, average, "mean")


def metrics_of_embeddings(
    _subject: ComparedOutput, original: Answers, _labels: Array | None
) -> tuple[OutputMetric, ...]:
    """Return the metrics of embeddings; of few samples there is no order."""
    return (COSINE, EXPLAINED, NEIGHBOR_ORDER) if original.count > 3 else (COSINE, EXPLAINED)
