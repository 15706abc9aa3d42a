"""What a query-key dimension is worth: its share in the attention scores, measured.

A score is ``s_ij = sum_d q_id k_jd``: a sum of products that no weight follows. Softmax over the keys does not see what
is the same for every key j of a query i, so the share of dimension d in what it sees is

    p_ijd = q_id (k_jd - mean_j k_jd)

Within one sample its second moments over all pairs (i, j) are the Hadamard product of the queries' second moments and
the keys' covariance: ``E[p p'] = E[q q'] o Cov(k)``. No pair is ever formed, and summing over the samples is exact. So
the dimensions are features with this covariance, their sum is the target, and the layer is scored like any other: by
the information that the dimensions kept tell about the full score.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from onnxmi.axes.keeping import Keeping
from onnxmi.axes.terms import AtomId, Dim, Product, Term, atoms, coordinates
from onnxmi.graph.channel_graph import ChannelGraph, Layer
from onnxmi.graph.padding_mask import sizes
from onnxmi.information import Moments
from onnxmi.model import Graph, Node
from onnxmi.operators.operator import QueryKeyAxes
from onnxmi.operators.reduction import softmax_axes
from onnxmi.operators.registry import operator_of
from onnxmi.statistics.row_sampling import Batch
from onnxmi.typing import Array, Bools, Ints


@dataclass(frozen=True)
class ScoreProduct:
    """A product of queries (..., i, d) with keys (..., d, j) that are both computed.

    Attributes
    ----------
    node : Node
        The MatMul.
    term : Term
        What it contracts: d.
    group : Term
        The channels among the leading axes, such as the heads: each has moments of its own.
    runs : tuple of (int or None)
        The leading axes divided into channels (their size) and others (None), in order.
    axes : tuple of int
        How many runs each leading axis has.
    masks : tuple of two (str or None)
        The padding of the queries and of the keys.
    softmax : bool
        Whether a softmax over the keys follows, which does not see what is the same for every key.
    packed : int
        Heads in the last axis of both, (batch, positions, heads * d); 0 where they have an axis of their own.
    turned : bool
        Whether the keys are (..., j, d).
    bias : array or None
        What the operator itself adds to the queries, keys and values: a vector with the entries of all three.
    """

    node: Node
    term: Term
    group: Term
    runs: tuple[int | None, ...]
    axes: tuple[int, ...]
    masks: tuple[str | None, str | None]
    softmax: bool
    packed: int = 0
    turned: bool = False
    bias: Array | None = None

    @property
    def key(self) -> str:
        """The name of its result."""
        return self.node.outputs[0]

    @property
    def taps(self) -> tuple[str, str]:
        """Queries and keys."""
        return self.node.inputs[0], self.node.inputs[1]

    def units(self, layer: Layer) -> Ints:
        """Unit of a layer that owns each dimension of each group, (groups, d)."""
        # -1 where a dimension is not the layer's.
        inner = coordinates(self.term, layer.id)[None, :]
        if layer.outer_atom is None:  # all groups share it
            return np.tile(inner, (self.group.size, 1))
        outer = coordinates(self.group, layer.outer_atom)[:, None]
        return np.where((inner >= 0) & (outer >= 0), outer * layer.size + inner, -1)

    def kept_groups(self, keeping: Keeping) -> Bools:
        """Which groups stay, (groups,)."""
        return keeping.mask(self.group)

    def measure(self, queries: Array, keys: Array, batch: Batch) -> Moments:
        """Second moments of the shares over one batch: (groups, d, d), the count being that of queries."""
        queries, keys = self._unpacked(queries, keys)
        dims = [size for axis in self._shape(queries.shape[:-2]) for size in axis]
        queries = queries.reshape((*dims, *queries.shape[-2:]))
        keys = keys.reshape((*dims, *keys.shape[-2:])).swapaxes(-1, -2)
        # A batch that was filled up to its fixed size repeats samples, which would count twice.
        if self.runs[:1] == (None,) and dims[0] % batch.fed == 0:
            queries, keys = (array[: dims[0] // batch.fed * batch.count] for array in (queries, keys))
        query_weights, key_weights = (
            self._weights(mask, array, batch) for mask, array in zip(self.masks, (queries, keys), strict=True)
        )
        # 1 where a sample is all padding: its sums are 0, and so is what is divided.
        among_keys = np.maximum(key_weights.sum(axis=-2, keepdims=True), 1)
        # A softmax does not see what all its entries have in common, so the mean over keys is taken off.
        center = (keys * key_weights).sum(axis=-2, keepdims=True) / among_keys if self.softmax else 0
        centered = (keys - center) * key_weights
        spread = (centered.swapaxes(-1, -2) @ centered) / among_keys
        weighted = queries * query_weights
        # The score is a sum over dimensions. E (sum_d q_d k_d)^2 is a quadratic form in which dimension d has the share
        # q_d k_d: the two second moments, entry by entry.
        shares = (weighted.swapaxes(-1, -2) @ weighted).astype(np.float64) * spread
        # Axes of samples are summed over; heads and other groups stay apart.
        others = tuple(axis for axis, size in enumerate(self.runs) if size is None)
        scatter = np.asarray(shares.sum(axis=others)).reshape(-1, *shares.shape[-2:])
        count = round(float(np.broadcast_to(query_weights, (*queries.shape[:-1], 1)).sum()) / scatter.shape[0])
        return Moments(count, np.zeros(scatter.shape[:-1]), scatter)

    def _unpacked(self, queries: Array, keys: Array) -> tuple[Array, Array]:
        """Queries (..., i, d) and keys (..., d, j)."""
        if self.bias is not None:  # that of the keys is the same for every key
            queries = queries + self.bias[: queries.shape[-1]].astype(queries.dtype)
        if self.packed:
            queries, keys = (a.reshape(*a.shape[:2], self.packed, -1).swapaxes(1, 2) for a in (queries, keys))
        return queries, keys.swapaxes(-1, -2) if self.turned else keys

    def _shape(self, leading: Sequence[int]) -> list[list[int]]:
        """Sizes of the runs of each leading axis."""
        sizes_of_axes, start = [], 0
        for size, number in zip(leading, self.axes, strict=True):
            runs = self.runs[start : start + number]
            known = int(np.prod([run for run in runs if run is not None], dtype=np.int64))
            sizes_of_axes.append([size // known if run is None else run for run in runs])
            start += number
        return sizes_of_axes

    def _weights(self, mask: str | None, rows: Array, batch: Batch) -> Array:
        """1 where a position counts and 0 at padding, of a shape that multiplies rows (..., positions, d)."""
        array = None if mask is None else batch.feeds[mask]
        if array is None or array.shape != (batch.fed, rows.shape[-2]) or rows.shape[0] != batch.count:
            return np.ones((*[1] * (rows.ndim - 2), rows.shape[-2], 1), dtype=rows.dtype)
        counts = np.asarray(array[: batch.count] != 0, dtype=rows.dtype)
        return counts.reshape(batch.count, *[1] * (rows.ndim - 3), -1, 1)


def find_score_products(
    graph: Graph, channels: ChannelGraph, masks: dict[str, tuple[int, ...]]
) -> tuple[ScoreProduct, ...]:
    """Return the products of two activations that contract over a layer.

    Parameters
    ----------
    masks : mapping
        Padding masks with the probe's sizes; see `onnxmi.graph.padding_mask.mask_inputs`.
    """
    operands: dict[int, set[int]] = {}
    cuttable = {layer.id for layer in channels.layers}
    for contraction in channels.contractions:
        if any(atom.id in cuttable for atom in atoms(contraction.term)):  # several times where pairs of them are turned
            operands.setdefault(contraction.node, set()).add(contraction.operand)
    # A product of scores has the layer on both operands; with a stored operand it is a linear layer.
    nodes = (graph.nodes[number] for number, positions in sorted(operands.items()) if {0, 1} <= positions)
    products = (_score_product(graph, channels, node, masks) for node in nodes)
    return tuple(product for product in products if product is not None)


def _score_product(
    graph: Graph, channels: ChannelGraph, node: Node, masks: dict[str, tuple[int, ...]]
) -> ScoreProduct | None:
    """None where the operands' leading axes are not the same, or mix channels and others in an unknown way."""
    operands = _query_keys(channels, node)
    if operands is None:
        return None
    queries, keys = operands.queries, operands.keys
    if [term.size for term in queries[:-2]] != [term.size for term in keys[:-2]]:
        return None
    channel_atoms: set[AtomId | None] = {layer.id for layer in channels.layers} | {
        layer.outer_atom for layer in channels.layers
    }
    runs: list[int | None] = []
    groups: list[Term] = []
    axes: list[int] = []
    for term in queries[:-2]:
        factors = term.factors if isinstance(term, Product) else (term,)
        divided = [(channel, list(run)) for channel, run in groupby(factors, lambda f: _is_channel(f, channel_atoms))]
        # Two runs of unknown size in one axis could not be told apart by its size.
        if sum(not channel for channel, _ in divided) > 1:
            return None
        runs += [Product(tuple(run)).size if channel else None for channel, run in divided]
        groups += [factor for channel, run in divided if channel for factor in run]
        axes.append(len(divided))
    return ScoreProduct(
        node=node,
        term=queries[-1],
        group=Product(tuple(groups)),
        runs=tuple(runs),
        axes=tuple(axes),
        masks=(_mask_of(queries, -2, masks), _mask_of(keys, -1, masks)),
        softmax=operands.attends or _feeds_softmax(graph, node, len(queries) - 1),
        packed=operands.packed,
        turned=operands.turned,
        bias=None if operands.bias is None else _stored_vector(graph, node.operand(operands.bias)),
    )


