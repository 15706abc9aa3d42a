"""The stages that a run goes through, in order, in words, and about how long each takes beside the others.

The pipeline reports each stage by a short name; what is shown of it is decided here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from onnxmi.budget.goals import COSTS
from onnxmi.pruning.collect import needed
from onnxmi.pruning.options import PruneOptions


@dataclass(frozen=True)
class Stage:
    """One stage of a run.

    Attributes
    ----------
    name : str
        What the pipeline calls it.
    words : str
        What a user is told.
    weight : float
        About how long it takes, beside the other stages of the same run.
    """

    name: str
    words: str
    weight: float


_STAGES: Mapping[str, Stage] = {
    stage.name: stage
    for stage in (
        Stage("measure shards", "measuring shards", 5.0),
        Stage("check files", "checking shards", 1.0),
        Stage("merge", "adding up shards", 1.0),
        Stage("capture", "measuring activations", 1.0),
        Stage("go back", "backward pass", 1.0),
        Stage("rank", "ranking units", 1.0),
        Stage("predict damage", "predicting what cuts damage", 2.5),
        Stage("price", "measuring what cuts damage", 1.0),
        Stage("time", "timing cuts", 3.0),
        Stage("select", "choosing units", 0.8),
        Stage("repair", "refitting weights", 7.0),
        Stage("search", "trying models", 18.0),
        Stage("quantize", "choosing what is quantized", 10.0),
        Stage("sweep", "making models", 60.0),
        Stage("verify", "verifying the result", 2.0),
        Stage("answers", "running models", 1.0),
        Stage("check", "comparing models", 1.0),
        Stage("bench", "timing models", 1.0),
    )
}
"""Weights are processor time of runs on two convolutional networks, over that of the statistics."""

ROUNDS = 1.7  # times that models are made where times are predicted first and then measured, on average


def stage_named(name: str) -> Stage:
    """Return what is known of a stage; one that nothing is known of is shown by its name."""
    return _STAGES.get(name, Stage(name, name, 1.0))


def stages_of_prune(
    options: PruneOptions, *, given_plan: bool = False, given_statistics: bool = False, by_workers: bool = False
) -> list[Stage]:
    """Return the stages of `prune`, in order; a stage with nothing to do is passed over."""
    budget = options.budget
    measures = needed(options, selects=not given_plan) and not given_statistics
    stages = _named(_measuring(options, by_workers=by_workers)) if measures else []
    if given_plan:
        stages += _making(options, ["repair"])
    elif budget.keep is not None:
        stages += _making(options, ["select", "repair"])
    elif budget.searches:
        stages += _named([*_pricing(options, timed=True), "search"])
    else:
        timed = any(COSTS[name] == "time" for name in budget.costs)
        making = _making(options, ["select", "repair"])
        stages += _named(_pricing(options, timed=timed))
        stages += [replace(stage, weight=stage.weight * ROUNDS) for stage in making] if timed else making
    return [*stages, *_named(["verify"] if options.quantize == "none" else ["quantize", "verify"])]


def stages_of_sweep(
    options: PruneOptions, *, timed: bool, given_statistics: bool = False, by_workers: bool = False
) -> list[Stage]:
    """Return the stages of `sweep`, in order."""
    measuring = [] if given_statistics else _measuring(options, by_workers=by_workers)
    quantizing = [] if options.quantize == "none" else ["quantize"]
    return _named([*measuring, *_pricing(options, timed=timed), *quantizing, "sweep"])


def stages_of_shards() -> list[Stage]:
    """Return the stages of `capture` by workers, in order."""
    return _named(["measure shards"])


def _measuring(options: PruneOptions, *, by_workers: bool) -> list[str]:
    # Histograms and split tables are measured at home all the same.
    if by_workers and options.scorer.measure is None and "embedding" not in options.cut:
        return ["measure shards"]
    return ["capture", "go back"] if options.sensitivity and options.scorer.uses_sensitivity else ["capture"]


def _pricing(options: PruneOptions, *, timed: bool) -> list[str]:
    predicting = ["predict damage"] if options.repair else []
    return ["rank", *predicting, "price", *(["time"] if timed else [])]


def _making(options: PruneOptions, names: Iterable[str]) -> list[Stage]:
    return _named(name for name in names if options.repair or name != "repair")


def _named(names: Iterable[str]) -> list[Stage]:
    return [stage_named(name) for name in names]
