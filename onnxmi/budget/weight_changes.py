"""What cuts of a layer and their refits change of a consumer's weights, for all sizes from one factor."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from onnxmi.information.cholesky import backward, root, shifted
from onnxmi.typing import Bools, Floats

RIDGE = 1e-3  # of the mean variance: that of the one-pass repair where damage is measured
LEAST = 1e-12  # variance that is added where no feature varies


def weight_changes(weights: Floats, covariance: Floats, kept: Bools) -> NDArray[np.float32]:
    """Change of the weights of one group at each size: less what is cut, plus the refit of what stays.

    Parameters
    ----------
    weights : (K, M) float64
        Of the original.
    covariance : (K, K) float64
        Of its input features.
    kept : (sizes, K) bool
        Which features stay; a feature that stays at a size stays at all larger ones.

    Returns
    -------
    (sizes, K, M) float32
        ``-W`` for features that go, ``(C_ss + ridge)^-1 C_sc W_c`` for those that stay.
    """
    # In the order in which sizes drop features, the covariances of all sizes are leading blocks of one matrix, so their
    # Cholesky factors are leading blocks of one factor L. With L = [[A, 0], [B, D]], C_ss^-1 C_sc = A'^-1 B'.
    order = np.argsort((~kept).sum(0), kind="stable")
    sorted_covariance = covariance[np.ix_(order, order)]
    # The ridge of the refit that follows a real cut; without variance any positive number makes a factor.
    shift = RIDGE * float(np.diagonal(covariance).mean()) or LEAST
    lower, own = root(shifted(sorted_covariance, shift)), weights[order]
    changes = np.zeros((len(kept), *weights.shape), dtype=np.float32)
    for number, stays in enumerate(kept):
        count = int(stays.sum())
        change = np.zeros_like(own)
        # What is cut changes by all of its weight, what stays by its refit.
        change[count:] = -own[count:]
        if 0 < count < len(own):
            change[:count] = backward(lower[:count, :count], lower[count:, :count].T @ own[count:])
        changes[number, order] = change
    return changes
