"""Unstructured pruning: entries of the prunable matrices become zero; shapes, and so the work, stay."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from onnxmi.graph.linear import weight_array, weight_matrix
from onnxmi.pruning.session import PruningSession
from trials.sparsity import prunable, shares_at

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


def largest(scores: Floats, sparsity: float) -> Bools:
    """Mask of the entries that stay: all but a share of the smallest scores, ties cut in order of place."""
    mask = np.ones(scores.size, dtype=bool)
    mask[np.argsort(scores, axis=None, kind="stable")[: round(sparsity * scores.size)]] = False
    return mask.reshape(scores.shape)


def magnitudes(session: PruningSession) -> dict[str, Floats]:
    return {name: np.abs(session.model.graph.constant(name)).astype(np.float64) for name in prunable(session)}


def by_matrix(session: PruningSession, sparsity: float) -> dict[str, Bools]:
    """Magnitude, of each matrix as much as the uniform cut takes of it."""
    shares = shares_at(session, sparsity)
    return {name: largest(scores, shares[name]) for name, scores in magnitudes(session).items()}


def by_model(session: PruningSession, sparsity: float) -> dict[str, Bools]:
    """Magnitude, the smallest entries of all matrices together."""
    scores = magnitudes(session)
    flat = largest(np.concatenate([s.ravel() for s in scores.values()]), sparsity)
    parts = np.split(flat, np.cumsum([s.size for s in scores.values()])[:-1])
    return {name: part.reshape(s.shape) for (name, s), part in zip(scores.items(), parts, strict=True)}


def wanda(session: PruningSession, sparsity: float) -> dict[str, Bools]:
    """|w| sqrt(E x**2), compared among the inputs of each output (Sun et al. 2024, arXiv:2306.11695)."""
    masks: dict[str, Bools] = {}
    measured, shares = session.measured.fit, shares_at(session, sparsity)
    for name, linear in prunable(session).items():
        array = session.model.graph.constant(name)
        weights = weight_matrix(linear, array)  # (groups, K, M)
        moments = measured.sources[measured.keys[linear.key]]
        groups = [moments.group(g) for g in range(linear.groups)]
        norms = np.sqrt(np.stack([np.diagonal(m.covariance) + np.square(m.mean) for m in groups]))
        scores = np.abs(weights) * norms[:, :, None]
        kept = np.ones_like(scores)
        order = np.argsort(scores, axis=1, kind="stable")[:, : round(shares[name] * scores.shape[1])]
        np.put_along_axis(kept, order, 0.0, axis=1)
        masks[name] = weight_array(linear, kept * linear.alpha, array.shape) > 0
    return masks


ZEROINGS: Mapping[str, Callable[[PruningSession, float], dict[str, Bools]]] = {
    "magnitude, per matrix": by_matrix,
    "magnitude, whole model": by_model,
    "wanda, per output": wanda,
}


def share_of_zeros(session: PruningSession, proto: onnx.ModelProto) -> float:
    """Of the entries of the prunable matrices of a model that came from the study's."""
    names = prunable(session).keys()
    found = [numpy_helper.to_array(t) for t in proto.graph.initializer if t.name in names]
    return 1 - sum(np.count_nonzero(array) for array in found) / sum(array.size for array in found)


def zeroed(proto: onnx.ModelProto, masks: Mapping[str, Bools]) -> onnx.ModelProto:
    """A copy of the model with zeros where the masks are False."""
    stored = {t.name: numpy_helper.to_array(t) for t in proto.graph.initializer if t.name in masks}
    return with_values(proto, {n: np.where(masks[n], a, 0).astype(a.dtype) for n, a in stored.items()})


def with_values(proto: onnx.ModelProto, values: Mapping[str, NDArray[Any]]) -> onnx.ModelProto:
    """A copy of the model with other values of some stored tensors."""
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    for tensor in copy.graph.initializer:
        if tensor.name in values:
            tensor.CopyFrom(numpy_helper.from_array(values[tensor.name], tensor.name))
    return copy
