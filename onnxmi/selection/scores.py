"""The table of scores: what a unit of a layer may be chosen by."""

from __future__ import annotations

from collections.abc import Mapping

from onnxmi.selection.baselines import MAGNITUDE, RANDOM, VARIANCE, WANDA
from onnxmi.selection.joint import JOINT
from onnxmi.selection.pairwise import PAIRWISE_BINNED, PAIRWISE_GAUSSIAN
from onnxmi.selection.scorer import Scorer

SCORERS: Mapping[tuple[str, str], Scorer] = {
    ("joint", "gaussian"): JOINT,
    ("pairwise", "gaussian"): PAIRWISE_GAUSSIAN,
    ("pairwise", "binned"): PAIRWISE_BINNED,
    ("magnitude", "gaussian"): MAGNITUDE,
    ("wanda", "gaussian"): WANDA,
    ("variance", "gaussian"): VARIANCE,
    ("random", "gaussian"): RANDOM,
}
"""(score, estimator) -> how to choose. Only the pairwise score has a second estimator."""

SCORES = tuple(dict.fromkeys(score for score, _ in SCORERS))
ESTIMATORS = tuple(dict.fromkeys(estimator for _, estimator in SCORERS))
