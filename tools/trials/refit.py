"""Unstructured pruning with repair: what is left of each output's weights makes up for what is zeroed.

SparseGPT (Frantar and Alistarh 2023, arXiv:2301.00774), in one pass on moments of the dense model's activations. They
are centred, and biases take up the change of the mean. `trials.stepwise` goes further, as the structured repair does.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxmi.graph.linear import weight_array, weight_matrix
from onnxmi.pruning.session import PruningSession
from trials.sparsity import prunable, shares_at

Floats = NDArray[np.float64]
BLOCK, DAMPING = 128, 0.01  # the authors' values


def sparsegpt(session: PruningSession, sparsity: float) -> dict[str, NDArray[Any]]:
    """New values of the prunable matrices and of their biases, by name."""
    values: dict[str, NDArray[Any]] = {}
    measured, graph = session.measured.fit, session.model.graph
    shares = shares_at(session, sparsity)
    for name, linear in prunable(session).items():
        array = graph.constant(name)
        before = weight_matrix(linear, array)
        moments = measured.sources[measured.keys[linear.key]]
        bias = linear.biases[0]
        after, shifts = np.empty_like(before), []
        for number in range(linear.groups):
            own = moments.group(number)
            mean = own.mean if bias is not None else np.zeros_like(own.mean)
            second = own.covariance + np.outer(own.mean, own.mean) - np.outer(mean, mean)
            after[number] = refitted(before[number].T, second, shares[name]).T
            shifts.append(mean @ (before[number] - after[number]))
        values[name] = weight_array(linear, after, array.shape).astype(array.dtype)
        if bias is not None and bias.stored is not None:
            old = graph.constant(bias.stored.name)
            values[bias.stored.name] = (old + np.concatenate(shifts) / linear.beta).astype(old.dtype)
    return values


def refitted(weights: Floats, moments: Floats, sparsity: float) -> Floats:
    """Zero a share of weights (outputs, inputs), block of inputs by block, and correct what is still to come.

    Parameters
    ----------
    moments : (inputs, inputs) float64
        Second moments of the inputs.
    """
    result = weights.copy()
    inputs = len(moments)
    damped = moments + (DAMPING * np.diagonal(moments).mean() + 1e-12) * np.eye(inputs)
    upper = np.linalg.cholesky(np.linalg.inv(damped)).T
    for start in range(0, inputs, BLOCK):
        stop = min(start + BLOCK, inputs)
        diagonal = np.diagonal(upper)[start:stop]
        saliency = np.square(result[:, start:stop] / diagonal)
        gone = np.zeros(saliency.size, dtype=bool)
        gone[np.argsort(saliency, axis=None, kind="stable")[: round(sparsity * saliency.size)]] = True
        gone = gone.reshape(saliency.shape)
        errors = np.zeros_like(saliency)
        for column in range(stop - start):
            place = start + column
            errors[:, column] = np.where(gone[:, column], result[:, place], 0) / upper[place, place]
            result[:, place:stop] -= np.outer(errors[:, column], upper[place, place:stop])
            result[gone[:, column], place] = 0
        result[:, stop:] -= errors @ upper[start:stop, stop:]
    return result
