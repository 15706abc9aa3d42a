"""What a score is: how it chooses units, and what it needs to be measured for that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from onnxmi.graph.channel_graph import Layer
from onnxmi.information import Selection, top
from onnxmi.selection.targets import Target
from onnxmi.statistics.row_observers import MeasureFactory
from onnxmi.typing import Floats, Ints


@dataclass(frozen=True, eq=False)
class Candidates:
    """A layer to choose units from.

    Attributes
    ----------
    units : int
        Number of units over all parts.
    keep, quota : int
        Units to keep in all, and in each part.
    parts : (units,) int64 or None
        The part of each unit of a ragged layer.
    norms : callable returning (units,)
        Euclidean norm of all weights that hang on a unit.
    seed : int
        For the random baseline.
    """

    layer: Layer
    targets: tuple[Target, ...]
    keep: int
    quota: int
    parts: Ints | None
    norms: Callable[[], Floats]
    seed: int

    @property
    def units(self) -> int:
        """Number of units over all parts."""
        return self.layer.units

    @property
    def quota_of_parts(self) -> int | None:
        """Units to keep of each part; None where the layer has no parts."""
        return self.quota if self.parts is not None else None

    def best(self, scores: Floats) -> Selection:
        """Keep the units with the highest scores."""
        return top(scores, self.keep, self.parts, self.quota_of_parts)

    def best_in_sum(self, score: Callable[[Target], Floats]) -> Selection:
        """Keep the units whose scores, summed over all targets, are highest."""
        total = np.zeros(self.units)
        for target in self.targets:
            total = total + score(target)
        return self.best(total)


@dataclass(frozen=True)
class Scorer:
    """One score.

    Attributes
    ----------
    select : callable
        Chooses units among candidates.
    needs_statistics : bool
        Whether it looks at activations, that is at the candidates' targets.
    uses_sensitivity : bool
        Whether it weights targets by the output sensitivity.
    measure : callable or None
        Makes what is measured beside the moments, as the targets' `measured`.
    """

    select: Callable[[Candidates], Selection]
    needs_statistics: bool = True
    uses_sensitivity: bool = False
    measure: MeasureFactory | None = None