def _query_keys(channels: ChannelGraph, node: Node) -> QueryKeyAxes | None:
    """How queries and keys come; None where that is not known."""
    read = operator_of(node).query_keys
    queries, keys = (channels.axes.get(name) for name in node.inputs[:2])
    return None if read is None or queries is None or keys is None else read(node, queries, keys)


def _stored_vector(graph: Graph, name: str) -> Array | None:
    return graph.constant(name) if name and graph.is_constant(name) else None


def _is_channel(factor: Term, channel_atoms: set[AtomId | None]) -> bool:
    return isinstance(factor, Dim) and factor.id in channel_atoms


def _mask_of(axes: tuple[Term, ...], axis: int, masks: dict[str, tuple[int, ...]]) -> str | None:
    """The padding mask (samples, positions) of one axis, by the probe's sizes."""
    first = sizes(axes[:1])[:1]
    return next((name for name, shape in masks.items() if shape == (*first, *sizes(axes[axis:][:1]))), None)


def _feeds_softmax(graph: Graph, node: Node, last: int) -> bool:
    """Whether a softmax over the last axis is all that reads the result, by elementwise operators."""
    readers = graph.consumers.get(node.outputs[0], ())
    if len(readers) != 1:
        return False
    reader = readers[0][0]
    if (reader.domain, reader.op) == ("", "Softmax"):
        return softmax_axes(reader, last + 1, graph.opset) == (last,)
    return operator_of(reader).broadcasts_constants(reader) and _feeds_softmax(graph, reader, last)
