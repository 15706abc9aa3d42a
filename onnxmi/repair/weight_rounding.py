"""Weights that onnxruntime's quantizer rounds as the inputs' moments want it: they lie on its grid already.

The quantizer takes the largest weight of those that share a step, and rounds each to the nearest number of steps.
Weights that are whole numbers of the same steps come out as they went in. So what they are rounded to is decided here,
in the metric of the moments of what each operator reads in the float model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from onnxmi.errors import stage
from onnxmi.information import MomentAccumulator, Moments
from onnxmi.information.rounding import Grid, round_in_metric
from onnxmi.model import Graph, Node
from onnxmi.model.taps import with_taps
from onnxmi.operators.layout import MatrixLayout, OperatorShape
from onnxmi.operators.registry import operator_of
from onnxmi.quantization.quantize import PreparedModel
from onnxmi.quantization.recipe import Recipe
from onnxmi.runtime.session import Feeds, open_session
from onnxmi.typing import Array, Ints

ROWS = 64  # positions of a sample that are measured
MEMORY = 2**30  # bytes of the sums of one pass over the samples
FOUR_BITS = Grid(-8, 7, block=32)
REDUCED, FULL = Grid(-64, 64), Grid(-127, 127)

FeedsMaker = Callable[[], Iterable[Feeds]]
"""Gives the same batches each time."""


@dataclass(frozen=True)
class _Product:
    """An operator that multiplies what it reads by a stored weight."""

    node: Node
    layout: MatrixLayout
    shape: OperatorShape
    bytes: int  # of the second moments of its inputs

    @property
    def weight(self) -> str:
        """Name of the stored weight."""
        return self.node.inputs[self.layout.weight]

    @property
    def key(self) -> tuple[object, ...]:
        """What it reads: the same for products of the same rows, as of queries, keys and values."""
        layout = self.layout
        return (layout.tap(self.node), type(layout), repr(layout.reading(self.node)), self.shape.kernel)


_Sharing = list[tuple[_Product, Grid]]
"""Products that read the same, with the grids of their weights."""


class WeightRounder:
    """The weights of one float model, rounded by the moments of what they multiply."""

    def __init__(self, prepared: PreparedModel, feeds: FeedsMaker, threads: int = 0) -> None:
        """Take a model and the batches that moments are measured on; `threads` as for onnxruntime."""
        self._prepared, self._feeds, self._threads = prepared, feeds, threads
        self._rounded: dict[tuple[str, Grid], Array] = {}  # recipes that are compared share most of them

    @stage("round weights")
    def rounded(self, recipe: Recipe) -> PreparedModel:
        """Return the model with weights that a recipe rounds as it is best for the products; the rest as it was."""
        found = ((product, _grid(recipe, product.node.name)) for product in self._products)
        chosen = [(product, grid) for product, grid in found if grid is not None]
        waiting = [pair for pair in chosen if (pair[0].weight, pair[1]) not in self._rounded]
        for sharing in _passes(waiting):
            self._round(sharing)
        return self._prepared.with_weights({one.weight: self._rounded[one.weight, grid] for one, grid in chosen})

    @cached_property
    def _products(self) -> tuple[_Product, ...]:
        graph, names = self._prepared.graph, {one.name for one in self._prepared.quantizable("static")}
        products = (_product(graph, node) for node in graph.main if node.name in names)
        return tuple(product for product in products if product is not None and product.bytes <= MEMORY)

    def _round(self, sharing: Sequence[_Sharing]) -> None:
        """Round the weights of some products by one pass over the samples."""
        graph = self._prepared.graph
        for pairs, moments in zip(sharing, self._measured([pairs[0][0] for pairs in sharing]), strict=True):
            for product, grid in pairs:
                value = graph.constant(product.weight)  # as it is where no sample reaches it
                if moments.count:
                    value = _round_stored(product, value, moments, grid)
                self._rounded[product.weight, grid] = value

    def _measured(self, products: Sequence[_Product]) -> Iterator[Moments]:
        """Run the samples once, and yield the moments of what each product reads."""
        names = list(dict.fromkeys(product.layout.tap(product.node) for product in products))
        proto, taps = with_taps(self._prepared.proto, names)
        session, outputs = open_session(proto, threads=self._threads), {tap.name: tap.output for tap in taps}
        sums = [MomentAccumulator() for _ in products]
        for number, feeds in enumerate(self._feeds()):
            results = session.run(feeds)
            samples = next((len(array) for array in feeds.values() if np.ndim(array)), 1)
            for product, total in zip(products, sums, strict=True):
                activation = results[outputs[product.layout.tap(product.node)]]
                count = product.layout.count(product.shape, activation)
                places = _drawn(count, ROWS * samples, (product.node.index, number))
                rows = product.layout.feature_rows(product.shape, activation, places)
                total.update(rows[:, np.isfinite(rows).all(axis=(0, 2))])
        yield from (total.moments() for total in sums)


def _product(graph: Graph, node: Node) -> _Product | None:
    """Return how an operator looks as a product; None where the quantizer's steps do not lie along its results.

    A weight that is read elsewhere, too, would be rounded for one of its readers alone.
    """
    for layout in operator_of(node).layouts:
        name = node.operand(layout.weight)
        if not name or not graph.is_constant(name) or graph.only_reader(name) is None:
            continue
        sizes = graph.constant_shape(name)
        kernel = layout.kernel(sizes)
        if not layout.accepts(node, len(sizes)) or len(sizes) != 2 + len(kernel) or layout.why_not_requantized(node):
            continue
        groups = int(node.attributes.get("group", 1)) if kernel else 1
        shape = OperatorShape(node, groups, kernel, layout.weight)
        features = layout.to_matrix(shape, np.empty(sizes, np.bool_)).shape[1]
        return _Product(node, layout, shape, 8 * groups * features**2)
    return None


def _passes(pairs: Iterable[tuple[_Product, Grid]]) -> Iterator[list[_Sharing]]:
    """Divide products into those that are measured in one pass; those that read the same are together."""
    sharing: dict[tuple[object, ...], _Sharing] = {}
    for product, grid in pairs:
        sharing.setdefault(product.key, []).append((product, grid))
    waiting: list[_Sharing] = []
    taken = 0
    for same in sharing.values():
        if waiting and taken + same[0][0].bytes > MEMORY:
            yield waiting
            waiting, taken = [], 0
        waiting.append(same)
        taken += same[0][0].bytes
    if waiting:
        yield waiting


def _drawn(count: int, most: int, seed: tuple[int, int]) -> Ints:
    """Draw at most so many of the rows, in their order."""
    if count <= most:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).choice(count, most, replace=False))


def _grid(recipe: Recipe, name: str) -> Grid | None:
    """Return the grid of an operator's weights; None where they stay float, or where all of a tensor share a step."""
    if name in recipe.four_bit:
        return FOUR_BITS
    if name not in recipe.int8 or not recipe.per_channel:
        return None
    return REDUCED if recipe.reduced_range else FULL


def _round_stored(product: _Product, stored: Array, moments: Moments, grid: Grid) -> Array:
    """Return a weight as it is to be handed to the quantizer."""
    matrix = product.layout.to_matrix(product.shape, stored).astype(np.float64)
    # The second moments about zero: what rounding moves the mean of the products by counts, too.
    seconds = moments.scatter / moments.count + moments.mean[..., :, None] * moments.mean[..., None, :]
    rounded = np.stack([round_in_metric(*group, grid) for group in zip(matrix, seconds, strict=True)])
    return product.layout.to_weights(product.shape, rounded, stored.shape).astype(stored.dtype)
