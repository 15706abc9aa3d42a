"""Repair: refit every linear operator that lost inputs, by ridge regression on what survives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onnxmi.capture import Progress, Statistics, silent
from onnxmi.dims.channel_graph import ChannelGraph
from onnxmi.dims.term import Keeping
from onnxmi.information import Moments, fit, regress
from onnxmi.linear import Linear, weight_array, weight_matrix
from onnxmi.model import Model
from onnxmi.rewrite import Replacement, sliced_shape

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class RepairNote:
    """What repair did to one linear operator.

    Attributes
    ----------
    operator : str
        Its name.
    used : bool
        False where the plain cut was better on held-out samples, or the weights could not be replaced.
    ridge : float
        Relative ridge, the median over groups.
    error_plain, error_repaired : float
        Mean squared error of its outputs on held-out samples, relative to their variance.
    reason : str
        Why the repair was not used.
    """

    operator: str
    used: bool
    ridge: float = 0.0
    error_plain: float = 0.0
    error_repaired: float = 0.0
    reason: str = ""


def repair(
    model: Model,
    graph: ChannelGraph,
    linears: Sequence[Linear],
    keeping: Keeping,
    fitted: Statistics,
    held_out: Statistics | None,
    progress: Progress = silent,
) -> tuple[tuple[Replacement, ...], tuple[RepairNote, ...]]:
    """Solve every cut linear operator's regression on the original's surviving activations.

    Parameters
    ----------
    fitted, held_out : Statistics
        The regression is solved on the first and its ridge judged on the second, then solved anew on both together.

    Returns
    -------
    replacements
        New weights and bias corrections for `onnxmi.rewrite.rewrite`.
    notes
        One for each operator that lost inputs.
    """
    replacements: list[Replacement] = []
    notes: list[RepairNote] = []
    for done, linear in enumerate(linears):
        if not linear.kept_features(keeping).all():
            made, note = _repair_one(model, graph, linear, keeping, fitted, held_out)
            notes.append(note)
            replacements.extend(made)
        progress("repair", done + 1, len(linears))
    return tuple(replacements), tuple(notes)


def _repair_one(
    model: Model,
    graph: ChannelGraph,
    linear: Linear,
    keeping: Keeping,
    fitted: Statistics,
    held_out: Statistics | None,
) -> tuple[list[Replacement], RepairNote]:
    if linear.obstacle is not None:
        return [], RepairNote(linear.label, used=False, reason=linear.obstacle)
    weights = weight_matrix(linear, model.graph.constant(linear.weight_name))
    features, outputs = linear.kept_features(keeping), linear.kept_outputs(keeping)
    solved = [
        _Group.solve(
            fitted.moments[linear.key].group(group),
            None if held_out is None else held_out.moments[linear.key].group(group),
            np.flatnonzero(features[group]),
            weights[group][:, outputs[group]],
        )
        for group in range(linear.groups)
        if features[group].any() and outputs[group].any()
    ]
    note = _note(linear, solved)
    if not note.used:
        return [], note
    matrix = np.stack([group.weights for group in solved])
    shape = sliced_shape(graph, linear.weight_name, keeping)
    array = weight_array(linear, matrix, shape)
    return [Replacement(linear, array, np.concatenate([group.shift for group in solved]))], note


@dataclass(frozen=True, eq=False)
class _Group:
    """The solution of one group: weights (S, M), the change of its bias (M,), and errors relative to the variance."""

    weights: Floats
    shift: Floats
    ridge: float
    error_plain: float
    error_repaired: float
    used: bool

    @staticmethod
    def solve(fitted: Moments, held_out: Moments | None, kept: NDArray[np.int64], weights: Floats) -> _Group:
        bias = np.zeros(weights.shape[1])  # the original bias adds to both sides: only its change is solved for
        result = fit(fitted, held_out, kept, weights, bias)
        best, shift = result.weights, result.bias
        if result.used and held_out is not None:
            best, shift = regress(fitted.merge(held_out), kept, weights, bias, ridge=result.ridge)
        judge = held_out or fitted
        spread = float(np.einsum("km,km->", weights, judge.covariance @ weights)) or 1.0
        errors = result.error_plain / spread, result.error_repaired / spread
        return _Group(best, shift, result.ridge, *errors, result.used)


def _note(linear: Linear, solved: Sequence[_Group]) -> RepairNote:
    plain = float(np.mean([group.error_plain for group in solved]))
    repaired = float(np.mean([group.error_repaired for group in solved]))
    used = any(group.used for group in solved)
    reason = "" if used else "the plain cut is better on held-out samples"
    return RepairNote(linear.label, used, float(np.median([g.ridge for g in solved])), plain, repaired, reason)
