"""What every exchange of one block of features for another does to the volume (determinant) of a chosen set."""

from __future__ import annotations

import numpy as np

from onnxmi.information.arrays import Floats, Ints
from onnxmi.information.sweep import log_determinants


def volume_changes(matrix: Floats, size: int, inside: Ints, outside: Ints, floor: float) -> Floats:
    """Change of ``logdet A_SS`` when one of the units inside makes room for one outside.

    Leaving out j multiplies the determinant by that of ``(A_SS^-1)_jj`` and turns the conditional block of i into
    ``A_ii|S + Z_ji' (A_SS^-1)_jj^-1 Z_ji`` with ``Z = A_SS^-1 A_Si`` (inverse of a partitioned matrix).

    Parameters
    ----------
    matrix : (n * size, n * size) positive definite, unit by unit.
    inside : (s,) the units of S.
    outside : (f,) the others.
    floor : no eigenvalue of a conditional block is taken below it.

    Returns
    -------
    (s, f), in O(s**2 f) for all pairs together.
    """
    own, other = _features(inside, size), _features(outside, size)
    inverse = np.linalg.inv(matrix[np.ix_(own, own)])
    cross = matrix[np.ix_(own, other)]
    loads = (inverse @ cross).reshape(-1, outside.size, size).transpose(1, 0, 2)
    blocks = matrix[np.ix_(other, other)].reshape(outside.size, size, outside.size, size)
    each = np.arange(outside.size)
    given = blocks[each, :, each, :] - cross.reshape(-1, outside.size, size).transpose(1, 2, 0) @ loads
    changes = np.empty((inside.size, outside.size))
    for row in range(inside.size):
        features = slice(row * size, (row + 1) * size)
        removed, load = inverse[features, features], loads[:, features]
        freed = load.transpose(0, 2, 1) @ np.linalg.solve(removed[None], load)
        changes[row] = np.linalg.slogdet(removed)[1] + log_determinants(given + freed, floor)
    return changes


def _features(units: Ints, size: int) -> Ints:
    """Positions of the features of ``units``, unit by unit."""
    return np.asarray(units[:, None] * size + np.arange(size), dtype=np.int64).reshape(-1)
