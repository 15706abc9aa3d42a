"""What a model of the gallery loses on inputs that nothing was fitted to: one metric, with its interval.

The judges of tools/shipped say what share of answers is alike, and how many there are; here that becomes a loss.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from onnxmi.information import intervals

Figures = Mapping[str, Any]
DROPPED = ("speedup", "timed_runs", "bytes_original", "bytes_pruned")  # onnxmi's own report has them


@dataclass(frozen=True)
class Judged:
    """Which of a judge's figures tells what is lost.

    Attributes
    ----------
    metric : str
        Share of the answers that are right or, where nobody knows what is right, as the original's.
    counted : str
        What there is a number of.
    original : str
        The original's share; "" where its own answers are what is right.
    agreement : str
        Share of the answers that are the original's, beside `original`.
    timed : str
        What the judge's runs are of, where that is not one sample.
    """

    metric: str
    counted: str
    original: str = ""
    agreement: str = ""
    timed: str = ""


JUDGED: Mapping[str, Judged] = {
    "silero-16k-sequence": Judged("same_decision", "chunks", timed="32 chunks a run"),
    "angle": Judged("accuracy", "lines", "accuracy_original", "agreement"),
    "magika": Judged("same_type", "files"),
    "reader": Judged("read_alike", "lines"),
    "nudenet": Judged("recall", "boxes"),
}


def of_figures(judged: Judged, figures: Figures) -> dict[str, Any]:
    """Return the loss by what a judge of tools/shipped measured."""
    count, after = int(figures[judged.counted]), float(figures[judged.metric])
    before = float(figures[judged.original]) if judged.original else 1.0
    if judged.original:
        # With two classes, each answer that changed was right before or is right now.
        changed, net = (1 - float(figures[judged.agreement])) * count, (before - after) * count
        low, high = intervals.difference_of_shares((changed + net) / 2, (changed - net) / 2, count)
    else:
        low, high = intervals.share((1 - after) * count, count)
    return _quality(judged.metric, before, after, (before - after, low, high), count, judged.counted)


def of_check(told: Figures) -> dict[str, Any]:
    """Return the loss by what `onnxmi check --json` printed: the first metric of the output that loses most."""
    first = [output["metrics"][0] for output in told["outputs"] if output["metrics"]]
    worst = max(first, key=lambda one: one["loss"]["value"])
    loss = worst["loss"]
    spans = loss["value"], loss["low"], loss["high"]
    return _quality(worst["metric"], worst["baseline"], worst["value"], spans, loss["n"], "samples")


def rest(judged: Judged, figures: Figures) -> dict[str, float]:
    """Return the other figures of a judge."""
    shown = {judged.metric, judged.counted, judged.original, *DROPPED}
    told = {name: value for name, value in figures.items() if name not in shown and "ms_" not in name}
    return {**told, **({f"speedup at {judged.timed}": figures["speedup"]} if judged.timed else {})}


def text(quality: Figures) -> str:
    """Return it for people: `accuracy 90.55 → 89.90 %: 0.65 points lost [0.15, 1.17], 4,000 samples`."""
    lost, low, high, before, after = (
        100 * float(value) for value in (quality["lost"], *quality["interval"], quality["before"], quality["after"])
    )
    name, many = quality["metric"].replace("_", " "), f"{quality['count']:,} {quality['counted']}"
    return f"{name} {before:.2f} → {after:.2f} %: {lost:.2f} points lost [{low:.2f}, {high:.2f}], {many}"


def _quality(
    metric: str, before: float, after: float, lost: tuple[float, float, float], count: int, counted: str
) -> dict[str, Any]:
    value, low, high = lost
    shares = {"metric": metric, "before": before, "after": after}
    return {**shares, "lost": value, "interval": [low, high], "count": count, "counted": counted}
