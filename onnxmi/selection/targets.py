"""What consumes a layer, and what of it is kept so far: the targets that the layer's units are scored against.

- A linear operator makes kept neurons' pre-activations from the layer: they are the target. Operators that read the
  same source make one target together.
- A product of queries with keys makes attention scores: each head's score is the target of its dimensions.
- Right below the outputs, where the samples have labels, the best linear prediction of the label may be the target.

A layer with several targets is worth what it tells each of them, summed. A residual stream is one layer with many:
every block on it, so it comes last and is scored against everything that is kept above it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from onnxmi.axes.keeping import Keeping
from onnxmi.axes.terms import atoms
from onnxmi.graph.channel_graph import Layer
from onnxmi.graph.linear import Linear, weights_of
from onnxmi.model import Model
from onnxmi.statistics.attention_scores import ScoreProduct, find_score_products
from onnxmi.statistics.shared_inputs import LinearInput, find_linear_inputs
from onnxmi.statistics.statistics import Statistics
from onnxmi.transforms.analysis import Analysis
from onnxmi.typing import Bools, Floats, Ints


@dataclass(frozen=True, eq=False)
class Target:
    """What consumes a layer, restricted to what is kept so far: one group of a source, or one head's scores.

    Attributes
    ----------
    covariance : (K, K) of its input features; mean : (K,).
    weights : (K, M), the columns of the kept neurons above.
    units : (K,) the layer's unit that owns each feature, -1 for other layers' features.
    measured : (K, M) what the score had measured beside the moments, where it did.
    sensitivity_weighted : (K, R) weights of ``Y L``: an error e of Y moves the outputs by ``|e L|``; None where that
        is not known.
    """

    covariance: Floats
    mean: Floats
    weights: Floats
    units: Ints
    measured: Floats | None = None
    sensitivity_weighted: Floats | None = None


@dataclass(frozen=True)
class Targets:
    """Finds the targets of any layer.

    Attributes
    ----------
    labels : bool
        Whether labels are the target right below the outputs, where they were measured.
    """

    model: Model
    sources: tuple[LinearInput, ...]
    products: tuple[ScoreProduct, ...]
    statistics: Statistics
    labels: bool

    @staticmethod
    def of(analysis: Analysis, statistics: Statistics, *, labels: bool) -> Targets:
        """Look for them in a model."""
        measured = [linear for linear in analysis.linears if statistics.saw(linear.key)]
        candidates = find_score_products(analysis.model.graph, analysis.graph, {})
        products = [product for product in candidates if product.key in statistics.scores]
        return Targets(analysis.model, find_linear_inputs(measured, {}), tuple(products), statistics, labels)

    def __call__(self, layer: Layer, keeping: Keeping) -> tuple[Target, ...]:
        """Return what consumes a layer; nothing where no consumer of it could be measured."""
        linear = (self._readers(source, layer, keeping) for source in self.sources)
        scores = (self._scores(product, layer, keeping) for product in self.products)
        return tuple(target for of_input in (*linear, *scores) for target in of_input)

    def measured(self, layer: Layer) -> bool:
        """Whether anything that consumes a layer was measured; no moments are looked at."""
        readers = (linear for source in self.sources for linear in source.linears)
        return any(consumes(linear, layer) for linear in readers) or any(_scores_of(p, layer) for p in self.products)

    def _readers(self, source: LinearInput, layer: Layer, keeping: Keeping) -> Iterator[Target]:
        """Targets behind one source: one for each group of channels."""
        readers = [linear for linear in source.linears if consumes(linear, layer)]
        if not readers:
            return
        moments = self.statistics.sources[source.key]
        stored = [weights_of(self.model, reader) for reader in readers]
        tables = [self.statistics.measured.get(reader.key) for reader in readers]
        classes = self.statistics.classes.get(source.key) if self.labels else None
        for group in range(readers[0].groups):
            rows = np.flatnonzero(readers[0].kept_features(keeping)[group])
            units = unit_of_features(readers[0], layer)[group][rows]
            columns = [reader.kept_outputs(keeping)[group] for reader in readers]
            weights = np.concatenate([w[group][rows][:, c] for w, c in zip(stored, columns, strict=True)], axis=1)
            if not weights.size or (units < 0).all():
                continue
            own = moments.group(group).take(rows)
            if classes is not None:
                weights = classes.weights(moments, (group,))[rows]
            measured = [t[group][rows][:, c] for t, c in zip(tables, columns, strict=True) if t is not None]
            table = np.concatenate(measured, axis=1) if measured and classes is None else None
            sensitivity_weighted = (
                None if classes is not None else self._sensitivity_weighted(readers, stored, group, rows, columns)
            )
            yield Target(own.covariance, own.mean, weights, units, table, sensitivity_weighted)

    def _sensitivity_weighted(
        self, readers: Sequence[Linear], stored: Sequence[Floats], group: int, rows: Ints, columns: Sequence[Bools]
    ) -> Floats | None:
        sensitivities = [self.statistics.sensitivities.get(reader.key) for reader in readers]
        known = [
            weights[group][rows][:, kept] @ sensitivity.root(group, np.flatnonzero(kept))
            for sensitivity, weights, kept in zip(sensitivities, stored, columns, strict=True)
            if sensitivity is not None
        ]
        return np.concatenate(known, axis=1) if len(known) == len(readers) else None

    def _scores(self, product: ScoreProduct, layer: Layer, keeping: Keeping) -> Iterator[Target]:
        """Targets behind one product of queries and keys: one for each kept head."""
        if not _scores_of(product, layer):
            return
        moments = self.statistics.scores[product.key]
        units = product.units(layer)
        for group in np.flatnonzero(product.kept_groups(keeping)).tolist():
            own = moments.group(group)
            yield Target(own.covariance, own.mean, np.ones((own.features, 1)), units[group])


def consumes(linear: Linear, layer: Layer) -> bool:
    """Whether a linear operator contracts over a layer."""
    return any(atom.id == layer.id for atom in atoms(linear.channels)) and any(
        node.index in layer.users for node in linear.nodes
    )


def _scores_of(product: ScoreProduct, layer: Layer) -> bool:
    """Whether a product of queries and keys contracts over a layer."""
    return product.node.index in layer.users and any(atom.id == layer.id for atom in atoms(product.term))


def unit_of_features(linear: Linear, layer: Layer) -> Ints:
    """Unit of a layer that owns each input feature of a linear operator, (groups, K); -1 for other layers' features.

    The units of a ragged layer are numbered part by part.
    """
    inner = linear.feature_units(layer.id)
    if layer.outer_atom is None:
        return inner
    outer = linear.feature_units(layer.outer_atom)
    return np.where(inner >= 0, outer * layer.size + inner, -1)
