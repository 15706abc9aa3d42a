"""One linear operator before and after a cut: what stays of its weights, and how both models' tensors line up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxmi.dims.channel_graph import ChannelGraph
from onnxmi.dims.term import Keeping
from onnxmi.linear import Linear, feature_rows, output_rows, weight_array, weight_matrix
from onnxmi.model import Model
from onnxmi.repair.solution import Solution
from onnxmi.rewrite import Replacement, sliced_shape

Array = NDArray[Any]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

SMALL_SCALE = 1e-3  # a channel that is scaled down this far after the operator cannot correct its stream


@dataclass(frozen=True, eq=False)
class Frame:
    """A linear operator and what stays of it.

    Attributes
    ----------
    linear, after : Linear
        The operator in the original, and with the number of groups that stay.
    groups : tuple of int
        Groups that stay.
    features, outputs : tuple of (S,) and (M,) int64
        What stays of each of these groups.
    weights : (groups, K, M) float64
        Of the original, all groups.
    shape : tuple of int
        Of the stored weight after the cut.
    """

    linear: Linear
    after: Linear
    groups: tuple[int, ...]
    features: tuple[Ints, ...]
    outputs: tuple[Ints, ...]
    weights: Floats
    shape: tuple[int, ...]

    @staticmethod
    def of(model: Model, graph: ChannelGraph, linear: Linear, keeping: Keeping) -> Frame:
        """Work out what a cut leaves of an operator."""
        features, outputs = linear.kept_features(keeping), linear.kept_outputs(keeping)
        groups = tuple(g for g in range(linear.groups) if features[g].any() and outputs[g].any())
        return Frame(
            linear=linear,
            after=replace(linear, groups=len(groups)),
            groups=groups,
            features=tuple(np.flatnonzero(features[g]) for g in groups),
            outputs=tuple(np.flatnonzero(outputs[g]) for g in groups),
            weights=weight_matrix(linear, model.graph.constant(linear.weight_name)),
            shape=sliced_shape(graph, linear.weight_name, keeping),
        )

    def wanted(self, group: int) -> Floats:
        """Original weights of one kept group's kept outputs, (K, M)."""
        return np.asarray(self.weights[self.groups[group]][:, self.outputs[group]])

    def plain(self, group: int) -> Floats:
        """Plain slice of the weights of one kept group, (S, M)."""
        return self.wanted(group)[self.features[group]]

    def replacement(self, solved: Sequence[Solution]) -> Replacement:
        """Turn the groups' solutions into parameters in the operator's own layout."""
        matrix = np.stack([solution.weights for solution in solved])
        shift = np.concatenate([solution.shift for solution in solved])
        return Replacement(self.linear, weight_array(self.linear, matrix, self.shape), shift)

    def plain_replacement(self) -> Replacement:
        """Return the plain cut with a bias of its own."""
        groups = range(len(self.groups))
        blank = (Solution(self.plain(g), np.zeros(len(self.outputs[g])), 0.0, 0.0, 0.0, False) for g in groups)
        return self.replacement(list(blank))

    def rows(self, original: Array, cut: Array, places: Ints, drift: Array | None) -> Array:
        """Inputs of the cut model beside what its plain cut misses of the targets.

        Parameters
        ----------
        original, cut : array
            The operator's activation in both models, for one batch.
        places : (rows,) int64
            See `onnxmi.linear.feature_rows`.
        drift : (groups, rows, M) array or None
            What to add to the targets.

        Returns
        -------
        (groups, rows, S + M) array
        """
        before = feature_rows(self.linear, original, places)
        after = feature_rows(self.after, cut, places)
        joined = []
        for group, of_original in enumerate(self.groups):
            target = before[of_original] @ self.wanted(group).astype(before.dtype)
            missing = target - after[group] @ self.plain(group).astype(after.dtype)
            if drift is not None:
                missing = missing + drift[group]
            joined.append(np.concatenate([after[group], missing], axis=1))
        return np.stack(joined)

    def drift(self, original: Array, cut: Array, places: Ints, scale: Floats | None) -> Array:
        """What the cut model's residual stream is off by, in units of the operator's result.

        Parameters
        ----------
        original, cut : array
            The stream in both models.
        scale : (M,) float64 or None
            What the operator's result is multiplied by before it is added to the stream.

        Returns
        -------
        (groups, rows, M) array
        """
        before = output_rows(self.linear, original, places, self.linear.groups)
        after = output_rows(self.linear, cut, places, len(self.groups))
        kept = np.stack([before[g][:, outputs] for g, outputs in zip(self.groups, self.outputs, strict=True)])
        difference: Array = kept - after
        if scale is None:
            return difference
        per_group = scale.reshape(self.linear.groups, -1)
        factors = np.stack([per_group[g][outputs] for g, outputs in zip(self.groups, self.outputs, strict=True)])
        small = np.abs(factors) < SMALL_SCALE * np.abs(factors).max(initial=0.0)
        inverse = np.where(small, 0.0, 1.0 / np.where(small, 1.0, factors))
        return np.asarray(difference * inverse[:, None, :].astype(difference.dtype))
