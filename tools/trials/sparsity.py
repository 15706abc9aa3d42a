"""Sparsity, the same for every method: the share of the entries of the prunable matrices that is gone.

A prunable matrix is the stored weight of a linear operator that makes or reads a layer which may be cut. Biases,
normalisations and embeddings are none, and count for no method. Zeroing takes entries; a structured cut takes rows and
columns: with the share k of all layers kept, about 1 - k^2 of a matrix between two of them, and 1 - k of one at an end.
Zeroing matrix by matrix takes of each what the cut does: at the ends of a network much less can go than between.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod

from onnxmi.axes.terms import atoms
from onnxmi.budget.latency_model import keep_first_units
from onnxmi.budget.size_grid import uniform
from onnxmi.graph.linear import Linear
from onnxmi.pruning.session import PruningSession
from onnxmi.transforms.prune_channels import sliced_shape

STEPS = 40  # of a bisection: more than any layer can tell apart


def prunable(session: PruningSession) -> dict[str, Linear]:
    """The prunable matrices: name of the stored tensor -> its operator."""
    cut = {layer.id for layer in session.layers}
    axes = session.analysis.graph.axes
    carried = {n: {atom.id for term in axes[n] for atom in atoms(term)} for n in axes}
    linears = {linear.weight_name: linear for linear in session.analysis.linears}
    return {name: linear for name, linear in linears.items() if carried.get(name, set()) & cut}


def shares_of(session: PruningSession, counts: Mapping[int, int]) -> dict[str, float]:
    """What a structured cut takes of each prunable matrix, so that zeroing can take as much of it."""
    keeping, graph = keep_first_units(session.layers, counts), session.analysis.graph
    before = {name: prod(session.model.graph.constant_shape(name)) for name in prunable(session)}
    return {name: 1 - prod(sliced_shape(graph, name, keeping)) / size for name, size in before.items()}


def sparsity_of(session: PruningSession, counts: Mapping[int, int]) -> float:
    """Sparsity of a structured cut that keeps these numbers of units; which ones makes no difference."""
    sizes = {name: prod(session.model.graph.constant_shape(name)) for name in prunable(session)}
    return sum(share * sizes[name] for name, share in shares_of(session, counts).items()) / sum(sizes.values())


def uniform_at(session: PruningSession, sparsity: float) -> dict[int, int]:
    """Numbers of units, the same share of every layer, whose sparsity is nearest to what is asked."""
    keep = nearest(lambda k: sparsity_of(session, uniform(session.layers, k)), sparsity)
    return uniform(session.layers, keep)


def shares_at(session: PruningSession, sparsity: float) -> dict[str, float]:
    """What the uniform cut at a sparsity takes of each prunable matrix."""
    return shares_of(session, uniform_at(session, sparsity))


def nearest(sparsity_at: Callable[[float], float], wanted: float) -> float:
    """The share to keep whose sparsity, which falls with it, is nearest to the one wanted."""
    low, high = 0.0, 1.0
    for _ in range(STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if sparsity_at(middle) <= wanted else (middle, high)
    return min((low, high), key=lambda keep: abs(sparsity_at(keep) - wanted))
