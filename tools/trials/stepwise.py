"""Zeroing with the repair that cuts have: step by step, on what the model with zeros feeds each operator.

Both models go through the same samples operator by operator. Each prunable matrix is fitted to what the dense model's
operator puts out, given the inputs that the zeros before it leave; SparseGPT says which entries of the fit go, and what
stays of each output's weights is fitted again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import Tensor

from onnxmi.graph.linear import Linear
from onnxmi.pruning.session import PruningSession
from trials.cases import BATCH
from trials.refit import DAMPING, refitted
from trials.sparsity import prunable, shares_at
from trials.twin import Twin, written_back

Floats = NDArray[np.float64]
Known = dict[str, Any]
ROWS_PER_INPUT, LEAST_ROWS = 8, 4096  # positions that a convolution is fitted to; a dense layer takes all


def repaired_zeros(session: PruningSession, sparsity: float) -> dict[str, NDArray[Any]]:
    """New values of the prunable matrices and of their biases, by name."""
    proto, linears = session.model.proto, prunable(session)
    shares = shares_at(session, sparsity)
    biases = {name: _stored_bias(linear) for name, linear in linears.items()}
    dense, sparse = Twin(proto), Twin(proto)
    names = [info.name for info in proto.graph.input]
    batches = [
        {name: torch.from_numpy(feeds[name]) for name in names}
        for _, feeds in session.data.packed(session.split.fit, BATCH)
    ]
    walks = _Walk(dense, batches), _Walk(sparse, batches)
    rng = np.random.default_rng(session.options.seed)
    for index, node in enumerate(dense.nodes):
        walks[0].advance(index)
        weight = node.input[1] if len(node.input) > 1 else ""
        if weight in linears:
            _refit(sparse, weight, biases[weight], shares[weight], _rows(node, walks, dense, rng))
        walks[1].advance(index)
        for walk in walks:
            walk.forget(index)
    made = {t.name: numpy_helper.to_array(t) for t in written_back(proto, sparse).graph.initializer}
    return {name: made[name] for name in (*linears, *filter(None, biases.values()))}


def _stored_bias(linear: Linear) -> str | None:
    bias = linear.biases[0]
    return None if bias is None or bias.stored is None else bias.stored.name


class _Walk:
    """One model on its way through the samples: what later nodes read, batch by batch."""

    def __init__(self, twin: Twin, batches: Sequence[Mapping[str, Tensor]]) -> None:
        self.twin = twin
        self.known: list[Known] = [dict(batch) for batch in batches]
        self._last = {name: i for i, node in enumerate(twin.nodes) for name in node.input}

    def advance(self, index: int) -> None:
        with torch.no_grad():
            for known in self.known:
                self.twin.advance(index, known)

    def forget(self, index: int) -> None:
        """Drop what no later node reads."""
        for known in self.known:
            for name in [n for n in known if self._last.get(n, index + 1) <= index]:
                del known[name]


def _rows(node: Any, walks: tuple[_Walk, _Walk], dense: Twin, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Inputs (n, K) of the model with zeros, and outputs (n, M) of the dense one."""
    given, wanted = node.input[0], node.output[0]
    pairs = zip((known[given] for known in walks[1].known), (known[wanted] for known in walks[0].known), strict=True)
    if node.op_type != "Conv":
        parts = [(x.flatten(0, -2), y.flatten(0, -2)) for x, y in pairs]
    else:
        module = dense.get_submodule(dense.places[node.input[1]].removesuffix(".weight"))
        inputs, total = int(module.weight[0].numel()), sum(len(known[given]) for known in walks[1].known)
        each = -(-max(LEAST_ROWS, ROWS_PER_INPUT * inputs) // total)
        parts = [_positions(module, x, y, each, rng) for x, y in pairs]
    rows = [torch.cat(column).double().numpy() for column in zip(*parts, strict=True)]
    return rows[0], rows[1]


def _positions(module: Any, x: Tensor, y: Tensor, each: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Some positions of every image: patches that a convolution reads, and what it puts out there."""
    settings = {"padding": module.padding, "stride": module.stride, "dilation": module.dilation}
    patches = torch.nn.functional.unfold(x, module.kernel_size, **settings).movedim(1, 2)  # (N, L, K)
    results = y.flatten(2).movedim(1, 2)
    places = torch.from_numpy(rng.permuted(np.tile(np.arange(patches.shape[1]), (len(x), 1)), axis=1)[:, :each])
    return tuple(  # type: ignore[return-value]
        rows.gather(1, places[:, :, None].expand(-1, -1, rows.shape[2])).flatten(0, 1) for rows in (patches, results)
    )


def _refit(sparse: Twin, weight: str, bias: str | None, share: float, rows: tuple[Floats, Floats]) -> None:
    """Fit, zero and fit again one matrix of the model with zeros, and the bias behind it."""
    inputs, wanted = rows
    parameter = sparse.get_parameter(sparse.places[weight])
    conv_or_linear = sparse.places[weight].startswith("modules_of.")  # (M, K, ...), bias added at once
    old = parameter.detach().double().numpy()
    before = old.reshape(len(old), -1) if conv_or_linear else old.T
    if bias is not None and conv_or_linear:
        wanted = wanted - sparse.get_parameter(sparse.places[bias]).detach().double().numpy()
    means = [part.mean(axis=0) if bias is not None else np.zeros(part.shape[1]) for part in (inputs, wanted)]
    inputs, wanted = inputs - means[0], wanted - means[1]
    moments = inputs.T @ inputs / len(inputs)
    ridge = DAMPING * float(np.diagonal(moments).mean()) + 1e-12
    damped = moments + ridge * np.eye(len(moments))
    towards = wanted.T @ inputs / len(inputs) + ridge * before
    fitted = refitted(np.linalg.solve(damped, towards.T).T, moments, share)
    after = on_support(damped, towards, fitted != 0)
    with torch.no_grad():
        parameter.copy_(torch.from_numpy(after if conv_or_linear else after.T).reshape(parameter.shape))
        if bias is not None:
            shift = torch.from_numpy(means[1] - after @ means[0])
            sparse.get_parameter(sparse.places[bias]).add_(shift)


def on_support(moments: Floats, products: Floats, kept: NDArray[np.bool_]) -> Floats:
    """Least squares with some weights of each output held at zero.

    Parameters
    ----------
    moments : (K, K) float64
        Second moments of the inputs.
    products : (M, K) float64
        Of outputs and inputs.
    kept : (M, K) bool
        Weights that are free.
    """
    weights = np.zeros_like(products)
    for row, target, free in zip(weights, products, kept, strict=True):
        own = np.flatnonzero(free)
        row[own] = np.linalg.solve(moments[np.ix_(own, own)], target[own])
    return weights
