"""Selection: go through the layers from the output down and choose the units of each that stay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial, reduce

import numpy as np

from onnxmi.axes.keeping import Keeping, Kept
from onnxmi.axes.terms import AtomId, Axes, atoms, coordinates
from onnxmi.errors import stage
from onnxmi.execution.steps import counted
from onnxmi.graph.channel_graph import Layer, LayerId
from onnxmi.graph.plan import Choice
from onnxmi.information import Selection
from onnxmi.selection.scorer import Candidates
from onnxmi.selection.scores import SCORERS
from onnxmi.selection.targets import Targets
from onnxmi.statistics.statistics import Statistics
from onnxmi.transforms.analysis import Analysis
from onnxmi.typing import Floats, Ints, Progress, silent

TARGETS = ("outputs", "labels")


@dataclass(frozen=True)
class SelectOptions:
    """How to choose.

    Attributes
    ----------
    score, estimator : str
        A key of `onnxmi.selection.scores.SCORERS`.
    seed : int
        For the random baseline.
    target : str
        What layers right below the outputs are scored against: "outputs" or, if they were measured, "labels".
    sensitivity : bool
        Whether neurons are weighted by the output sensitivity, where that was measured.
    """

    score: str = "joint"
    estimator: str = "gaussian"
    seed: int = 0
    target: str = "outputs"
    sensitivity: bool = True


def top_down(layers: Sequence[Layer]) -> list[Layer]:
    """Order layers from the output down: a layer comes after every layer it feeds.

    A residual stream is consumed by every block on it, so its place is that of its lowest consumer.
    """
    return sorted(layers, key=lambda layer: (min(layer.users), layer.id), reverse=True)


def select_channels(
    analysis: Analysis,
    statistics: Statistics,
    counts: Mapping[LayerId, int],
    options: SelectOptions,
    progress: Progress = silent,
) -> tuple[Choice, ...]:
    """Choose what stays of each layer, top-down: the neurons kept above are what those below are scored against.

    Parameters
    ----------
    counts : mapping
        Layer id -> units to keep (of each part); a layer that is absent stays whole.

    Returns
    -------
    tuple of Choice
        For the layers that lose something, in graph order. A layer with no measured target is chosen by the norms
        of its weights; see `unscored`.
    """
    selector = _Selector.of(analysis, statistics, options)
    layers = [layer for layer in analysis.graph.layers if layer.id in counts]
    keeping = Keeping()
    choices: dict[LayerId, Choice] = {}
    for layer in counted(top_down(layers), "select", progress):
        quota = counts[layer.id]
        if quota < layer.size:
            selection = selector(layer, quota, keeping)
            kept = _kept(layer, selection)
            choices[layer.id] = Choice(layer.name, layer.kind, layer.size, kept, selection.gains)
            keeping = keeping.also(layer.id, layer.keep(kept))
    return tuple(choices[layer.id] for layer in layers if layer.id in choices)


@dataclass(frozen=True, eq=False)
class _Selector:
    """Chooses units of one layer, given what is kept above it."""

    analysis: Analysis
    targets: Targets
    options: SelectOptions

    @staticmethod
    def of(analysis: Analysis, statistics: Statistics, options: SelectOptions) -> _Selector:
        if not options.sensitivity:
            statistics = replace(statistics, sensitivities={})
        targets = Targets.of(analysis, statistics, labels=options.target == "labels")
        return _Selector(analysis, targets, options)

    def __call__(self, layer: Layer, quota: int, keeping: Keeping) -> Selection:
        if quota == 0:
            return Selection.of([], [])
        scorer = SCORERS[self.options.score, self.options.estimator]
        data_free = not scorer.needs_statistics
        candidates = Candidates(
            layer=layer,
            targets=() if data_free else self.targets(layer, keeping),
            keep=quota * layer.parts,
            quota=quota,
            parts=np.repeat(np.arange(layer.parts), layer.size) if layer.outer_atom is not None else None,
            norms=partial(unit_norms, self.analysis, layer),
            seed=self.options.seed,
        )
        if not (data_free or candidates.targets):
            return candidates.best(candidates.norms())
        return scorer.select(candidates)


@stage("select")
def rank_channels(
    analysis: Analysis,
    statistics: Statistics,
    layers: Sequence[Layer],
    options: SelectOptions,
    progress: Progress = silent,
) -> dict[LayerId, Ranking]:
    """Rank all units of each layer by what they tell about everything above it, best first.

    Returns
    -------
    dict
        Layer id -> its ranking.
    """
    selector = _Selector.of(analysis, statistics, options)
    rankings: dict[LayerId, Ranking] = {}
    for layer in counted(layers, "rank", progress):
        rankings[layer.id] = Ranking(layer, selector(layer, layer.size, Keeping()))
    return rankings


@dataclass(frozen=True, eq=False)
class Ranking:
    """The units of one layer in the order of their worth.

    Attributes
    ----------
    layer : Layer
        The layer.
    selection : Selection
        Of all its units.
    """

    layer: Layer
    selection: Selection

    def kept(self, count: int) -> Kept:
        """Keep the best `count` units (of each part)."""
        if self.layer.outer_atom is None:
            return Kept(np.sort(self.selection.order[:count]))
        part, unit = np.divmod(self.selection.order, self.layer.size)
        best = [np.sort(unit[part == number][:count]) for number in range(self.layer.parts)]
        return Kept(np.stack(best), self.layer.outer_atom) if count else Kept(np.zeros(0, dtype=np.int64))

    def keeping(self, count: int) -> Keeping:
        """Cut this layer alone to its best `count` units (of each part)."""
        return Keeping({self.layer.id: self.kept(count)})


def unscored(analysis: Analysis, statistics: Statistics, layers: Sequence[Layer]) -> tuple[Layer, ...]:
    """Layers that nothing consumes that could be measured: their units are chosen by the norms of their weights."""
    targets = Targets.of(analysis, statistics, labels=False)
    return tuple(layer for layer in layers if not targets.measured(layer))


def _kept(layer: Layer, selection: Selection) -> Ints:
    if layer.outer_atom is None or not selection.kept.size:
        return selection.kept
    return (selection.kept % layer.size).reshape(layer.parts, -1)


def unit_norms(analysis: Analysis, layer: Layer) -> Floats:
    """Euclidean norm of all stored matrices' entries that hang on each unit, (units,); a group norm as in DepGraph."""
    model, graph = analysis.model, analysis.graph
    squares = np.zeros(layer.units)
    for name in model.graph.constants:
        axes = graph.axes.get(name, ())
        carried = any(atom.id == layer.id for term in axes for atom in atoms(term))
        if not carried or len(axes) < 2 or model.graph.constant(name).dtype.kind in "iub":
            continue
        energy = np.square(model.graph.constant(name).astype(np.float64))
        for axis, term in enumerate(axes):
            inner = coordinates(term, layer.id)
            if (inner >= 0).any():
                squares += _energy_of_units(energy, axes, axis, layer)
    return np.sqrt(squares)


def _energy_of_units(energy: Floats, axes: Axes, axis: int, layer: Layer) -> Floats:
    """Sum of squares per unit along one axis; the outer atom of a ragged layer may lie on another axis."""
    inner = _along(axes, axis, layer.id)
    if layer.outer_atom is None:
        owners = np.broadcast_to(inner, energy.shape)
    else:
        outer = reduce(np.maximum, [_along(axes, i, layer.outer_atom) for i in range(len(axes))])
        owners = np.broadcast_to(np.where((inner >= 0) & (outer >= 0), outer * layer.size + inner, -1), energy.shape)
    valid = owners >= 0
    return np.bincount(owners[valid], weights=energy[valid], minlength=layer.units).astype(np.float64)


def _along(axes: Axes, axis: int, atom: AtomId) -> Ints:
    shape = [1] * len(axes)
    shape[axis] = -1
    return coordinates(axes[axis], atom).reshape(shape)
