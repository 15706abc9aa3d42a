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


_WORDS: Mapping[str, str] = {
    "capture": "measuring activations",
    "go back": "backward pass",
    "rank": "ranking units",
    "predict damage": "predicting what cuts damage",
    "price": "measuring what cuts damage",
    "time": "timing cuts",
    "select": "choosing units",
    "repair": "refitting weights",
    "search": "trying models",
    "quantize": "choosing what is quantized",
    "sweep": "making models",
    "verify": "verifying the result",
    "check": "comparing models",
    "bench": "timing models",
}
_WEIGHTS: Mapping[str, float] = {
    "capture": 1.0,
    "go back": 1.0,
    "rank": 1.0,
    "predict damage": 2.5,
    "price": 1.0,
    "time": 3.0,
    "select": 0.8,
    "repair": 7.0,
    "search": 35.0,
    "quantize": 10.0,
    "sweep": 60.0,
    "verify": 2.0,
}
"""Processor time of runs on two convolutional networks, over that of the statistics."""

ROUNDS = 1.7  # times that models are made where times are predicted first and then measured, on average


def stage_named(name: str) -> Stage:
    """Return what is known of a stage; one that nothing is known of is shown by its name."""
    return Stage(name, _WORDS.get(name, name), _WEIGHTS.get(name, 1.0))


def stages_of_prune(options: PruneOptions, *, given_plan: bool = False, given_statistics: bool = False) -> list[Stage]:
    """Return the stages of `prune`, in order; a stage with nothing to do is passed over."""
    budget = options.budget
    measures = needed(options, selects=not given_plan) and not given_statistics
    stages = _named(_measuring(options)) if measures else []
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


def stages_of_sweep(options: PruneOptions, *, timed: bool, given_statistics: bool = False) -> list[Stage]:
    """Return the stages of `sweep`, in order."""
    measuring = [] if given_statistics else _measuring(options)
    return _named([*measuring, *_pricing(options, timed=timed), "sweep"])


def _measuring(options: PruneOptions) -> list[str]:
    return ["capture", "go back"] if options.sensitivity and options.scorer.uses_sensitivity else ["capture"]


def _pricing(options: PruneOptions, *, timed: bool) -> list[str]:
    predicting = ["predict damage"] if options.repair else []
    return ["rank", *predicting, "price", *(["time"] if timed else [])]


def _making(options: PruneOptions, names: Iterable[str]) -> list[Stage]:
    return _named(name for name in names if options.repair or name != "repair")


def _named(names: Iterable[str]) -> list[Stage]:
    return [stage_named(name) for name in names]
