"""One linear operator before and after a cut: what stays of its weights, and how both models' tensors line up."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np

from onnxmi.axes.keeping import Keeping
from onnxmi.axes.terms import Axes
from onnxmi.graph.linear import (
    Linear,
    feature_rows,
    kept_along_axes,
    output_rows,
    weight_array,
    weight_matrix,
    weights_of,
)
from onnxmi.graph.quantization import KeptAlongAxis
from onnxmi.model import Model
from onnxmi.repair.regression import Solution
from onnxmi.transforms.cut import Cut
from onnxmi.transforms.prune_channels import Replacement, sliced_shape
from onnxmi.typing import Array, Floats, Ints

SMALL_SCALE = 1e-3  # a channel that is scaled down this far after the operator cannot correct anything


@dataclass(frozen=True, eq=False)
class OperatorCut:
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
    model : Model
        The original.
    staying : function
        What stays along each axis of the stored weight.
    """

    linear: Linear
    after: Linear
    groups: tuple[int, ...]
    features: tuple[Ints, ...]
    outputs: tuple[Ints, ...]
    weights: Floats
    shape: tuple[int, ...]
    model: Model
    staying: KeptAlongAxis

    @staticmethod
    def of(cut: Cut, linear: Linear) -> OperatorCut:
        """Work out what a cut leaves of an operator."""
        model, graph, keeping = cut.model, cut.graph, cut.keeping
        features, outputs = linear.kept_features(keeping), linear.kept_outputs(keeping)
        blind = not features.any()  # where all groups lost all their inputs, only the bias is left to repair
        # A group without inputs or outputs is gone; its weights are not in the cut model.
        groups = tuple(g for g in range(linear.groups) if (blind or features[g].any()) and outputs[g].any())
        return OperatorCut(
            linear=linear,
            after=replace(linear, groups=len(groups)),
            groups=groups,
            features=tuple(np.flatnonzero(features[g]) for g in groups),
            outputs=tuple(np.flatnonzero(outputs[g]) for g in groups),
            weights=weights_of(model, linear),
            shape=sliced_shape(graph, linear.weight_name, keeping),
            model=model,
            staying=kept_along_axes(graph, linear, keeping),
        )

    def original_weights(self, group: int) -> Floats:
        """Original weights of one kept group's kept outputs, (K, M)."""
        return np.asarray(self.weights[self.groups[group]][:, self.outputs[group]])

    def plain(self, group: int) -> Floats:
        """Plain slice of the weights of one kept group, (S, M)."""
        return self.original_weights(group)[self.features[group]]

    def replacement(self, solved: Sequence[Solution]) -> Replacement:
        """Turn the groups' solutions into parameters in the operator's own layout."""
        # All groups keep equally many inputs and outputs, so they stack.
        matrix = np.stack([solution.weights for solution in solved])
        shift = np.concatenate([solution.shift for solution in solved])
        weights = self.linear.weights.encoded(self.model, weight_array(self.after, matrix, self.shape), self.staying)
        return Replacement(self.linear, weights, shift)

    def rounded(self, solved: Sequence[Solution]) -> list[Floats]:
        """The groups' weights as they come back from where they are stored: quantized ones are rounded and clipped."""
        if self.linear.weights.scheme is None:
            return [solution.weights for solution in solved]
        return self.matrices(self.replacement(solved))

    def matrices(self, replacement: Replacement) -> list[Floats]:
        """Return the weights that a replacement gives each kept group, (S, M)."""
        assert replacement.weights is not None
        decoded = self.linear.weights.decoded(self.model, replacement.weights, self.staying)
        return [matrix.astype(np.float64) for matrix in weight_matrix(self.after, decoded)]

    def targets(self, results: Array, cut: Array, row_indices: Ints, stream_error: Array | None) -> tuple[Array, Array]:
        """Inputs of the cut model, and the results that are wanted of them.

        Parameters
        ----------
        results : (groups, rows, M) array
            Of the original, all groups and outputs, without the bias: the cut model is to give them on its own.
        cut : array
            The operator's activation in the cut model, for one batch.
        row_indices : (rows,) int64
            See `onnxmi.graph.linear.feature_rows`.
        stream_error : (groups, rows, M) array or None
            What to add to the results; of what stays.

        Returns
        -------
        (groups, rows, S) and (groups, rows, M) arrays; the results are without bias.
        """
        inputs, wanted = feature_rows(self.after, cut, row_indices), self._staying(results)
        return inputs, wanted if stream_error is None else wanted + stream_error

    def _staying(self, results: Array) -> Array:
        """Pick the groups and outputs that stay."""
        return np.stack([results[g][:, out] for g, out in zip(self.groups, self.outputs, strict=True)])

    def joined(self, inputs: Array, targets: Array, priors: Sequence[Floats]) -> Array:
        """Inputs beside what weights (S, M) of each group miss of the wanted results, (groups, rows, S + M)."""
        # Relative to the prior's results: the moments of what is missing are small, and so is their rounding.
        missing = [targets[k] - inputs[k] @ prior.astype(inputs.dtype) for k, prior in enumerate(priors)]
        return np.concatenate([inputs, np.stack(missing)], axis=-1)

    def stream(self, original: Array, cut: Array, row_indices: Ints, shape: Sequence[int]) -> tuple[Array, Array]:
        """Return what the results are added to, in both models: (groups, rows, M) each.

        Parameters
        ----------
        original : (groups, rows, M) array
            Of all groups and outputs.
        cut : array
            Of the shape that the cut model has it in; it may broadcast to the results'.
        shape : sequence of int
            Of the original's results, with the rows that stay and all outputs.
        """
        whole = list(shape)
        whole[self.linear.layout.channel_axis] = sum(map(len, self.outputs))
        after = output_rows(self.linear, np.broadcast_to(cut, whole), row_indices, len(self.groups))
        return self._staying(original), after

    def kept(self, of_outputs: Floats) -> Floats:
        """Pick the outputs that stay from one value an output, (groups, 1, M)."""
        per_group = of_outputs.reshape(self.linear.groups, -1)
        return np.stack([per_group[g][out] for g, out in zip(self.groups, self.outputs, strict=True)])[:, None]


def inverse(factors: Floats) -> Floats:
    """One over each factor; 0 for those too small to undo."""
    # Dividing by a scale near 0 would ask for huge results, and the fit would serve these alone.
    small = np.abs(factors) <= SMALL_SCALE * np.abs(factors).max(initial=0.0)
    return np.where(small, 0.0, 1.0 / np.where(small, 1.0, factors))


def remaining_rows(original: Array, axes: Axes | None, columns: Collection[int], keeping: Keeping) -> Array:
    """Leave out the rows of a tensor of the original that the cut model does not have.

    Rows are positions mostly, which stay; but a layer over positions has channels for rows, as in a mixer.

    Parameters
    ----------
    original : array
        The tensor.
    axes : tuple of Term or None
        Its axes, where they are known.
    columns : collection of int
        The axes that are not among the rows; they stay whole.
    keeping : Keeping
        What stays of each cut atom.
    """
    for axis, term in enumerate(axes or ()):
        if axis not in {column % original.ndim for column in columns} and keeping.cuts(term):
            kept = np.resize(keeping.mask(term), original.shape[axis])  # batches differ in size, and lead
            original = np.compress(kept, original, axis=axis)
    return original
