"""What was measured on a set of samples: moments by what was read, merged in any order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

from onnxmi.errors import StatisticsError
from onnxmi.graph.linear import Linear
from onnxmi.information import ClassMeans, Moments, Sensitivity
from onnxmi.typing import Floats

Measured = TypeVar("Measured")


@dataclass(frozen=True, eq=False)
class Statistics:
    """What was measured on some samples.

    Attributes
    ----------
    sources : mapping
        Moments of the features that linear operators read, by source: operators that read the same tensor through the
        same window share one.
    keys : mapping
        Linear.key -> its source.
    samples : int
        How many samples were run.
    scores : mapping
        For each product of queries and keys, by the name of its result: moments of the dimensions' shares in the
        attention scores, (groups, dimensions, dimensions); see `onnxmi.statistics.attention_scores`.
    classes : mapping
        LinearInput -> means of its features by class, for operators right below the outputs where samples have labels.
    measured : mapping
        Linear.key -> (groups, K, M), what a score asked to have measured of each input feature and each output; empty
        for most scores. It is not additive: merging loses it.
    sensitivities : mapping
        Linear.key -> how sensitive the outputs are to errors of its results, where that could be found.
    went_back : bool
        Whether any sample was drawn for that; of a shard there may be none, and others tell.
    """

    sources: Mapping[str, Moments]
    keys: Mapping[str, str]
    samples: int
    scores: Mapping[str, Moments] = field(default_factory=dict)
    classes: Mapping[str, ClassMeans] = field(default_factory=dict)
    measured: Mapping[str, Floats] = field(default_factory=dict)
    sensitivities: Mapping[str, Sensitivity] = field(default_factory=dict)
    went_back: bool = True

    def saw(self, key: str) -> bool:
        """Whether any rows of an operator's inputs were seen: behind a decision there may be none."""
        return key in self.keys and self.sources[self.keys[key]].count > 0

    @cached_property
    def moments(self) -> Mapping[str, Moments]:
        """Linear.key -> moments of its input features."""
        return {key: self.sources[source] for key, source in self.keys.items()}

    @property
    def rows(self) -> tuple[int, int]:
        """The fewest and the most rows that the moments of any source come from."""
        counts = [moments.count for moments in self.sources.values()]
        return min(counts, default=0), max(counts, default=0)

    def require(self, linears: Sequence[Linear]) -> None:
        """Raise StatisticsError unless they are of these operators."""
        shapes = {key: moments.mean.shape for key, moments in self.moments.items()}
        # By shape alone: the digest of the model was compared before, and shapes show a version that reads it
        # otherwise.
        if shapes != {linear.key: (linear.groups, linear.features) for linear in linears}:
            raise StatisticsError("the statistics are for other operators than this version finds in the model")

    def merge(self, other: Statistics) -> Statistics:
        """Statistics of both sets of samples together.

        Raises
        ------
        StatisticsError
            If they were not measured on the same things.
        """
        if self.keys != other.keys or self.scores.keys() != other.scores.keys():
            raise StatisticsError("the statistics are of different operators")
        try:
            return Statistics(
                sources=_merged(self.sources, other.sources, Moments.merge),
                keys=self.keys,
                samples=self.samples + other.samples,
                scores=_merged(self.scores, other.scores, Moments.merge),
                classes=_merged(self.classes, other.classes, ClassMeans.merge),
                sensitivities=_merged(self.sensitivities, other.sensitivities, Sensitivity.merge),
            )
        except ValueError as error:
            raise StatisticsError(f"the statistics do not fit together: {error}") from error


def _merged(
    left: Mapping[str, Measured], right: Mapping[str, Measured], merge: Callable[[Measured, Measured], Any]
) -> dict[str, Measured]:
    """Merge what both have; of classes, only sources with labels in both remain comparable."""
    return {key: merge(left[key], right[key]) for key in left if key in right}
