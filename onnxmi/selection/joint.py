"""The joint score: units that together have the most Gaussian information about everything that is kept above."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from onnxmi.information import Selection, View, joint
from onnxmi.selection.scorer import Candidates, Scorer
from onnxmi.selection.targets import Target

# Of the noise on the targets, in their mean variances. With output sensitivity it is as strong as the signal: little
# of that is worth knowing exactly. Chosen on test samples (docs/decisions/009).
NOISE, SENSITIVITY_NOISE = 0.01, 1.0


def select_jointly(candidates: Candidates) -> Selection:
    """Greedy joint Gaussian information about all targets; see `onnxmi.information.joint`.

    Where the sensitivities of all targets are known, they are weighted by them.
    """
    weighted = _sensitivity_views(candidates.targets)
    views = weighted or [View(c.covariance, c.weights, c.units) for c in candidates.targets]
    noise = SENSITIVITY_NOISE if weighted else NOISE
    quota = candidates.quota_of_parts
    return joint(views, candidates.units, candidates.keep, noise=noise, parts=candidates.parts, quota=quota)


def _sensitivity_views(targets: Sequence[Target]) -> list[View]:
    """Views of what moves the outputs, weighted by how much it does; none unless that is known of all targets."""
    views = [View(c.covariance, c.sensitivity_weighted, c.units) for c in targets if c.sensitivity_weighted is not None]
    # The variance of X L, summed over its columns, is the expected squared change of the outputs if Y is lost.
    powers = [float(np.einsum("km,km->", view.covariance @ view.weights, view.weights)) for view in views]
    if len(views) < len(targets) or not any(power > 0.0 for power in powers):
        return []
    return [replace(view, weight=power / max(powers)) for view, power in zip(views, powers, strict=True) if power > 0.0]


JOINT = Scorer(select_jointly, uses_sensitivity=True)
