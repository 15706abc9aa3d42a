"""Normalizations that lost channels: their scale and shift are refitted, channel by channel.

What a normalization runs over changes every channel that stays: its mean and its deviation are those of fewer channels.
Regressing the original's normalized channels on the cut model's, one by one, puts back what a scale and a shift can.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from onnxmi.information.paired_moments import PairMoments
from onnxmi.model import Model, Node
from onnxmi.operators.registry import operator_of
from onnxmi.repair.regression import RepairNote
from onnxmi.transforms.cut import Cut
from onnxmi.transforms.prune_channels import VectorReplacement
from onnxmi.typing import Floats, Ints


@dataclass(frozen=True, eq=False)
class NormalizationParameters:
    """A normalization over its last axis with a stored scale and shift.

    Attributes
    ----------
    node : Node
        The operator.
    scale : int
        Operand position of the scale.
    shift : int or None
        Operand position of the shift, where there is one.
    kept : (C,) int64
        Channels that stay.
    """

    node: Node
    scale: int
    shift: int | None
    kept: Ints

    @property
    def result(self) -> str:
        """The normalized tensor."""
        return self.node.outputs[0]


def find_normalizations(cut: Cut) -> Iterator[NormalizationParameters]:
    """Yield the normalizations that lose channels and whose parameters can be replaced."""
    model, keeping, removed = cut.model, cut.keeping, cut.branches.removed
    for normalisation in cut.graph.normalizations:
        node = model.graph.nodes[normalisation.node]
        if node.index in removed or node.loops:  # a loop runs as a whole
            continue
        parameters = operator_of(node).norm_parameters
        # Over several axes the statistics mix channels with positions: no scale per channel undoes that.
        if parameters is None or len(normalisation.terms) != 1 or not keeping.cuts(normalisation.terms[0]):
            continue
        scale, shift = parameters.scale, parameters.shift
        if shift is not None and (shift >= len(node.inputs) or not node.inputs[shift]):
            shift = None
        operands = [operand for operand in (scale, shift) if operand is not None]
        if all(_is_vector(model, node.inputs[operand]) for operand in operands):
            kept = keeping.positions(normalisation.terms[0])
            yield NormalizationParameters(node, scale, shift, kept)


def _is_vector(model: Model, name: str) -> bool:
    return model.graph.is_constant(name) and len(model.graph.constant_shape(name)) == 1


def refit_normalization(
    model: Model, normalization: NormalizationParameters, fit: PairMoments, validation: PairMoments | None
) -> tuple[tuple[Floats, Floats] | None, tuple[VectorReplacement, ...], RepairNote]:
    """Fit the original's channels to the cut model's, and use it where it is better on the validation samples.

    Returns
    -------
    scale and shift (C,) to apply to the cut model's result (None if not used), the new parameters, and a note.
    """
    # A normalization over fewer channels has another mean and variance; per channel a line corrects most of it.
    scale, shift = fit.fit(shifted=normalization.shift is not None)
    decisive = validation or fit
    error_plain = decisive.error(np.ones_like(scale), np.zeros_like(shift))
    error = decisive.error(scale, shift)
    # Constant channels have no variance to relate an error to.
    spread = float(decisive.yy.sum() / decisive.count) or 1.0
    used = error < error_plain
    reason = "" if used else "the unrepaired cut is better on validation samples"
    note = RepairNote(normalization.node.label, used, 0.0, error_plain / spread, error / spread, reason)
    if not used:
        return None, (), note
    return (scale, shift), tuple(_replacements(model, normalization, scale, shift)), note


def _replacements(
    model: Model, normalization: NormalizationParameters, scale: Floats, shift: Floats
) -> Iterator[VectorReplacement]:
    """New parameters: scaling a result by s and shifting it by t is scaling its parameters by s and adding t."""
    operands = [(normalization.scale, np.zeros_like(shift))]
    if normalization.shift is not None:
        operands.append((normalization.shift, shift))
    for operand, extra in operands:
        old = model.graph.constant(normalization.node.inputs[operand])[normalization.kept]
        yield VectorReplacement(
            normalization.node.index, operand, (old.astype(np.float64) * scale + extra).astype(old.dtype)
        )
