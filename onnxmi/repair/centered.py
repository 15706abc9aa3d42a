"""Putting the means of the outputs right: the last biases take up what the whole cut adds to or takes from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from onnxmi.repair.epilogue import result_of
from onnxmi.repair.regression import Repaired
from onnxmi.transforms.cut import Cut
from onnxmi.transforms.prune_channels import Replacement
from onnxmi.typing import Floats


def centered(cut: Cut, repaired: Repaired, offsets: Mapping[str, Floats]) -> Repaired:
    """Add offsets to the biases of the operators whose results they are of; no others are changed.

    Parameters
    ----------
    offsets : mapping of str to (M,) float64
        Tensor -> what to add to its columns. See `onnxmi.evaluation.offsets.mean_offsets`.
    """
    known = {
        replacement.linear.key: replacement
        for replacement in repaired.replacements
        if isinstance(replacement, Replacement)
    }
    changed: dict[str, Replacement] = {}
    for linear in cut.linears:
        # A bias of its own is needed: what several nodes share would move other results, too.
        if linear.obstacle is not None or len(linear.nodes) > 1 or linear.layout.has_epilogue:
            continue
        offset = offsets.get(result_of(cut.model.graph, linear))
        if offset is None or offset.size != int(linear.kept_outputs(cut.keeping).sum()) or not offset.any():
            continue
        # On top of the repair, whose bias was fitted to this operator alone.
        old = known.get(linear.key, Replacement(linear, None, np.zeros_like(offset)))
        changed[linear.key] = replace(old, shift=old.shift + offset)
    others = [m for m in repaired.replacements if not isinstance(m, Replacement) or m.linear.key not in changed]
    return replace(repaired, replacements=(*others, *changed.values()))
